//! How files get their content: snapshot ▸ reflink ▸ hardlink ▸ copy, one state per source and destination.
//!
//! A hardlink shares the inode with the raw store: it is only used on request, never in a shared holotree, and only for files that are
//! the same in every space. Snapshots and reflinks isolate as well as copies do. Each method is probed by itself: a probe never falls
//! back to the next method; the state does, and reports it once.

use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::store::observe::Observer;
use crate::sys::fs::clone;
use crate::sys::fs::owned_file::Temp;
use crate::sys::fs::place::Place;

/// The strategy that the user requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// A snapshot or reflinks if they work, else copies.
    #[default]
    Auto,
    /// A snapshot of a pristine subvolume; a fallback is reported.
    Snapshot,
    /// Reflinks; a fallback is reported.
    Reflink,
    /// Hardlinks into the raw store for files that allow it.
    Hardlink,
    /// Copies.
    Copy,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Strategy; 5] =
        [Strategy::Auto, Strategy::Snapshot, Strategy::Reflink, Strategy::Hardlink, Strategy::Copy];

    /// Its name, on the command line and in settings.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Auto => "auto",
            Strategy::Snapshot => "snapshot",
            Strategy::Reflink => "reflink",
            Strategy::Hardlink => "hardlink",
            Strategy::Copy => "copy",
        }
    }
}

/// The text is not a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a strategy; use auto, snapshot, reflink, hardlink or copy")]
pub struct UnknownStrategy(pub String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Strategy, UnknownStrategy> {
        let known = Strategy::ALL.into_iter().find(|strategy| strategy.name() == text);
        known.ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
}

/// One method of placing content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// Shares the whole tree's blocks.
    Snapshot,
    /// Shares the blocks.
    Reflink,
    /// Shares the inode.
    Hardlink,
    /// Shares nothing.
    Copy,
}

impl Tier {
    const ALL: [Tier; 4] = [Tier::Snapshot, Tier::Reflink, Tier::Hardlink, Tier::Copy];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Snapshot => "snapshot",
            Tier::Reflink => "reflink",
            Tier::Hardlink => "hardlink",
            Tier::Copy => "copy",
        }
    }

    /// The fallback if this tier does not work, and its description.
    fn below(self) -> (Tier, &'static str) {
        match self {
            // Where there are subvolumes there are reflinks.
            Tier::Snapshot => (Tier::Reflink, "files are reflinked one by one"),
            Tier::Reflink | Tier::Hardlink | Tier::Copy => (Tier::Copy, "files are copied"),
        }
    }
}

/// The current tier, which only ever goes down.
pub struct FallbackChain<'a> {
    now: AtomicU8,
    observer: &'a dyn Observer,
}

/// The source and destination directories, and what is allowed there.
pub struct Pair<'a> {
    /// The raw store's directory, if there is one.
    pub raw_dir: Option<&'a Place>,
    /// The directory of the space.
    pub base: &'a Path,
    /// Other users use this holotree too.
    pub is_shared: bool,
    /// Why snapshots of a pristine tree are not possible here.
    pub no_snapshot: Option<&'static str>,
}

impl<'a> FallbackChain<'a> {
    /// A chain that starts at `tier`, without a probe.
    pub fn at(tier: Tier, observer: &'a dyn Observer) -> FallbackChain<'a> {
        FallbackChain { now: AtomicU8::new(tier as u8), observer }
    }

    /// Chooses the first tier for `strategy`, by probing it once with a temporary file.
    pub fn choose(strategy: Strategy, pair: &Pair<'_>, observer: &'a dyn Observer) -> FallbackChain<'a> {
        let (tier, probed) = match (strategy, pair.no_snapshot) {
            (Strategy::Copy, _) => return FallbackChain::at(Tier::Copy, observer),
            // The snapshot itself is the probe.
            (Strategy::Auto | Strategy::Snapshot, None) => {
                return FallbackChain::at(Tier::Snapshot, observer);
            }
            (Strategy::Hardlink, _) if pair.is_shared => {
                (Tier::Hardlink, Err(io::Error::other("The holotree is shared with others")))
            }
            (Strategy::Hardlink, _) => (Tier::Hardlink, pair.probe(|from, to| from.link_at(to))),
            (Strategy::Snapshot, Some(reason)) => {
                observer.fallback(Tier::Snapshot.name(), &format!("{reason}; files are placed one by one"));
                (Tier::Reflink, pair.probe_reflink())
            }
            (Strategy::Auto | Strategy::Reflink, _) => (Tier::Reflink, pair.probe_reflink()),
        };
        let chain = FallbackChain::at(tier, observer);
        if let Err(reason) = probed {
            chain.demote(tier, &reason);
        }
        chain
    }

    /// The tier to try.
    pub fn now(&self) -> Tier {
        let now = self.now.load(Ordering::Relaxed);
        Tier::ALL.into_iter().find(|&tier| tier as u8 == now).unwrap_or(Tier::Copy)
    }

    /// `tier` does not work here after all: uses the next one from now on, and reports that once.
    pub fn demote(&self, tier: Tier, reason: &io::Error) {
        let (below, consequence) = tier.below();
        let (from, to) = (tier as u8, below as u8);
        if self.now.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.observer.fallback(tier.name(), &format!("{reason}; {consequence}"));
        }
    }
}

impl Pair<'_> {
    fn probe_reflink(&self) -> io::Result<()> {
        self.probe(|from, to| clone::reflink(&from.file, &File::create_new(to)?))
    }

    /// Tries `place` with a new file in the raw store's directory and a free name in the destination.
    fn probe(&self, place: impl FnOnce(&Temp<'_>, &Path) -> io::Result<()>) -> io::Result<()> {
        let raw_dir = self.raw_dir.ok_or_else(|| io::Error::other("There is no raw store to share with"))?;
        let raw_dir = raw_dir.open()?;
        let from = raw_dir.create_temp(".probe-")?;
        io::Write::write_all(&mut &from.file, &[0; 4096])?;
        // A name that is certainly free, and that RCC does not use.
        let scratch = crate::sys::fs::dir::private_temp(".holofs-probe-", self.base)?;
        place(&from, &scratch.path().join("probe"))
    }
}
