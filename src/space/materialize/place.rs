//! Places one file or link: content by the current tier, then the label, the mode, the time.
//!
//! A file gets its final name only when it is complete: in a tree that is being built because the whole tree still has a temporary
//! name, in an existing space by a rename. Nothing is synced: after a power cut the next run repairs.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::Rules;
use super::pristine::{Pristine, is_shareable};
use super::report::{Errors, FileErrorKind};
use super::tier::{FallbackChain, Tier};
use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::store::index::{FileNode, Ino, Node, NodeKind};
use crate::store::observe::{Counter, Observer};
use crate::store::relocate::{RelocateError, Relocation};
use crate::store::{MOTHER_TIME, NameOf, Store, StoreError, Wanted};
use crate::sys::fs::at::{self, TreeDir};
use crate::sys::fs::name::{Name, OwnedName};
use crate::sys::fs::offset::FileExt;

/// The chunk size for copying, in bytes.
const COPY_CHUNK: usize = 256 << 10;

/// Places files and links of one space.
pub(super) struct Placer<'a> {
    pub rules: &'a Rules<'a>,
    pub content: &'a Store,
    pub relocation: Relocation<'a>,
    pub chain: FallbackChain<'a>,
    pub errors: &'a Errors<'a>,
    pub observer: &'a dyn Observer,
    /// The umask; `None` if unknown.
    pub umask: Option<u16>,
    /// Temporary names for incomplete entries.
    pub names: TempNames,
    /// The pristine tree of the catalog.
    pub pristine: Option<&'a Pristine>,
    /// False if the raw store is known to be empty: then it is not queried for every file.
    pub has_raw: bool,
}

/// Names for entries that are incomplete or being removed, which no catalog can contain except by chance.
pub(super) struct TempNames {
    prefix: &'static str,
    run: u64,
    next: AtomicU64,
}

impl TempNames {
    /// Names for incomplete entries.
    pub fn new() -> TempNames {
        TempNames::beginning(".holofs-part-")
    }

    /// Names with the prefix `prefix`.
    pub fn beginning(prefix: &'static str) -> TempNames {
        use std::hash::{BuildHasher, Hasher};
        let run = std::hash::RandomState::new().build_hasher().finish();
        TempNames { prefix, run, next: AtomicU64::new(0) }
    }

    pub fn next(&self) -> io::Result<OwnedName> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{:016x}-{number}", self.prefix, self.run);
        OwnedName::new(name.as_bytes()).map_err(io::Error::other)
    }
}

/// One entry to be placed.
pub(super) struct Wish<'a> {
    pub node: &'a Node<'a>,
    /// The pristine tree's directory that contains the entry, if there is one.
    pub from: Option<&'a TreeDir>,
}

