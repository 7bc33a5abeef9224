//! How bytes get into place: reflink ▸ hardlink ▸ copy, decided once per raw store and destination.
//!
//! A hardlink shares the inode with the raw store: it is only ever made when asked for, never in a shared holotree, and
//! only of files that are the same in every space. Reflinks isolate as copies do. What is tried is tried by itself: a
//! probe never falls back to the next rung, the state does, and tells it once.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::observe::Observer;
use crate::sys::clone;

/// What the user wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Reflinks where they work, else copies.
    #[default]
    Auto,
    /// Reflinks; told where they do not work.
    Reflink,
    /// Hardlinks into the raw store for files that allow it.
    Hardlink,
    /// Copies.
    Copy,
}

/// One way of placing bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// Share the blocks.
    Reflink,
    /// Share the inode.
    Hardlink,
    /// Share nothing.
    Copy,
}

impl Tier {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Reflink => "reflink",
            Tier::Hardlink => "hardlink",
            Tier::Copy => "copy",
        }
    }
}

/// The tier in use; it only ever goes down.
pub struct Ladder<'a> {
    now: AtomicU8,
    observer: &'a dyn Observer,
}

/// Between which directories bytes are placed, and what is allowed there.
pub struct Pair<'a> {
    /// The raw store's directory, if there is one.
    pub raw_dir: Option<&'a Path>,
    /// The directory of the space.
    pub base: &'a Path,
    /// Others use this holotree too.
    pub is_shared: bool,
}

impl<'a> Ladder<'a> {
    /// Chooses the first tier for `strategy`, by trying it once with a file of our own.
    pub fn choose(strategy: Strategy, pair: &Pair<'_>, observer: &'a dyn Observer) -> Ladder<'a> {
        let ladder = |tier: Tier| Ladder { now: AtomicU8::new(tier as u8), observer };
        let probed = match strategy {
            Strategy::Copy => return ladder(Tier::Copy),
            Strategy::Hardlink if pair.is_shared => {
                Err(io::Error::other("The holotree is shared with others"))
            }
            Strategy::Hardlink => pair.probe(|from, to| std::fs::hard_link(from.path(), to)),
            Strategy::Auto | Strategy::Reflink => pair.probe(|from, to| {
                let file = File::create_new(to)?;
                clone::reflink(from.as_file(), &file)
            }),
        };
        match (probed, strategy) {
            (Ok(()), Strategy::Hardlink) => ladder(Tier::Hardlink),
            (Ok(()), _) => ladder(Tier::Reflink),
            (Err(reason), Strategy::Hardlink) => ladder(Tier::Hardlink).fell(Tier::Hardlink, &reason),
            (Err(reason), _) => ladder(Tier::Reflink).fell(Tier::Reflink, &reason),
        }
    }

    /// The tier to try.
    pub fn now(&self) -> Tier {
        match self.now.load(Ordering::Relaxed) {
            0 => Tier::Reflink,
            1 => Tier::Hardlink,
            _ => Tier::Copy,
        }
    }

    /// `tier` does not work here after all: copies from now on, told once.
    pub fn demote(&self, tier: Tier, reason: &io::Error) {
        let (from, to) = (tier as u8, Tier::Copy as u8);
        if self.now.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.observer.fallback(tier.name(), &format!("{reason}; files are copied"));
        }
    }

    fn fell(self, tier: Tier, reason: &io::Error) -> Ladder<'a> {
        self.demote(tier, reason);
        self
    }
}

impl Pair<'_> {
    /// Tries `place` with a new file in the raw store's directory and a free name in the destination.
    fn probe(&self, place: impl FnOnce(&tempfile::NamedTempFile, &Path) -> io::Result<()>) -> io::Result<()> {
        let raw_dir = self.raw_dir.ok_or_else(|| io::Error::other("There is no raw store to share with"))?;
        let mut from = tempfile::Builder::new().prefix(".probe-").tempfile_in(raw_dir)?;
        io::Write::write_all(&mut from, &[0; 4096])?;
        // A name that is certainly free, and that RCC takes for nothing of its own.
        let scratch = tempfile::Builder::new().prefix(".holofs-probe-").tempdir_in(self.base)?;
        place(&from, &scratch.path().join("probe"))
    }
}
