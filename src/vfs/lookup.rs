//! Names to inodes, and how many references the kernel holds.
//!
//! The kernel counts each look-up of an inode and gives the counts back with FORGET. Without OPEN and RELEASE this count is
//! all that tells whether an unlinked inode is still in use.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::name::Name;
use crate::tree::{Ino, NodeKind};

use super::{Attr, Vfs, VfsError, attr};

/// The kernel's references to the catalog's inodes. The table is zeroed memory that the system hands out lazily: it costs
/// nothing for inodes that nobody looks up.
pub(super) struct Lookups(Box<[AtomicU32]>);

impl Lookups {
    /// A table for inodes `1..=inodes`.
    pub fn new(inodes: u64) -> Lookups {
        let len = usize::try_from(inodes).unwrap_or_default() + 1;
        Lookups(std::iter::repeat_with(|| AtomicU32::new(0)).take(len).collect())
    }

    fn count(&self, ino: Ino) -> Option<&AtomicU32> {
        self.0.get(usize::try_from(ino.0).ok()?)
    }

    /// The kernel got one more reference to `ino`.
    pub fn add(&self, ino: Ino) {
        if let Some(count) = self.count(ino) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kernel gave `amount` references back; the number that is left.
    pub fn take(&self, ino: Ino, amount: u64) -> u32 {
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        let Some(count) = self.count(ino) else { return 0 };
        let before =
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(amount)));
        before.unwrap_or_default().saturating_sub(amount)
    }
}

impl Vfs {
    /// The entry `name` of `dir`: its attributes, and one more reference. `NoEntry` is an answer the kernel may cache.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr, VfsError> {
        let name = Name::new(name)?;
        let Some(ino) = self.index.lookup(dir, name) else {
            return Err(self.no_entry(dir));
        };
        let attr = attr::catalog_attr(&self.node(ino)?, &self.view);
        self.lookups.add(ino);
        Ok(attr)
    }

    /// The kernel dropped `amount` references to `ino`.
    pub fn forget(&self, ino: Ino, amount: u64) {
        self.lookups.take(ino, amount);
    }

    /// Why `dir` has no such entry.
    fn no_entry(&self, dir: Ino) -> VfsError {
        match self.node(dir).map(|node| node.kind) {
            Ok(NodeKind::Dir { .. }) => VfsError::NoEntry,
            Ok(_) => VfsError::NotADirectory(dir),
            Err(error) => error,
        }
    }
}
