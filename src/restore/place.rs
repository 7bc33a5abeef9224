//! Places one file or link: bytes by the current tier, then the label, the mode, the time.
//!
//! A file gets its final name only when it is complete: in a tree that is being built because the whole tree has another
//! name still, in a space that exists by a rename. Nothing is synced: after a power cut the next run repairs.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Content;
use super::plan::Rules;
use super::report::{Errors, FileErrorKind};
use super::tier::{Ladder, Tier};
use crate::digest::Digest;
use crate::name::{Name, OwnedName};
use crate::observe::{Counter, Observer};
use crate::relocate::{RelocateError, Relocation};
use crate::store::{MOTHER_TIME, RawFile, StoreError, Wanted};
use crate::sys::at::{self, TreeDir};
use crate::tree::{FileNode, Ino, Node, NodeKind};

/// Bytes copied at once.
const COPY_CHUNK: usize = 256 << 10;

/// Places files and links of one space.
pub(super) struct Placer<'a> {
    pub rules: &'a Rules<'a>,
    pub content: &'a dyn Content,
    pub relocation: Relocation<'a>,
    pub ladder: Ladder<'a>,
    pub errors: &'a Errors<'a>,
    pub observer: &'a dyn Observer,
    /// The umask; `None` if it is not known.
    pub umask: Option<u16>,
    /// Names of entries in the making.
    pub names: TempNames,
}

/// Names for entries that are not complete, which no catalog can have chosen in advance.
pub(super) struct TempNames {
    run: u64,
    next: AtomicU64,
}

impl TempNames {
    pub fn new() -> TempNames {
        use std::hash::{BuildHasher, Hasher};
        let run = std::hash::RandomState::new().build_hasher().finish();
        TempNames { run, next: AtomicU64::new(0) }
    }

    pub fn next(&self) -> io::Result<OwnedName> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!(".holofs-part-{:016x}-{number}", self.run);
        OwnedName::new(name.as_bytes()).map_err(io::Error::other)
    }
}

/// Why one entry was not placed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Relocate(#[from] RelocateError),
    #[error("{doing} failed: {source}")]
    Io { doing: &'static str, source: io::Error },
}

impl PlaceError {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> PlaceError {
        move |source| PlaceError::Io { doing, source }
    }

    fn kind(&self) -> FileErrorKind {
        match self {
            PlaceError::Store(error) if error.is_damage() => FileErrorKind::Blob,
            PlaceError::Relocate(RelocateError::Read { .. }) => FileErrorKind::Io,
            PlaceError::Relocate(_) => FileErrorKind::Catalog,
            PlaceError::Store(_) | PlaceError::Io { .. } => FileErrorKind::Io,
        }
    }

    fn is_hopeless(&self) -> bool {
        match self {
            PlaceError::Store(StoreError::Sink { source, .. }) | PlaceError::Io { source, .. } => {
                at::is_hopeless(source)
            }
            _ => false,
        }
    }
}

