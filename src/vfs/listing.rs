//! Directory listings with stable offsets.
//!
//! An offset names the entry *after which* the listing goes on: 1 is `.`, 2 is `..`, and a catalog entry's is its inode
//! number plus 2, which ascends within a directory. So it does not matter what was added or removed in between.

use crate::tree::{Ino, NodeKind};

use super::{Attr, Kind, Vfs, VfsError, attr};

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its attributes.
    pub attr: Attr,
    /// Its name.
    pub name: &'a [u8],
    /// Where the listing goes on after it.
    pub next: u64,
}

/// Takes the entries of a listing: a reply of limited size, or a test's `Vec`.
pub trait Listing {
    /// Takes an entry; true means it was full and did not.
    fn add(&mut self, entry: &Listed<'_>) -> bool;
}

/// Offset after `..`; those of catalog entries are above.
const AFTER_DOTS: u64 = 2;

impl Vfs {
    /// Lists `dir` after `offset` (0: from the start), `.` and `..` first. With `referenced`, each entry that was taken,
    /// except the dots, is one more reference of the kernel, as READDIRPLUS has it.
    pub fn list(
        &self,
        dir: Ino,
        offset: u64,
        referenced: bool,
        out: &mut dyn Listing,
    ) -> Result<(), VfsError> {
        let node = self.node(dir)?;
        if !matches!(node.kind, NodeKind::Dir { .. }) {
            return Err(VfsError::NotADirectory(dir));
        }
        for (next, ino, name) in [(1, dir, &b"."[..]), (2, node.parent, b"..")] {
            if offset < next && out.add(&Listed { attr: self.getattr(ino)?, name, next }) {
                return Ok(());
            }
        }
        let range = self.index.child_range(dir);
        let first = range.start.max(offset.saturating_sub(AFTER_DOTS) + 1);
        for ino in first..range.end {
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
}

impl Listing for Vec<(Vec<u8>, Kind, u64)> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        self.push((entry.name.to_vec(), entry.attr.kind, entry.next));
        false
    }
}
