//! The written state in memory, from which every lookup is answered.
//!
//! An inode or name that has no entry here is as in the catalog, so unwritten parts cost nothing. There are no opaque
//! directories: a directory that replaces a removed one is another inode, for which the catalog has no children.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sys::fs::name::Name;

use super::{Ino, Inode, Kind};

/// The state of a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The entry exists.
    Present(Present),
    /// The entry does not exist, although the catalog has it.
    Whiteout,
}

/// An existing entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Its position in a listing, in descending order: it grows with each created entry, and is kept when another inode takes over
    /// the name or the entry is renamed within the directory.
    pub order: u64,
}

/// The changes in a directory.
#[derive(Debug, Default)]
pub struct Directory {
    entries: HashMap<Arc<[u8]>, Entry>,
    order: BTreeMap<u64, Arc<[u8]>>,
}

impl Directory {
    /// The state of `name`, or `None` if the catalog decides.
    pub fn get(&self, name: Name<'_>) -> Option<Entry> {
        self.entries.get(name.as_bytes()).copied()
    }

    /// How many names exist because of the upper.
    pub fn present(&self) -> usize {
        self.order.len()
    }

    /// How many names of the catalog are hidden.
    pub fn whiteouts(&self) -> usize {
        self.entries.len() - self.order.len()
    }

    /// The present entries older than `order`, newest first: a started listing never meets entries created later, so it ends.
    pub fn before(&self, order: u64) -> impl Iterator<Item = (&[u8], Present)> {
        self.order.range(..order).rev().filter_map(|(_, name)| match self.entries.get(name)? {
            Entry::Present(present) => Some((&name[..], *present)),
            Entry::Whiteout => None,
        })
    }

    /// Every changed name, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        self.entries.iter().map(|(name, entry)| (&name[..], *entry))
    }

    fn set(&mut self, name: &[u8], entry: Option<Entry>) {
        if let Some(Entry::Present(old)) = self.entries.get(name) {
            self.order.remove(&old.order);
        }
        let Some(entry) = entry else {
            self.entries.remove(name);
            return;
        };
        let name: Arc<[u8]> = name.into();
        if let Entry::Present(present) = entry {
            self.order.insert(present.order, Arc::clone(&name));
        }
        self.entries.insert(name, entry);
    }
}

/// One change of a row. Rows are whole: a change never depends on the previous content.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// The new state of an inode. An inode without names stays in memory and loses its row.
    Inode(Ino, Inode),
    /// The new state of a directory, and the request that changed it.
    Asked(Ino, Inode, u64),
    /// The new state of a name in a directory; `None`: the catalog decides.
    Entry(Ino, Arc<[u8]>, Option<Entry>),
    /// Removes all changed names of a directory.
    Clear(Ino),
    /// Numbers of inodes below this one may be in use.
    NextIno(u64),
    /// A file for the bytes of this inode was created; its name is not durable yet. Has no row; precedes the inode's change.
    Born(Ino),
    /// Neither the kernel nor a name refers to the inode any more.
    Gone(Ino),
    /// The last request of the thread with this row that changed no directory.
    Done(u64, u64),
    /// The names of all files born up to the end of this epoch are durable.
    Named(u64),
}

/// The whole written state.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub inodes: HashMap<Ino, Inode>,
    /// The total size of all extended attributes.
    pub xattr_bytes: usize,
    pub directories: HashMap<Ino, Directory>,
}

impl Tables {
    /// Makes a committed change visible.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Inode(ino, inode) | Change::Asked(ino, inode, _) => self.put(*ino, inode.clone()),
            Change::Entry(dir, name, entry) => self.directories.entry(*dir).or_default().set(name, *entry),
            Change::Clear(dir) => {
                self.directories.remove(dir);
            }
            Change::NextIno(_) | Change::Born(_) | Change::Named(_) | Change::Gone(_) | Change::Done(..) => {}
        }
    }

    /// Sets the state of an inode.
    pub fn put(&mut self, ino: Ino, inode: Inode) {
        self.xattr_bytes += inode.xattrs.size();
        let old = self.inodes.insert(ino, inode);
        self.xattr_bytes -= old.map_or(0, |old| old.xattrs.size());
    }

    /// Removes the state of an inode, and returns it.
    pub fn take(&mut self, ino: Ino) -> Option<Inode> {
        let gone = self.inodes.remove(&ino)?;
        self.xattr_bytes -= gone.xattrs.size();
        Some(gone)
    }

    /// The greatest listing position in use.
    pub fn last_order(&self) -> u64 {
        let last = |dir: &Directory| dir.order.last_key_value().map(|(&order, _)| order);
        self.directories.values().filter_map(last).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(ino: u64, order: u64) -> Option<Entry> {
        Some(Entry::Present(Present { ino: Ino(ino), kind: Kind::File, order }))
    }

    fn listed(directory: &Directory, before: u64) -> Vec<(&[u8], u64)> {
        directory.before(before).map(|(name, present)| (name, present.ino.0)).collect()
    }

    #[test]
    fn bytes_of_attributes_are_counted_whatever_happens_to_their_inodes() {
        let mut tables = Tables::default();
        let mut inode = Inode::new(Kind::File, 0o644);
        inode.xattrs.set(b"user.a", &[0; 100]);
        tables.put(Ino(1), inode.clone());
        tables.apply(&Change::Inode(Ino(2), inode.clone()));
        assert_eq!(tables.xattr_bytes, 212);
        inode.xattrs.remove(b"user.a");
        tables.put(Ino(1), inode);
        assert_eq!(tables.xattr_bytes, 106);
        assert!(tables.take(Ino(2)).is_some() && tables.take(Ino(2)).is_none());
        assert_eq!(tables.xattr_bytes, 0);
    }

    #[test]
    fn a_listing_goes_on_where_it_was_whatever_happened_before() {
        let mut directory = Directory::default();
        for (order, name) in [(7, &b"z"[..]), (6, b"a"), (5, b"m")] {
            directory.set(name, present(order, order));
        }
        directory.set(b"z", None);
        directory.set(b"a", present(9, 6));
        directory.set(b"w", Some(Entry::Whiteout));
        directory.set(b"new", present(8, 8));
        assert_eq!(listed(&directory, 7), [(&b"a"[..], 9), (&b"m"[..], 5)]);
        assert_eq!(listed(&directory, 6), [(&b"m"[..], 5)]);
        assert_eq!((directory.present(), directory.whiteouts()), (3, 1));
    }
}
