//! The written state of one space: everything that differs from its catalog, addressed by inode.
//!
//! In the directory of a space, `upper/<ino>` holds the bytes of a file and `state.db` the changed inodes and directory entries. Both
//! are created by the first write. Lookups are answered from tables in memory; the database makes the tables persistent. This module
//! has no FUSE and no file-system semantics: `vfs` decides which changes make up a rename.
//!
//! Invariants:
//! - Bytes are written before the row that makes them visible, and removed only after the row that drops them is durable. So no row
//!   refers to missing bytes, not even on the disk after a power cut. See `disk`.
//! - What a [`Transaction`] has committed survives `kill -9`. So do bytes written to a file, without a transaction, because the size
//!   and times of a file with bytes are those of `upper/<ino>`. After [`Upper::sync`] and its variants return, the state also
//!   survives a power cut.
//! - An inode of the catalog keeps its number. A created inode gets a higher number that was never used before.
//! - Only the owner of the space can read anything here, whatever the modes of its files.
//!
//! One process has a space open for writing; the lock in `space` ensures this.

mod copy_up;
mod disk;
mod error;
mod files;
mod inode;
mod journal;
mod keeper;
mod locks;
mod on_disk;
mod open_mark;
mod reading;
mod recover;
mod request;
mod schema;
mod spare;
mod sync;
mod tables;
#[cfg(test)]
mod tests;
mod transaction;
mod tree;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::store::index::Ino;
use crate::store::observe::Observer;
use crate::sys::fs::bytes::FileStat;
use crate::sys::fs::name::Name;
use crate::sys::fs::place::Place;

use copy_up::Copier;
use disk::{Disk, FEW_FILES};
use files::Files;
use journal::Journal;
use keeper::Keeper;
use locks::Locks;
use request::Requests;
use schema::Loaded;
use tables::{Change, Tables};

pub use copy_up::{Patch, Source};
pub use error::{IsFull, UpperError};
pub use inode::{Inode, Kind, Time, Xattrs};
pub use recover::{reset, written_catalog};
pub use request::in_request;
pub use tables::{Directory, Entry, Present};
pub use transaction::Transaction;

/// The first number of a created inode; catalog inodes have lower numbers.
pub const FIRST_CREATED: u64 = 1 << 32;
/// How many numbers are reserved in the database at once, since each reservation makes all earlier changes durable. Unused ones are
/// never reused.
const INO_CHUNK: u64 = 1 << 16;
/// When more bytes than this wait for removal, the keeper syncs without its usual delay.
const MANY_BYTES: u64 = 64 << 20;

/// What an upper is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Inspect only, also while a mount writes; shows the state at this moment.
    ReadOnly,
    /// Serve the space until this process ends.
    Writable,
    /// Serve a mount that outlives this process.
    Outliving,
    /// Continue to serve such a mount after the previous server died.
    TakenOver,
}

impl Access {
    /// True if the upper can be written to.
    pub fn is_writable(self) -> bool {
        self != Access::ReadOnly
    }

    /// True if the next server of the mount finds the inodes that the kernel still references.
    pub fn outlives(self) -> bool {
        matches!(self, Access::Outliving | Access::TakenOver)
    }
}

/// How to open an upper.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The kind of access.
    pub access: Access,
    /// The maximum number of files kept open.
    pub descriptors: NonZeroUsize,
}

/// The written state of a space.
pub struct Upper {
    dir: Place,
    catalog: String,
    access: Access,
    /// Dropped before `disk`, which it uses.
    keeper: OnceLock<Keeper>,
    disk: Arc<Disk>,
    copier: Copier,
    observer: Arc<dyn Observer>,
    locks: Locks,
    tables: RwLock<Tables>,
    written: AtomicBool,
    creating: Mutex<()>,
    numbers: Mutex<Numbers>,
    next_order: AtomicU64,
    lost: Vec<Ino>,
    requests: Requests,
}

impl Drop for Upper {
    /// Finishes recent removals instead of leaving them to the next opening.
    fn drop(&mut self) {
        drop(self.keeper.take());
        self.disk.drop_prepared();
        self.disk.make_room();
    }
}

/// Numbers for created inodes: `next..limit` are reserved and unused.
#[derive(Debug)]
struct Numbers {
    next: u64,
    limit: u64,
}

impl Upper {
    /// Opens the written state in `dir`, the directory of a space of `catalog`. A space that was never written costs nothing; `dir`
    /// need not exist.
    pub fn open(
        dir: impl Into<Place>,
        catalog: &Digest,
        options: &Options,
        observer: Arc<dyn Observer>,
    ) -> Result<Upper, UpperError> {
        let dir = &dir.into();
        recover::ours(dir)?;
        let mut upper = Upper::pristine(dir, catalog, options, observer);
        if recover::was_written(dir, options.access)? {
            let (journal, loaded) = reading::load(dir, options.access)?;
            upper.lost = upper.take_over(&journal, loaded)?;
            upper.disk.journal.get_or_init(|| journal);
        }
        Ok(upper)
    }

