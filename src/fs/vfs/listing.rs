//! Directory listings with stable offsets.
//!
//! An offset names the entry *after which* the listing continues: 1 is `.`, 2 is `..`. The offset of a catalog entry is its inode
//! number plus 2, which ascends within a directory. An entry that the catalog's directory does not have gets [`NEWEST`] minus its
//! order in the upper, which is above all catalog offsets. So additions and removals during a listing do no harm, and a listing ends:
//! entries created meanwhile come before the current offset. A catalog name that now refers to another inode keeps its place.

use crate::fs::upper::{Directory, Entry};
use crate::store::index::{Ino, Node};
use crate::sys::fs::name::Name;

use super::{Attr, Kind, Vfs, VfsError, attr};

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The attributes.
    pub attr: Attr,
    /// The name.
    pub name: &'a [u8],
    /// The offset after it.
    pub next: u64,
}

/// Receives the entries of a listing: a reply of limited size, or a test's `Vec`.
pub trait Listing {
    /// Adds an entry; returns true if it was full and did not.
    fn add(&mut self, entry: &Listed<'_>) -> bool;
}

/// Offset after `..`; catalog entries have higher offsets.
pub(super) const AFTER_DOTS: u64 = 2;
/// Offsets of entries of the upper count down from here.
const NEWEST: u64 = i64::MAX.cast_unsigned();
/// How many entries of a changed directory are collected at once, while it is locked for changes.
const BATCH: usize = 256;

/// A collected entry; its attributes are read later.
struct Collected {
    ino: Ino,
    name: Box<[u8]>,
    next: u64,
}

impl Vfs {
    /// Lists `dir` after `offset` (0: from the start), `.` and `..` first. With `referenced`, each added entry except the dots counts
    /// as one more kernel reference, as in READDIRPLUS.
    pub fn list(
        &self,
        dir: Ino,
        offset: u64,
        referenced: bool,
        out: &mut dyn Listing,
    ) -> Result<(), VfsError> {
        self.ensure_directory(dir)?;
        for (next, name) in [(1, &b"."[..]), (2, b"..")] {
            let ino = if next == 1 { dir } else { self.parent(dir)? };
            if offset < next && out.add(&Listed { attr: self.getattr(ino)?, name, next }) {
                return Ok(());
            }
        }
        if self.written().is_some() {
            self.list_written(dir, offset.max(AFTER_DOTS), referenced, out)?;
        } else {
            self.list_catalog(dir, offset, referenced, out)?;
        }
        self.ensure_whole()
    }

    fn list_catalog(
        &self,
        dir: Ino,
        offset: u64,
        referenced: bool,
        out: &mut dyn Listing,
    ) -> Result<(), VfsError> {
        for ino in self.catalog_after(dir, offset) {
            let child = self.node(Ino(ino))?;
            let attr = attr::catalog_attr(&child, &self.view);
            if out.add(&Listed { attr, name: child.name, next: ino + AFTER_DOTS }) {
                break;
            }
            if referenced {
                self.lookups.add(child.ino);
            }
        }
        Ok(())
    }

    fn list_written(
        &self,
        dir: Ino,
        mut offset: u64,
        referenced: bool,
        out: &mut dyn Listing,
    ) -> Result<(), VfsError> {
        loop {
            let batch = self.collect(dir, offset);
            let Some(last) = batch.last() else { return Ok(()) };
            offset = last.next;
            for entry in batch {
                let attr = match self.getattr(entry.ino) {
                    Ok(attr) => attr,
                    Err(VfsError::NoSuchInode(_)) => continue, // removed meanwhile
                    Err(error) => return Err(error),
                };
                if out.add(&Listed { attr, name: &entry.name, next: entry.next }) {
                    return Ok(());
                }
                if referenced {
                    self.lookups.add(entry.ino);
                }
            }
        }
    }

    /// The next entries after `offset`.
    fn collect(&self, dir: Ino, offset: u64) -> Vec<Collected> {
        let Some(upper) = self.written() else { return Vec::new() };
        let removed = upper.inode(dir).is_some_and(|inode| inode.nlink == 0);
        upper.directory(dir, |changed| {
            let mut batch = Vec::new();
            if !removed {
                let catalog = self.catalog_after(dir, offset).filter_map(|ino| self.index.node(Ino(ino)));
                batch.extend(catalog.filter_map(|node| shown(&node, changed)).take(BATCH));
            }
            let Some(changed) = changed else { return batch };
            let ours = changed.before(NEWEST.saturating_sub(offset));
            let ours = ours.filter(|(name, _)| !self.in_catalog(dir, name));
            let ours = ours.map(|(name, present)| Collected {
                ino: present.ino,
                name: name.into(),
                next: NEWEST - present.order,
            });
            batch.extend(ours.take(BATCH.saturating_sub(batch.len())));
            batch
        })
    }

    /// The catalog's children of `dir` after `offset`.
    fn catalog_after(&self, dir: Ino, offset: u64) -> std::ops::Range<u64> {
        let range = self.index.child_range(dir);
        let first = range.start.max(offset.saturating_sub(AFTER_DOTS).saturating_add(1));
        first.min(range.end)..range.end
    }

    /// Whether the catalog's directory has this name.
    pub(super) fn in_catalog(&self, dir: Ino, name: &[u8]) -> bool {
        Name::new(name).is_ok_and(|name| self.index.lookup(dir, name).is_some())
    }

    /// The parent of the directory `dir`.
    pub fn parent(&self, dir: Ino) -> Result<Ino, VfsError> {
        match self.written().and_then(|upper| upper.inode(dir)) {
            Some(inode) => Ok(inode.parent),
            None => Ok(self.node(dir)?.parent),
        }
    }
}

/// The current state of a catalog entry, at its place; `None` if it was removed.
fn shown(node: &Node<'_>, changed: Option<&Directory>) -> Option<Collected> {
    let said = Name::new(node.name).ok().and_then(|name| changed?.get(name));
    let ino = match said {
        None => node.ino,
        Some(Entry::Present(present)) => present.ino,
        Some(Entry::Whiteout) => return None,
    };
    Some(Collected { ino, name: node.name.into(), next: node.ino.0 + AFTER_DOTS })
}

impl Listing for Vec<(Vec<u8>, Kind, u64)> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        self.push((entry.name.to_vec(), entry.attr.kind, entry.next));
        false
    }
}