impl Placer<'_> {
    /// Places `ino` under its own name in a directory that nobody else sees yet.
    pub fn place_new(&self, dir: &TreeDir, ino: Ino) {
        self.attempt(ino, |node, name| self.make(dir, name, node).map(drop));
    }

    /// Places `ino` in a directory of a live space, replacing what is there at once.
    pub fn replace(&self, dir: &TreeDir, ino: Ino) {
        self.attempt(ino, |node, name| {
            let part = self.names.next().map_err(PlaceError::io("Naming"))?;
            let tier = self.make(dir, part.as_name(), node)?;
            let renamed = dir.rename(part.as_name(), name).map_err(PlaceError::io("Renaming into place"));
            // Two names of one inode: rename does nothing then, and leaves both.
            if renamed.is_err() || tier == Some(Tier::Hardlink) {
                self.discard(dir, part.as_name());
            }
            renamed
        });
    }

    /// Reports an error of `ino`; one that all others will meet too ends the work.
    pub fn report(&self, ino: Ino, error: &PlaceError) {
        if error.is_hopeless() {
            self.errors.stop();
        }
        self.errors.push(ino, error.kind(), error.to_string());
    }

    /// As [`Placer::report`], for what the operating system said about `doing` something.
    pub fn report_io(&self, ino: Ino, doing: &'static str, source: io::Error) {
        self.report(ino, &PlaceError::Io { doing, source });
    }

    fn attempt(&self, ino: Ino, place: impl FnOnce(&Node<'_>, Name<'_>) -> Result<(), PlaceError>) {
        if self.errors.is_stopped() {
            return;
        }
        let Some(node) = self.rules.index.node(ino) else { return };
        let named = Name::new(node.name).map_err(io::Error::other).map_err(PlaceError::io("Naming"));
        if let Err(error) = named.and_then(|name| place(&node, name)) {
            self.report(ino, &error);
        }
        self.observer.advance(1);
    }

    /// Makes a file or link complete at `name`, at which nothing stands; or leaves nothing there.
    fn make(&self, dir: &TreeDir, name: Name<'_>, node: &Node<'_>) -> Result<Option<Tier>, PlaceError> {
        match node.kind {
            NodeKind::Link { target } => {
                dir.symlink(name, target).map_err(PlaceError::io("Making the link"))?;
                self.observer.count(Counter::Links, 1);
                Ok(None)
            }
            NodeKind::File(file) => self.make_file(dir, name, node, &file).map(Some),
            NodeKind::Dir { .. } => Ok(None),
        }
    }

    fn make_file(
        &self,
        dir: &TreeDir,
        name: Name<'_>,
        node: &Node<'_>,
        file: &FileNode<'_>,
    ) -> Result<Tier, PlaceError> {
        let wanted = Wanted { digest: file.digest, size: file.size, mode: node.mode };
        let mode = self.rules.mode_of(node);
        let linkable = file.rewrite.is_empty() && file.size > 0 && wanted.key().mode.bits() == node.mode;
        if linkable && self.ladder.now() == Tier::Hardlink && self.hardlink(dir, name, &wanted)? {
            self.observer.count(Counter::Hardlinked, 1);
            return Ok(Tier::Hardlink);
        }
        // The umask is never lessened, so that a new file is at most as open as it will be.
        let new = dir.create(name, mode & 0o777).map_err(PlaceError::io("Making the file"))?;
        match self.complete(&new, &wanted, file, mode) {
            Ok(tier) => {
                self.count(tier, node, file);
                Ok(tier)
            }
            Err(error) => {
                self.discard(dir, name);
                Err(error)
            }
        }
    }

    /// Gives a new, empty file its bytes, label, mode and time.
    fn complete(
        &self,
        new: &File,
        wanted: &Wanted,
        file: &FileNode<'_>,
        mode: u16,
    ) -> Result<Tier, PlaceError> {
        let tier = self.fill(new, wanted)?;
        if !file.rewrite.is_empty() {
            self.relocate(new, file)?;
        }
        let is_set = self.umask.is_some_and(|umask| mode & umask == 0 && mode & !0o777 == 0);
        if !is_set {
            at::set_mode(new, mode).map_err(PlaceError::io("Setting the mode"))?;
        }
        at::set_times(new, MOTHER_TIME).map_err(PlaceError::io("Setting the time"))?;
        Ok(tier)
    }

    fn fill(&self, new: &File, wanted: &Wanted) -> Result<Tier, PlaceError> {
        if wanted.size == 0 && wanted.digest == Digest::of(wanted.digest.regime(), b"") {
            return Ok(Tier::Copy);
        }
        if self.ladder.now() == Tier::Reflink {
            let raw = self.content.ensure(wanted)?;
            match crate::sys::clone::reflink(raw.as_file(), new) {
                Ok(()) => return Ok(Tier::Reflink),
                Err(error) => self.ladder.demote(Tier::Reflink, &error),
            }
        }
        match self.content.ready(wanted) {
            Some(raw) => copy(&raw, new).map_err(PlaceError::io("Copying"))?,
            None => self.content.stream(wanted, &mut &*new)?,
        }
        Ok(Tier::Copy)
    }

    /// Gives the raw store's file a name here; false if this one has to be copied.
    fn hardlink(&self, dir: &TreeDir, name: Name<'_>, wanted: &Wanted) -> Result<bool, PlaceError> {
        let raw = self.content.ensure(wanted)?;
        let Some(path) = raw.path() else { return Ok(false) };
        match dir.hardlink(name, path) {
            Ok(()) => Ok(true),
            // This file has all the names it can have, or was evicted: others may fare better.
            Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => {
                self.ladder.demote(Tier::Hardlink, &error);
                Ok(false)
            }
        }
    }

    /// Writes the label over the identity, which must stand at every offset.
    fn relocate(&self, new: &File, file: &FileNode<'_>) -> Result<(), PlaceError> {
        self.relocation.check(|buffer, offset| new.read_at(buffer, offset), file.rewrite.iter())?;
        for offset in file.rewrite.iter() {
            new.write_all_at(self.relocation.label, offset).map_err(PlaceError::io("Relocating"))?;
        }
        Ok(())
    }

    fn count(&self, tier: Tier, node: &Node<'_>, file: &FileNode<'_>) {
        let counter = match tier {
            Tier::Reflink => Counter::Reflinked,
            Tier::Hardlink => Counter::Hardlinked,
            Tier::Copy => Counter::Copied,
        };
        self.observer.count(counter, 1);
        self.observer.count(Counter::PlacedBytes, file.size);
        if !file.rewrite.is_empty() {
            self.observer.count(Counter::Relocated, 1);
        }
        if self.rules.mode_of(node) != node.mode {
            self.observer.count(Counter::SetuidDropped, 1);
        }
    }

    /// Removes an entry in the making; where that fails, the next run removes it as one that the catalog does not know.
    fn discard(&self, dir: &TreeDir, name: Name<'_>) {
        if let Err(error) = dir.remove(name) {
            log::debug!("{name} stays: {error}");
        }
    }
}

/// Copies the content into an empty file.
fn copy(raw: &RawFile, new: &File) -> io::Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; COPY_CHUNK]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut at = 0;
        while at < raw.len() {
            let count = raw.read_at(buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (&*new).write_all(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    })
}