    fn pristine(dir: &Place, catalog: &Digest, options: &Options, observer: Arc<dyn Observer>) -> Upper {
        Upper {
            dir: dir.clone(),
            catalog: catalog.to_string(),
            access: options.access,
            keeper: OnceLock::new(),
            disk: Arc::new(Disk::new(Files::new(dir, options.descriptors))),
            copier: Copier::default(),
            observer,
            locks: Locks::default(),
            tables: RwLock::default(),
            written: AtomicBool::new(false),
            creating: Mutex::default(),
            numbers: Mutex::new(Numbers { next: FIRST_CREATED, limit: FIRST_CREATED }),
            next_order: AtomicU64::new(FIRST_CREATED),
            lost: Vec::new(),
            requests: Requests::default(),
        }
    }

    /// Adopts the state loaded from `journal`, after `recover` has repaired it. Returns the inodes whose bytes are lost.
    fn take_over(&mut self, journal: &Journal, mut loaded: Loaded) -> Result<Vec<Ino>, UpperError> {
        if loaded.catalog != self.catalog {
            return Err(UpperError::OtherCatalog {
                path: journal.path().to_owned(),
                found: loaded.catalog,
                wanted: self.catalog.clone(),
            });
        }
        let mut lost = Vec::new();
        if self.access != Access::TakenOver {
            recover::drop_nameless(journal, &mut loaded, self.access)?;
        }
        if self.access.is_writable() {
            lost = recover::reconcile(&self.disk, journal, &mut loaded, self.access)?;
            if !journal.ended_well() {
                self.disk.rely_on_everything();
            }
        }
        for &ino in &lost {
            log::error!("{}", UpperError::Lost { ino, path: self.disk.files.path_of(ino) });
        }
        self.numbers = Mutex::new(Numbers { next: loaded.next_ino, limit: loaded.next_ino });
        self.next_order = AtomicU64::new(loaded.tables.last_order().max(FIRST_CREATED) + 1);
        self.requests = Requests::new(loaded.requests, loaded.asked);
        self.tables = RwLock::new(loaded.tables);
        self.written = AtomicBool::new(true);
        Ok(lost)
    }

    /// True until something is written; until then, no lookup needs the upper.
    pub fn is_pristine(&self) -> bool {
        !self.written.load(Ordering::Acquire)
    }

