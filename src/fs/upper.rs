//! The written state of one space: everything that differs from its catalog, addressed by inode.
//!
//! In the directory of a space, `upper/<ino>` holds the bytes of a file and `state.db` what changed: inodes and entries of
//! directories. Neither is there until the first write. Tables in memory answer every question; the database makes them
//! survive. There is no FUSE here and no meaning: which changes belong to a rename is the business of `vfs`.
//!
//! What always holds:
//! - Bytes come first, then the row that makes them visible; and the row that drops them is durable first, then they go: no row
//!   points to bytes that are not there, nor does one that is on the disk after a power cut. See `disk`.
//! - What a [`Transaction`] has committed survives `kill -9`; what was written to a file does too, without a transaction,
//!   for size and times of a file with bytes are those of `upper/<ino>`. What [`Upper::sync`] and its kin have returned
//!   for survives a power cut.
//! - An inode of the catalog keeps its number. A created one gets a number above all of these, never used before.
//! - Nothing here is readable by anybody but the owner of the space, whatever the modes of its files.
//!
//! One process has a space open for writing; `space` holds the lock that sees to it.

mod copy_up;
mod disk;
mod error;
mod files;
mod inode;
mod journal;
mod keeper;
mod locks;
mod reading;
mod recover;
mod request;
mod schema;
mod session;
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

/// The first number of a created inode; those of a catalog are below.
pub const FIRST_CREATED: u64 = 1 << 32;
/// So many numbers are taken from the database at once, which waits for the disk; those that are left over are never used.
const INO_CHUNK: u64 = 1 << 14;
/// From so many bytes on that are to be removed, nobody waits with that.
const MANY_BYTES: u64 = 64 << 20;

/// What an opened upper is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only to look, also while a mount writes; the state is that of this moment.
    ReadOnly,
    /// To serve the space, from now until this process ends.
    Writable,
    /// To serve a mount that outlives this process.
    Outliving,
    /// To go on serving such a mount after the process before has died.
    TakenOver,
}

impl Access {
    /// True if something can be written.
    pub fn is_writable(self) -> bool {
        self != Access::ReadOnly
    }

    /// True if whoever serves the mount next finds what the kernel still knows.
    pub fn outlives(self) -> bool {
        matches!(self, Access::Outliving | Access::TakenOver)
    }
}

/// How an upper is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What it is for.
    pub access: Access,
    /// How many files of it are kept open at most.
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
    /// What was removed right before is not left to the next opening.
    fn drop(&mut self) {
        drop(self.keeper.take());
        self.disk.make_room();
    }
}

/// Numbers for created inodes: `next..limit` are ours to give.
#[derive(Debug)]
struct Numbers {
    next: u64,
    limit: u64,
}

impl Upper {
    /// Opens the written state in `dir`, the directory of a space of `catalog`. A space that was never written costs
    /// nothing, and `dir` need not be there.
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

