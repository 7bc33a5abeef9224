//! The order in which the parts of an upper reach the disk: the rules for power cuts, for every operation.
//!
//! Whatever is on the disk at the moment of a power cut, every row on it must find its bytes. So:
//! 1. Names first. A row that gives an inode bytes counts only once the name of the file is durable: [`Disk::sync`] makes the
//!    names durable, then the rows, and records in the rows the last epoch whose names are durable. If the file of a later row is
//!    missing, its content was lost in a power cut before a sync: the inode is empty, or as in the catalog (see `recover`).
//! 2. Bytes first, where a row relies on them: copied-up bytes replace the catalog's, and a renamed file must be complete under
//!    its new name, especially if it replaces another one. These bytes are flushed before such a row becomes durable
//!    ([`Disk::commit`]).
//! 3. Dropped bytes last. The file of a removed inode is deleted only when the rows that dropped it are durable
//!    ([`Disk::drop_bytes`]): [`Disk::sync`] deletes at its end the files that were dropped when it began.
//!
//! Something always syncs: fsync(2), the unmount, and `keeper` a few seconds after a change. The kernel also writes the log by
//! itself, but later.
//!
//! Lock order: `syncing`, `gate`, then the locks of the journal; `pending` is taken last and not held during any call.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::files::Files;
use super::journal::Journal;
use super::spare::Spare;
use super::tables::Change;
use super::{Ino, UpperError};
use crate::error::chain;
use crate::sys::fs::bytes;

/// Up to this many files are synced one by one. For more, the whole file system is synced, including the writes of other programs.
pub(super) const FEW_FILES: usize = 64;

/// The files and the rows of one upper.
pub(super) struct Disk {
    pub files: Files,
    pub journal: OnceLock<Journal>,
    pub spare: Spare,
    pending: Mutex<Pending>,
    dropped_bytes: AtomicU64,
    /// Held for writing while rows become durable. A commit that relies on bytes does not wait for it, but flushes the bytes.
    gate: RwLock<()>,
    syncing: Mutex<()>,
}

#[derive(Default)]
struct Pending {
    /// Files that must be durable before the rows are.
    relied_on: HashSet<Ino>,
    /// The same for all files: after a kill, it is unknown which files the last server wrote.
    relied_on_all: bool,
    /// Removed inodes whose files still exist.
    dropped: Vec<Ino>,
    /// Removed inodes whose rows still exist.
    rows: Vec<Ino>,
}

impl Disk {
    /// Manages files, without rows yet.
    pub fn new(files: Files) -> Disk {
        Disk {
            files,
            journal: OnceLock::new(),
            spare: Spare::default(),
            pending: Mutex::default(),
            dropped_bytes: AtomicU64::new(0),
            gate: RwLock::new(()),
            syncing: Mutex::new(()),
        }
    }

    /// Commits `changes`, which rely on the bytes of `relied_on`, to `journal`.
    pub fn commit(
        &self,
        journal: &Journal,
        changes: &Arc<[Change]>,
        relied_on: &[Ino],
    ) -> Result<(), UpperError> {
        if relied_on.is_empty() {
            return journal.commit(Arc::clone(changes));
        }
        let _open = match self.gate.try_read() {
            Ok(open) => {
                self.pending().relied_on.extend(relied_on);
                Some(open)
            }
            Err(_) => {
                relied_on.iter().try_for_each(|&ino| self.flush(ino))?;
                None
            }
        };
        journal.commit(Arc::clone(changes))
    }

    /// Creates the file of `ino`, for the next creation to take.
    pub fn prepare(&self, ino: Ino) -> Result<(), UpperError> {
        let before = bytes::now();
        self.files.create(ino)?;
        match self.spare.keep(ino, before) {
            Some(other) => self.files.remove(other.ino),
            None => Ok(()),
        }
    }

    /// Takes the prepared file, as if it were created now; returns its inode.
    pub fn take_prepared(&self) -> Option<Ino> {
        let ready = self.spare.take()?;
        if ready.is_new() {
            return Some(ready.ino);
        }
        match self.files.touch(ready.ino) {
            Ok(()) => Some(ready.ino),
            Err(error) => {
                log::warn!("{}: another file is created", chain(&error));
                self.discard(ready.ino);
                None
            }
        }
    }

    /// Deletes the prepared file, if there is one: nobody waits for it any more.
    pub fn drop_prepared(&self) {
        if let Some(ready) = self.spare.give_up() {
            self.discard(ready.ino);
        }
    }