    /// The inode, or `None` if it is as in the catalog. For size and times see [`Inode`], or use [`Upper::attributes`].
    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        if self.is_pristine() {
            return None;
        }
        self.tables().inodes.get(&ino).cloned()
    }

    /// The total size of all extended attributes of the space, which are kept in memory.
    pub fn xattr_bytes(&self) -> usize {
        self.tables().xattr_bytes
    }

    /// True if the bytes of `ino` are in the upper, not in the catalog.
    pub fn has_bytes(&self, ino: Ino) -> bool {
        !self.is_pristine() && self.tables().inodes.get(&ino).is_some_and(|inode| inode.has_bytes)
    }

    /// The directory of the space.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The inode with the times to show and, if it has bytes, the `stat` of their file.
    pub fn attributes(&self, ino: Ino) -> Result<Option<(Inode, Option<FileStat>)>, UpperError> {
        match self.inode(ino) {
            Some(inode) if inode.has_bytes => {
                let file = self.disk.files.stat(ino)?;
                Ok(Some((inode.with_file(&file), Some(file))))
            }
            other => Ok(other.map(|inode| (inode, None))),
        }
    }

    /// The state of `name` in `dir`, or `None` if the catalog decides.
    pub fn entry(&self, dir: Ino, name: Name<'_>) -> Option<Entry> {
        if self.is_pristine() {
            return None;
        }
        self.tables().directories.get(&dir)?.get(name)
    }

    /// Calls `look` with the changes in `dir`, if any. It blocks every writer, so `look` should only collect.
    pub fn directory<T>(&self, dir: Ino, look: impl FnOnce(Option<&Directory>) -> T) -> T {
        if self.is_pristine() {
            return look(None);
        }
        look(self.tables().directories.get(&dir))
    }

    /// Every changed or created inode, in no particular order: for commands, not for serving.
    pub fn inodes(&self) -> Vec<(Ino, Inode)> {
        self.tables().inodes.iter().map(|(&ino, inode)| (ino, inode.clone())).collect()
    }

    /// A number for a new inode, never used before.
    pub fn new_ino(&self) -> Result<Ino, UpperError> {
        self.journal()?;
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.next == numbers.limit {
            // Durable before bytes exist under these numbers: bytes with a number unknown to the database count as damage.
            let limit = numbers.limit + INO_CHUNK;
            self.commit(&(Arc::new([Change::NextIno(limit)]) as Arc<[Change]>), &[])?;
            self.disk.sync(false)?;
            numbers.limit = limit;
        }
        numbers.next += 1;
        Ok(Ino(numbers.next - 1))
    }

    /// Prepares a file for the next creation, if one is expected soon. Call it after the answer to the last one.
    pub fn prepare_file(&self) {
        if !self.disk.spare.is_wanted() {
            return;
        }
        let prepared = self.new_ino().and_then(|ino| self.disk.prepare(ino));
        if let Err(error) = prepared {
            log::debug!("{}: the next creation tries again", chain(&error));
        }
        self.keeper().changed(); // it deletes a file that nobody needs
    }

    /// The open file with the bytes of `ino`, which must have bytes. Reads and writes go directly to it.
    pub fn file(&self, ino: Ino) -> Result<Arc<File>, UpperError> {
        self.disk.files.open(ino)
    }

    /// Handles that the kernel has forgotten `ino`: without names, the inode is removed with its bytes.
    pub fn forget(&self, ino: Ino) -> Result<(), UpperError> {
        if self.inode(ino).is_none_or(|inode| inode.nlink > 0) {
            return Ok(());
        }
        let _locked = self.locks.lock(&[ino]);
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.inodes.get(&ino).is_none_or(|inode| inode.nlink > 0) {
            return Ok(());
        }
        let gone = tables.take(ino);
        drop(tables);
        if self.access.outlives() {
            self.disk.drop_row(ino);
        }
        if gone.is_some_and(|inode| inode.has_bytes) && self.disk.drop_bytes(ino) > MANY_BYTES {
            self.keeper().hurry();
        }
        Ok(())
    }

    /// Runs `write`, and once more if the disk is full and space can be freed.
    pub fn with_room<T, E: IsFull>(&self, mut write: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        match write() {
            Err(error) if error.is_full() && self.disk.make_room() => write(),
            done => done,
        }
    }

    /// Makes the bytes of `ino` durable and, unless `data_only`, all commits. For a directory or an inode without bytes, only the
    /// commits.
    pub fn sync_inode(&self, ino: Ino, data_only: bool) -> Result<(), UpperError> {
        if self.inode(ino).is_some_and(|inode| inode.has_bytes) {
            self.disk.sync_bytes(ino, data_only)?;
        }
        // Needed for `data_only` too: without its row, a created file's data could not be found.
        self.disk.sync(false)
    }

    /// Makes all writes and commits durable.
    pub fn sync(&self) -> Result<(), UpperError> {
        if self.disk.journal.get().is_none() {
            return Ok(());
        }
        self.disk.drop_prepared();
        let written: Vec<Ino> = {
            let tables = self.tables();
            let with_bytes = tables.inodes.iter().filter(|(_, inode)| inode.has_bytes && inode.nlink > 0);
            let there = with_bytes.map(|(&ino, _)| ino).filter(|ino| !self.lost.contains(ino));
            there.take(FEW_FILES + 1).collect()
        };
        if written.len() > FEW_FILES {
            self.disk.sync_file_system()?;
        } else {
            written.into_iter().try_for_each(|ino| self.disk.sync_bytes(ino, false))?;
        }
        self.disk.sync(false)
    }

    /// The inodes whose bytes were found lost when opening; they cannot be read.
    pub fn lost(&self) -> &[Ino] {
        &self.lost
    }

    /// The database, created by the first write.
    fn journal(&self) -> Result<&Journal, UpperError> {
        if self.access == Access::ReadOnly {
            return Err(UpperError::ReadOnly { path: self.dir.path().to_owned() });
        }
        if let Some(journal) = self.disk.journal.get() {
            return Ok(journal);
        }
        let _creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = self.disk.journal.get() {
            return Ok(journal);
        }
        self.disk.files.dir()?; // before the database: bytes without a database are damage, an empty directory is not
        let limit = FIRST_CREATED + INO_CHUNK;
        let journal = Journal::create(&self.dir, &self.catalog, limit, self.access)?;
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).limit = limit;
        Ok(self.disk.journal.get_or_init(|| journal))
    }

    /// Commits `changes` atomically; they rely on the bytes of `relied_on`.
    fn commit(&self, changes: &Arc<[Change]>, relied_on: &[Ino]) -> Result<(), UpperError> {
        let journal = self.journal()?;
        self.with_room(|| self.disk.commit(journal, changes, relied_on))?;
        self.keeper().changed();
        Ok(())
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.get_or_init(|| Keeper::start(Arc::clone(&self.disk)))
    }

    /// Makes committed changes visible.
    fn apply(&self, changes: &[Change]) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| tables.apply(change));
        self.written.store(true, Ordering::Release);
    }

    fn new_order(&self) -> u64 {
        self.next_order.fetch_add(1, Ordering::Relaxed)
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}
