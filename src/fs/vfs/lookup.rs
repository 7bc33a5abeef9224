//! Name lookup, and the kernel's reference counts.
//!
//! The kernel counts each lookup of an inode, and returns the counts with FORGET. Without OPEN and RELEASE, only this count shows
//! whether an unlinked inode is still in use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::chain;
use crate::fs::upper::{Entry, FIRST_CREATED, Kind, in_request};
use crate::store::index::{Ino, NodeKind};
use crate::sys::fs::counts::Counts;
use crate::sys::fs::name::Name;

use super::{Attr, Vfs, VfsError};

/// The kernel's references to inodes: a lock-free table of four bytes for each catalog inode, and a map for the others. If the mount
/// outlives this process, the others are in the table too, in memory shared with the next server.
pub(super) struct Lookups {
    catalog: Table,
    /// The number of entries for catalog inodes.
    listed: usize,
    created: Mutex<HashMap<Ino, u64>>,
}

enum Table {
    Own(Box<[AtomicU32]>),
    Shared(Counts),
}

/// How many created inodes can be counted in shared memory. Later ones are treated as known to the kernel until the mount ends.
const SHARED: usize = 1 << 30;

/// The shared reference counts of a mount that outlives its server, for a catalog with `inodes` inodes.
pub fn shared_counts(inodes: u64) -> std::io::Result<Counts> {
    Counts::new(usize::try_from(inodes).map_err(std::io::Error::other)? + 1 + SHARED)
}

impl Lookups {
    /// A table for the inodes `1..=inodes` and all created ones.
    pub fn new(inodes: u64) -> Lookups {
        let len = usize::try_from(inodes).unwrap_or_default() + 1;
        let catalog = std::iter::repeat_with(|| AtomicU32::new(0)).take(len).collect();
        Lookups { catalog: Table::Own(catalog), listed: len, created: Mutex::default() }
    }

    /// The same, with the counts in `counts`.
    pub fn shared(inodes: u64, counts: Counts) -> Lookups {
        let listed = usize::try_from(inodes).unwrap_or_default() + 1;
        Lookups { catalog: Table::Shared(counts), listed, created: Mutex::default() }
    }

    fn count(&self, ino: Ino) -> Option<&AtomicU32> {
        match &self.catalog {
            Table::Own(counts) => counts.get(usize::try_from(ino.0).ok()?),
            Table::Shared(counts) => {
                let created = ino.0.checked_sub(FIRST_CREATED).map(usize::try_from);
                let at = match created {
                    Some(created) => self.listed.checked_add(created.ok()?)?,
                    None => usize::try_from(ino.0).ok().filter(|&at| at < self.listed)?,
                };
                counts.get(at)
            }
        }
    }

    fn created(&self) -> MutexGuard<'_, HashMap<Ino, u64>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one kernel reference to `ino`.
    pub fn add(&self, ino: Ino) {
        match self.count(ino) {
            Some(count) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            None => *self.created().entry(ino).or_default() += 1,
        }
    }

    /// Removes `amount` kernel references, and returns how many are left.
    pub fn take(&self, ino: Ino, amount: u64) -> u64 {
        let Some(count) = self.count(ino) else { return self.take_created(ino, amount) };
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        let before =
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
        before.unwrap_or_default().saturating_sub(amount).into()
    }

    fn take_created(&self, ino: Ino, amount: u64) -> u64 {
        if matches!(self.catalog, Table::Shared(_)) {
            return 1;
        }
        let mut created = self.created();
        let left = created.get(&ino).copied().unwrap_or_default().saturating_sub(amount);
        if left == 0 {
            created.remove(&ino);
        } else {
            created.insert(ino, left);
        }
        left
    }

    /// How many references the kernel has to `ino`.
    pub fn of(&self, ino: Ino) -> u64 {
        match self.count(ino) {
            Some(count) => count.load(Ordering::Relaxed).into(),
            None if matches!(self.catalog, Table::Shared(_)) => 1,
            None => self.created().get(&ino).copied().unwrap_or_default(),
        }
    }
}

impl Vfs {
    /// Runs `work` for the kernel request of that number. If the request was `resent` and the server that died had already done
    /// it, only computes the answer, with `again`.
    pub fn once<T>(
        &self,
        request: u64,
        resent: bool,
        again: impl FnOnce() -> Result<T, VfsError>,
        work: impl FnOnce() -> Result<T, VfsError>,
    ) -> Result<T, VfsError> {
        if resent && self.written().is_some_and(|upper| upper.was_done(request)) {
            return again();
        }
        in_request(request, work)
    }

    /// Looks up `name` in `dir`: its attributes, and one more reference. The kernel may cache `NoEntry`.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr, VfsError> {
        let name = Name::new(name)?;
        let Some(ino) = self.child(dir, name) else {
            return Err(self.no_entry(dir));
        };
        self.referenced(ino)
    }

    /// The attributes of `ino`, and one more reference.
    pub(super) fn referenced(&self, ino: Ino) -> Result<Attr, VfsError> {
        let attr = self.getattr(ino)?;
        self.lookups.add(ino);
        Ok(attr)
    }

    /// The kernel dropped `amount` references to `ino`. An inode without names and references is removed.
    pub fn forget(&self, ino: Ino, amount: u64) {
        if self.lookups.take(ino, amount) == 0
            && let Some(upper) = self.written().filter(|_| self.writable)
            && let Err(error) = upper.forget(ino)
        {
            log::warn!("{}; the next mount does", chain(&error));
        }
    }

    /// The inode of `name` in `dir`.
    pub fn child(&self, dir: Ino, name: Name<'_>) -> Option<Ino> {
        let Some(upper) = self.written() else { return self.index.lookup(dir, name) };
        match upper.entry(dir, name) {
            Some(Entry::Present(present)) => Some(present.ino),
            Some(Entry::Whiteout) => None,
            // A removed directory has no entries, although the catalog lists some.
            None => self.index.lookup(dir, name).filter(|_| upper.inode(dir).is_none_or(|dir| dir.nlink > 0)),
        }
    }

    /// Fails if `ino` is not a directory.
    pub(super) fn ensure_directory(&self, ino: Ino) -> Result<(), VfsError> {
        let is_directory = match self.written().and_then(|upper| upper.inode(ino)) {
            Some(inode) => inode.kind == Kind::Dir,
            None => matches!(self.node(ino)?.kind, NodeKind::Dir { .. }),
        };
        if is_directory { Ok(()) } else { Err(VfsError::NotADirectory(ino)) }
    }

    /// The error for a missing entry of `dir`.
    fn no_entry(&self, dir: Ino) -> VfsError {
        self.ensure_directory(dir).err().unwrap_or_else(|| self.missing(VfsError::NoEntry))
    }
}
