//! One operation: its reads and changes, committed atomically.
//!
//! A transaction locks the inodes it was begun with, so what it has read stays valid. Its changes are visible only to itself until
//! the commit is in the log; then memory is updated. So there is no rollback: a failed commit has changed nothing, and no reader has
//! seen it. Bytes created for it are removed again.

use std::fs::File;
use std::sync::Arc;

use crate::error::chain;
use crate::sys::fs::name::Name;

use super::copy_up::Source;
use super::locks::Locked;
use super::tables::{Change, Entry, Present};
use super::{FIRST_CREATED, Ino, Inode, Kind, Upper, UpperError};

/// An operation in progress. If dropped without [`commit`](Transaction::commit), it has no effect.
pub struct Transaction<'a> {
    upper: &'a Upper,
    locked: Locked<'a>,
    changes: Vec<Change>,
    made: Vec<Ino>,
    relied_on: Vec<Ino>,
    /// A commit was attempted. If it failed, its rows may still be on the disk, so their bytes are kept for now.
    is_tried: bool,
}

impl Upper {
    /// Begins an operation on `inos`: waits until no other transaction holds one of them. Include every inode that the operation
    /// reads for its decisions or changes; a new inode need not be included.
    pub fn begin(&self, inos: &[Ino]) -> Transaction<'_> {
        Transaction {
            upper: self,
            locked: self.locks.lock(inos),
            changes: Vec::new(),
            made: Vec::new(),
            relied_on: Vec::new(),
            is_tried: false,
        }
    }
}

impl Transaction<'_> {
    /// True if `ino` is one of the inodes it was begun with.
    pub fn holds(&self, ino: Ino) -> bool {
        self.locked.holds(ino)
    }

    /// The inode as left by this transaction, or `None` if it is as in the catalog.
    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        let staged = self.changes.iter().rev().find_map(|change| match change {
            Change::Inode(staged, inode) if *staged == ino => Some(inode.clone()),
            _ => None,
        });
        staged.or_else(|| self.upper.inode(ino))
    }

    /// Sets the inode. Without names (`nlink` 0) it exists until [`Upper::forget`] or the end of the process.
    pub fn put(&mut self, ino: Ino, inode: Inode) {
        let staged = self.changes.iter_mut().find_map(|change| match change {
            Change::Inode(staged, inode) if *staged == ino => Some(inode),
            _ => None,
        });
        match staged {
            Some(staged) => *staged = inode,
            None => self.changes.push(Change::Inode(ino, inode)),
        }
    }

    /// The state of `name` in `dir` after this transaction, or `None` if the catalog decides.
    pub fn entry(&self, dir: Ino, name: Name<'_>) -> Option<Entry> {
        for change in self.changes.iter().rev() {
            match change {
                Change::Entry(changed, text, entry) if *changed == dir && text[..] == *name.as_bytes() => {
                    return *entry;
                }
                Change::Clear(cleared) if *cleared == dir => return None,
                _ => {}
            }
        }
        self.upper.entry(dir, name)
    }

    /// Makes `name` in `dir` refer to `ino`. An existing entry's position in listings is kept; otherwise it is `order`, or a new one.
    pub fn link(&mut self, dir: Ino, name: Name<'_>, ino: Ino, kind: Kind, order: Option<u64>) {
        let order = match self.entry(dir, name) {
            Some(Entry::Present(old)) => old.order,
            _ => order.unwrap_or_else(|| self.upper.new_order()),
        };
        self.say(dir, name, Some(Entry::Present(Present { ino, kind, order })));
    }

    /// Removes `name` from `dir`. `in_catalog`: the catalog's directory has that name, so it needs a whiteout.
    pub fn unlink(&mut self, dir: Ino, name: Name<'_>, in_catalog: bool) {
        self.say(dir, name, in_catalog.then_some(Entry::Whiteout));
    }

    /// Drops all changed names in `dir`, which is being removed and was checked to be empty.
    pub fn clear(&mut self, dir: Ino) {
        self.changes.push(Change::Clear(dir));
    }

    /// A new inode with an empty file for its bytes. Set `has_bytes` in its inode.
    pub fn create_file(&mut self) -> Result<Ino, UpperError> {
        if let Some(ino) = self.upper.disk.take_prepared() {
            self.made(ino);
            return Ok(ino);
        }
        let ino = self.upper.new_ino()?;
        self.create_bytes(ino)?;
        Ok(ino)
    }

    /// Creates an empty file for the bytes of `ino`. Set `has_bytes` in its inode.
    pub fn create_bytes(&mut self, ino: Ino) -> Result<Arc<File>, UpperError> {
        self.upper.journal()?;
        let file = self.upper.with_room(|| self.upper.disk.files.create(ino))?;
        self.made(ino);
        Ok(file)
    }

    /// Copies the first `keep` bytes of `source` to `ino`. Set `has_bytes` in its inode.
    pub fn copy_up(&mut self, ino: Ino, source: &Source<'_>, keep: u64) -> Result<Arc<File>, UpperError> {
        let upper = self.upper;
        upper.journal()?;
        let files = &upper.disk.files;
        let file = upper.with_room(|| upper.copier.copy_up(files, ino, source, keep, &*upper.observer))?;
        self.made(ino);
        self.rely_on(ino);
        Ok(file)
    }

    /// The commit relies on the bytes of `ino`: they must reach the disk first.
    pub fn rely_on(&mut self, ino: Ino) {
        self.relied_on.push(ino);
    }

    fn made(&mut self, ino: Ino) {
        self.made.push(ino);
        self.changes.push(Change::Born(ino));
    }

    /// Commits. After it returns, the operation survives the death of the process and is visible to all. On error, nothing has
    /// changed.
    pub fn commit(mut self) -> Result<(), UpperError> {
        if !self.changes.is_empty() {
            self.is_tried = true;
            if self.upper.access.outlives() {
                self.upper.requests.record(&mut self.changes);
            }
            let changes: Arc<[Change]> = std::mem::take(&mut self.changes).into();
            self.upper.commit(&changes, &self.relied_on)?;
            self.upper.apply(&changes);
        }
        self.made.clear();
        Ok(())
    }

    fn say(&mut self, dir: Ino, name: Name<'_>, entry: Option<Entry>) {
        self.changes.push(Change::Entry(dir, name.as_bytes().into(), entry));
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        for &ino in &self.made {
            match self.is_tried {
                false => {
                    if let Err(error) = self.upper.disk.files.remove(ino) {
                        log::warn!("{}; the next mount does", chain(&error));
                    }
                }
                true if ino.0 >= FIRST_CREATED => {
                    self.upper.disk.drop_bytes(ino);
                }
                true => {} // it will get bytes again, or the next mount deletes them
            }
        }
    }
}