/// Why one entry was not placed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Relocate(#[from] RelocateError),
    #[error("{doing} failed")]
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
    /// Places `ino` under its final name in a directory that is not visible to others yet.
    pub fn place_new(&self, dir: &TreeDir, from: Option<&TreeDir>, ino: Ino) {
        self.attempt(ino, |node, name| self.make(dir, name, &Wish { node, from }).map(drop));
    }

    /// Places `ino` in a directory of a live space, replacing an existing entry atomically.
    pub fn replace(&self, dir: &TreeDir, from: Option<&TreeDir>, ino: Ino) {
        self.attempt(ino, |node, name| {
            let part = self.names.next().map_err(PlaceError::io("Naming"))?;
            let tier = self.make(dir, part.as_name(), &Wish { node, from })?;
            let renamed = dir.rename(part.as_name(), name).map_err(PlaceError::io("Renaming into place"));
            // If both names are the same inode, rename does nothing and leaves both.
            if renamed.is_err() || tier == Some(Tier::Hardlink) {
                self.discard(dir, part.as_name());
            }
            renamed
        });
    }

    /// True for a file that differs in this space from any pristine tree; see [`may_be_own`].
    pub fn is_own(&self, node: &Node<'_>) -> bool {
        is_own_with(node, self.rules.mode_of(node))
    }

    /// Modifies a file of a snapshot for this space, in place: the tree is not visible to others yet. It is in the directory `dir`
    /// below the `root` of the snapshot. False if it could not be done.
    pub fn patch_file(&self, root: &TreeDir, dir: &Path, ino: Ino) -> bool {
        self.rules.index.node(ino).is_some_and(|node| {
            let (NodeKind::File(file), Ok(name)) = (node.kind, Name::new(node.name)) else { return false };
            let mode = self.rules.mode_of(&node);
            let opened = root.open_to_patch(&dir.join(name.as_os_str())).map_err(PlaceError::io("Opening"));
            let patched = opened.and_then(|new| {
                self.relocate(&new, &file)?;
                if mode & 0o7000 != 0 {
                    at::set_mode(&new, mode).map_err(PlaceError::io("Setting the mode"))?;
                }
                at::set_times(&new, MOTHER_TIME).map_err(PlaceError::io("Setting the time"))
            });
            patched.is_ok()
        })
    }

    /// Counts an entry that a snapshot provided.
    pub fn count_snapshotted(&self, node: &Node<'_>) {
        match node.kind {
            NodeKind::File(file) => self.count(Tier::Snapshot, node, &file),
            NodeKind::Link { .. } => self.observer.count(Counter::Links, 1),
            NodeKind::Dir { .. } if node.ino != Ino::ROOT => self.observer.count(Counter::Directories, 1),
            NodeKind::Dir { .. } => {}
        }
    }

    /// Reports an error of `ino`; one that will hit all others too stops the work.
    pub fn report(&self, ino: Ino, error: &PlaceError) {
        if error.is_hopeless() {
            self.errors.stop();
        }
        self.errors.push(ino, error.kind(), chain(error).to_string());
    }

    /// As [`Placer::report`], for a system error of the operation `doing`.
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

    /// Creates a complete file or link at the free name `name`; on failure it stays free.
    fn make(&self, dir: &TreeDir, name: Name<'_>, wish: &Wish<'_>) -> Result<Option<Tier>, PlaceError> {
        match wish.node.kind {
            NodeKind::Link { target } => {
                dir.symlink(name, target).map_err(PlaceError::io("Creating the link"))?;
                self.observer.count(Counter::Links, 1);
                Ok(None)
            }
            NodeKind::File(file) => self.make_file(dir, name, wish, &file).map(Some),
            NodeKind::Dir { .. } => Ok(None),
        }
    }

    fn make_file(
        &self,
        dir: &TreeDir,
        name: Name<'_>,
        wish: &Wish<'_>,
        file: &FileNode<'_>,
    ) -> Result<Tier, PlaceError> {
        let mode = self.rules.mode_of(wish.node);
        let is_hard = self.chain.now() == Tier::Hardlink && is_shareable(file, wish.node.mode);
        if is_hard && self.hardlink(dir, name, wish, file)? {
            self.observer.count(Counter::Hardlinked, 1);
            return Ok(Tier::Hardlink);
        }
        // The umask stays in effect, so a new file never has more permissions than its final ones.
        let new = dir.create(name, mode & 0o777).map_err(PlaceError::io("Creating the file"))?;
        match self.complete(&new, wish, file, mode) {
            Ok(tier) => {
                self.count(tier, wish.node, file);
                Ok(tier)
            }
            Err(error) => {
                self.discard(dir, name);
                Err(error)
            }
        }
    }

    /// Gives a new, empty file its content, label, mode and time.
    fn complete(
        &self,
        new: &File,
        wish: &Wish<'_>,
        file: &FileNode<'_>,
        mode: u16,
    ) -> Result<Tier, PlaceError> {
        let tier = self.fill(new, wish, file)?;
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

    fn fill(&self, new: &File, wish: &Wish<'_>, file: &FileNode<'_>) -> Result<Tier, PlaceError> {
        let wanted = Wanted::of(file, wish.node.mode);
        if wanted.size == 0 && wanted.digest == Digest::of(wanted.digest.regime(), b"") {
            return Ok(Tier::Copy);
        }
        if let Some(source) = self.open_pristine(wish) {
            return self.share_or_copy(&source, file.size, new);
        }
        match self.has_raw.then(|| self.content.ready(&wanted)).flatten() {
            Some(raw) => self.share_or_copy(raw.as_file(), raw.len(), new),
            // Directly into place: sharing starts with the pristine tree.
            None => Ok(self.content.stream_to(&wanted, &mut &*new).map(|()| Tier::Copy)?),
        }
    }

    /// The open file of the pristine tree, if it is unchanged.
    fn open_pristine(&self, wish: &Wish<'_>) -> Option<File> {
        let (pristine, from) = self.in_pristine(wish)?;
        let found = pristine.open_file(self.content, wish.node, from);
        if found.is_none() {
            self.distrust(wish, from);
        }
        found
    }

    /// The pristine tree, and its directory with the file, if it has the file.
    fn in_pristine<'w>(&self, wish: &Wish<'w>) -> Option<(&Pristine, &'w TreeDir)> {
        let (pristine, from) = (self.pristine?, wish.from?);
        (pristine.has(wish.node.ino) && pristine.can_be_checked(self.content)).then_some((pristine, from))
    }

    fn share_or_copy(&self, source: &File, size: u64, new: &File) -> Result<Tier, PlaceError> {
        if matches!(self.chain.now(), Tier::Reflink | Tier::Snapshot) {
            match crate::sys::fs::clone::reflink(source, new) {
                Ok(()) => return Ok(Tier::Reflink),
                Err(error) => self.chain.demote(Tier::Reflink, &error),
            }
        }
        copy(source, size, new).map_err(PlaceError::io("Copying"))?;
        Ok(Tier::Copy)
    }

    /// Hard-links the verified file of the pristine tree or the raw store here; false if this one has to be copied.
    fn hardlink(
        &self,
        dir: &TreeDir,
        name: Name<'_>,
        wish: &Wish<'_>,
        file: &FileNode<'_>,
    ) -> Result<bool, PlaceError> {
        let wanted = Wanted::of(file, wish.node.mode);
        let link = |from: NameOf<'_>| self.content.link_ready(&wanted, from, dir, name);
        let linked = match self.link_pristine(wish, &link).unwrap_or_else(|| link(NameOf::Entry)) {
            Ok(false) => {
                let raw = self.content.ensure_raw(&wanted)?;
                self.content.link_raw(&wanted, &raw, dir, name)
            }
            linked => linked.map(drop),
        };
        match linked {
            Ok(()) => Ok(true),
            // This file has the maximum number of links, or was evicted: others may still work.
            Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => {
                self.chain.demote(Tier::Hardlink, &error);
                Ok(false)
            }
        }
    }

    /// Links to the file of the pristine tree; `None` if it is not there or was changed.
    fn link_pristine(
        &self,
        wish: &Wish<'_>,
        link: &dyn Fn(NameOf<'_>) -> io::Result<bool>,
    ) -> Option<io::Result<bool>> {
        let (_, from) = self.in_pristine(wish)?;
        let name = Name::new(wish.node.name).ok()?;
        let linked = link(NameOf::Link(from, name));
        if matches!(linked, Ok(false)) {
            self.distrust(wish, from);
            return None;
        }
        Some(linked)
    }

    /// Reports that a file of the pristine tree was changed, unless it was just removed; the content comes from the store, which does
    /// its own check.
    fn distrust(&self, wish: &Wish<'_>, from: &TreeDir) {
        if Name::new(wish.node.name).is_ok_and(|name| from.facts(name).is_err()) {
            return;
        }
        self.observer.count(Counter::PristineChanged, 1);
        let path = self.rules.index.path_of(wish.node.ino).map(|path| path.to_string()).unwrap_or_default();
        log::warn!("{path} was changed in the pristine tree; not used");
    }

    /// Writes the label over the identity, which must be at every offset.
    fn relocate(&self, new: &File, file: &FileNode<'_>) -> Result<(), PlaceError> {
        self.relocation.check(|buffer, offset| new.read_at(buffer, offset), file.rewrite.iter())?;
        if self.relocation.label == self.relocation.identity {
            return Ok(()); // a pristine tree
        }
        for offset in file.rewrite.iter() {
            new.write_all_at(self.relocation.label, offset).map_err(PlaceError::io("Relocating"))?;
        }
        Ok(())
    }

    fn count(&self, tier: Tier, node: &Node<'_>, file: &FileNode<'_>) {
        let counter = match tier {
            Tier::Snapshot => Counter::Snapshotted,
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

    /// Removes an incomplete entry; if that fails, the next run removes it because the catalog does not have it.
    fn discard(&self, dir: &TreeDir, name: Name<'_>) {
        if let Err(error) = dir.remove(name) {
            log::debug!("{name} stays: {error}");
        }
    }
}

/// True for a file that may differ between a space and the pristine tree.
pub(super) fn may_be_own(node: &Node<'_>) -> bool {
    is_own_with(node, node.mode)
}

fn is_own_with(node: &Node<'_>, mode: u16) -> bool {
    matches!(node.kind, NodeKind::File(file) if mode & 0o7000 != 0 || !file.rewrite.is_empty())
}

/// Copies all `size` bytes into an empty file.
fn copy(source: &File, size: u64, new: &File) -> io::Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; COPY_CHUNK]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut at = 0;
        while at < size {
            let count = source.read_at(buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (&*new).write_all(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    })
}