    fn discard(&self, ino: Ino) {
        if let Err(error) = self.files.remove(ino) {
            log::warn!("{}; the next mount does", chain(&error));
        }
    }

    /// Requires all existing files to be durable before any row is.
    pub fn rely_on_everything(&self) {
        self.pending().relied_on_all = true;
    }

    /// Deletes the bytes of `ino`, which has no rows any more, at the next sync. Returns how many bytes wait for deletion.
    pub fn drop_bytes(&self, ino: Ino) -> u64 {
        let size = self.files.stat(ino).map_or(0, |file| file.blocks * 512);
        self.pending().dropped.push(ino);
        self.dropped_bytes.fetch_add(size, Ordering::Relaxed) + size
    }

    /// Deletes the row of `ino`, which has neither names nor kernel references, at the next sync.
    pub fn drop_row(&self, ino: Ino) {
        self.pending().rows.push(ino);
    }

    /// Frees space on a full disk; false if nothing can be freed.
    pub fn make_room(&self) -> bool {
        if self.pending().dropped.is_empty() {
            return false;
        }
        self.sync(false).inspect_err(|error| log::debug!("Cannot make room: {}", chain(error))).is_ok()
    }

    /// Makes every committed row durable, with the bytes it needs, and deletes what no row needs any more. With `copy_log`, the log
    /// is copied into the database.
    pub fn sync(&self, copy_log: bool) -> Result<(), UpperError> {
        let Some(journal) = self.journal.get() else { return Ok(()) };
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_relied_on()?; // flushes most of them while other threads still commit
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.flush_relied_on()?;
        let (dropped, rows) = {
            let mut pending = self.pending();
            (std::mem::take(&mut pending.dropped), std::mem::take(&mut pending.rows))
        };
        let synced = self.drop_rows(journal, &rows).and_then(|()| self.sync_rows(journal));
        if synced.is_ok() && copy_log {
            journal.copy_log();
        }
        drop(gate);
        if synced.is_err() {
            let mut pending = self.pending();
            pending.dropped.extend(dropped);
            pending.rows.extend(rows); // dropping a row twice does no harm
            return synced;
        }
        self.dropped_bytes.store(0, Ordering::Relaxed);
        dropped.into_iter().for_each(|ino| self.discard(ino));
        Ok(())
    }

    fn drop_rows(&self, journal: &Journal, rows: &[Ino]) -> Result<(), UpperError> {
        if rows.is_empty() {
            Ok(())
        } else {
            journal.commit(rows.iter().map(|&ino| Change::Gone(ino)).collect())
        }
    }

    fn sync_rows(&self, journal: &Journal) -> Result<(), UpperError> {
        if let Some(epoch) = journal.end_epoch() {
            self.sync_names()?;
            journal.names_are_durable(epoch)?;
        }
        journal.sync()
    }

    fn flush_relied_on(&self) -> Result<(), UpperError> {
        let (files, all) = {
            let pending = self.pending();
            (pending.relied_on.iter().copied().collect::<Vec<Ino>>(), pending.relied_on_all)
        };
        if all || files.len() > FEW_FILES {
            self.sync_file_system()?;
        } else {
            files.iter().try_for_each(|&ino| self.flush(ino))?;
        }
        let mut pending = self.pending();
        pending.relied_on_all = false;
        for ino in files {
            pending.relied_on.remove(&ino);
        }
        Ok(())
    }

    /// Syncs the whole file system.
    pub fn sync_file_system(&self) -> Result<(), UpperError> {
        self.files.dir()?.sync_file_system().map_err(|source| self.files.cannot_sync(source))
    }

    /// Makes the bytes of `ino` durable, if it still has any.
    fn flush(&self, ino: Ino) -> Result<(), UpperError> {
        match self.sync_bytes(ino, false) {
            Err(UpperError::Lost { .. }) => Ok(()),
            flushed => flushed,
        }
    }

    /// Makes the bytes of `ino` durable.
    pub fn sync_bytes(&self, ino: Ino, data_only: bool) -> Result<(), UpperError> {
        let file = self.files.open(ino)?;
        let synced = if data_only { file.sync_data() } else { file.sync_all() };
        let path = || self.files.path_of(ino);
        synced.map_err(|source| UpperError::Io { doing: "make durable", path: path(), source })
    }

    fn sync_names(&self) -> Result<(), UpperError> {
        self.files.dir()?.sync().map_err(|source| self.files.cannot_sync(source))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