    /// Takes over what was loaded from `journal`, with what `recover` makes of it; the inodes whose bytes are lost.
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
            lost = recover::reconcile(&self.disk.files, journal, &mut loaded)?;
            if !journal.ended_well() {
                self.disk.rely_on_everything();
            }
        }
        for &ino in &lost {
            log::error!("{}", UpperError::Lost { ino, path: self.disk.files.path_of(ino) });
        }
        self.numbers = Mutex::new(Numbers { next: loaded.next_ino, limit: loaded.next_ino });
        self.next_order = AtomicU64::new(loaded.tables.last_order().max(FIRST_CREATED) + 1);
        self.requests = Requests::new(loaded.requests);
        self.tables = RwLock::new(loaded.tables);
        self.written = AtomicBool::new(true);
        Ok(lost)
    }

    /// True until something was written: then there is nothing to ask here.
    pub fn is_pristine(&self) -> bool {
        !self.written.load(Ordering::Acquire)
    }

    /// The inode; `None`: as the catalog says. See [`Inode`] about size and times, or use [`Upper::attributes`].
    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        if self.is_pristine() {
            return None;
        }
        self.tables().inodes.get(&ino).cloned()
    }

    /// The bytes of all extended attributes of the space: they are kept in memory.
    pub fn xattr_bytes(&self) -> usize {
        self.tables().xattr_bytes
    }

    /// True if the bytes of `ino` are here, and not in the catalog.
    pub fn has_bytes(&self, ino: Ino) -> bool {
        !self.is_pristine() && self.tables().inodes.get(&ino).is_some_and(|inode| inode.has_bytes)
    }

    /// The directory of the space that all this is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The inode with the times it shows and, if it has bytes, what the system knows of their file.
    pub fn attributes(&self, ino: Ino) -> Result<Option<(Inode, Option<FileStat>)>, UpperError> {
        match self.inode(ino) {
            Some(inode) if inode.has_bytes => {
                let file = self.disk.files.stat(ino)?;
                Ok(Some((inode.with_file(&file), Some(file))))
            }
            other => Ok(other.map(|inode| (inode, None))),
        }
    }

    /// What is said of `name` in `dir`; `None`: the catalog decides.
    pub fn entry(&self, dir: Ino, name: Name<'_>) -> Option<Entry> {
        if self.is_pristine() {
            return None;
        }
        self.tables().directories.get(&dir)?.get(name)
    }

    /// Looks at what was changed in `dir`, if anything. `look` holds up every writer: it only collects.
    pub fn directory<T>(&self, dir: Ino, look: impl FnOnce(Option<&Directory>) -> T) -> T {
        if self.is_pristine() {
            return look(None);
        }
        look(self.tables().directories.get(&dir))
    }

    /// Every inode that was changed or created, in no order: for commands, not for serving.
    pub fn inodes(&self) -> Vec<(Ino, Inode)> {
        self.tables().inodes.iter().map(|(&ino, inode)| (ino, inode.clone())).collect()
    }

    /// A number for a new inode, never used before.
    pub fn new_ino(&self) -> Result<Ino, UpperError> {
        self.journal()?;
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.next == numbers.limit {
            // Durable before there are bytes under these numbers: bytes that the database never heard of are damage.
            let limit = numbers.limit + INO_CHUNK;
            self.commit(&(Arc::new([Change::NextIno(limit)]) as Arc<[Change]>), &[])?;
            self.disk.sync(false)?;
            numbers.limit = limit;
        }
        numbers.next += 1;
        Ok(Ino(numbers.next - 1))
    }

    /// The open file with the bytes of `ino`, which must have some. Reads and writes go to it directly.
    pub fn file(&self, ino: Ino) -> Result<Arc<File>, UpperError> {
        self.disk.files.open(ino)
    }

    /// The kernel has forgotten `ino`: if it has no names, it is gone for good, with its bytes.
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

    /// Does `write`; again, if the disk is full and there is something to remove.
    pub fn with_room<T, E: IsFull>(&self, mut write: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        match write() {
            Err(error) if error.is_full() && self.disk.make_room() => write(),
            done => done,
        }
    }

    /// Makes the bytes of `ino` durable and, unless `data_only`, everything that was committed. For a directory or an
    /// inode without bytes only the latter.
    pub fn sync_inode(&self, ino: Ino, data_only: bool) -> Result<(), UpperError> {
        if self.inode(ino).is_some_and(|inode| inode.has_bytes) {
            self.disk.sync_bytes(ino, data_only)?;
        }
        // Also for the data alone: without its row, a created file's data could not be found.
        self.disk.sync(false)
    }

    /// Makes everything that was written or committed durable.
    pub fn sync(&self) -> Result<(), UpperError> {
        if self.disk.journal.get().is_none() {
            return Ok(());
        }
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

    /// The inodes whose bytes were lost before this opening; they cannot be read.
    pub fn lost(&self) -> &[Ino] {
        &self.lost
    }

    /// The database, made if this is the first write.
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
        self.disk.files.dir()?; // before the database: bytes without a database are damage, a directory without bytes is none
        let limit = FIRST_CREATED + INO_CHUNK;
        let journal = Journal::create(&self.dir, &self.catalog, limit, self.access)?;
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).limit = limit;
        Ok(self.disk.journal.get_or_init(|| journal))
    }

    /// Commits `changes`, all or none; they rely on the bytes of `relied_on`.
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
