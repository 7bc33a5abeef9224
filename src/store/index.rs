//! The Index: one catalog compiled into a flat file that is read, but not parsed.
//!
//! Nodes are in breadth-first order, so the children of a directory are consecutive and sorted by name bytewise: a lookup is a binary
//! search, a listing a slice, and an inode number a position. The catalog's shadow subtrees (what RCC recorded below a link to a
//! directory) are left out; the link itself is included.
//!
//! Invariants: the head of an [`Index`] passed its checksum and belongs to the requested catalog; an entry passed its checksum before it
//! is used. No accessor panics, whatever the bytes: invalid data gives `None`, and walking up or down terminates. Later damage of the
//! file harms nobody.

mod build;
mod entries;
mod error;
mod file_state;
mod format;
mod head;
mod load;
mod shape;

use std::ops::Range;

use crate::rcc::digest::Digest;
use crate::sys::fs::name::{Name, OwnedName, RelPath};

pub use build::TooLarge;
pub use error::IndexError;
pub use format::checksum;
pub use head::Head;
pub use load::{Made, index_path};

use entries::Entries;
use format::Record;

/// An inode number. Those of a catalog are `1..=index.len()`, the root is 1; created files have far higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of every space.
    pub const ROOT: Ino = Ino(1);
}

impl std::fmt::Display for Ino {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A compiled catalog.
pub struct Index {
    entries: Entries,
    head: Head,
}

impl std::ops::Deref for Index {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

/// One entry of the tree.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its inode number.
    pub ino: Ino,
    /// Its parent directory; the root is its own parent.
    pub parent: Ino,
    /// Its name; empty for the root.
    pub name: &'a [u8],
    /// The catalog's permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Its kind.
    pub kind: NodeKind<'a>,
}

/// The kind of a node, with the data specific to it.
#[derive(Debug, Clone, Copy)]
pub enum NodeKind<'a> {
    /// A directory.
    Dir {
        /// How many of its children are directories.
        subdirs: u32,
    },
    /// A regular file.
    File(FileNode<'a>),
    /// A symbolic link, to any target.
    Link {
        /// The link text, exactly as recorded.
        target: &'a [u8],
    },
}

/// A regular file of the catalog.
#[derive(Debug, Clone, Copy)]
pub struct FileNode<'a> {
    /// Size of the content in bytes.
    pub size: u64,
    /// The digest of the content before relocation.
    pub digest: Digest,
    /// Where the recorded identity is overwritten.
    pub rewrite: Rewrites<'a>,
}

/// The relocations of one file: unique offsets in ascending order.
#[derive(Debug, Clone, Copy)]
pub struct Rewrites<'a>(&'a [u8]);

impl<'a> Rewrites<'a> {
    /// True if the file needs no relocation.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The number of offsets.
    pub fn len(self) -> usize {
        self.0.len() / 8
    }

    /// The offsets.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u64> + Clone + 'a {
        self.0.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
    }

    /// The offsets within `range` of the file.
    pub fn in_range(self, range: Range<u64>) -> impl Iterator<Item = u64> + 'a {
        let chunks = self.0.as_chunks::<8>().0;
        let first = chunks.partition_point(|chunk| u64::from_le_bytes(*chunk) < range.start);
        chunks
            .iter()
            .skip(first)
            .map(|chunk| u64::from_le_bytes(*chunk))
            .take_while(move |&at| at < range.end)
    }
}

impl Index {
    /// The node of `ino`, if the catalog has it.
    pub fn node(&self, ino: Ino) -> Option<Node<'_>> {
        let position = u32::try_from(ino.0.checked_sub(1)?).ok()?;
        self.decode(position, self.record(position)?)
    }

    /// All nodes, parents before their children.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (1..=self.len()).filter_map(|ino| self.node(Ino(ino)))
    }

    /// The child of `dir` that is called `name`.
    pub fn lookup(&self, dir: Ino, name: Name<'_>) -> Option<Ino> {
        let children = self.child_range(dir);
        let (mut low, mut high) = (children.start, children.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name_at(middle)?.cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(Ino(middle)).filter(|&ino| self.is_in(ino, dir)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The inode numbers of `dir`'s children; empty if it is not a directory of the catalog.
    pub fn child_range(&self, dir: Ino) -> Range<u64> {
        let record = dir.0.checked_sub(1).and_then(|position| self.record(u32::try_from(position).ok()?));
        match record {
            Some(record) if record.kind() == format::KIND_DIR => {
                // Whatever the bytes: never beyond the last node, and children follow their parent, so walking down terminates.
                let end = self.len() + 1;
                let first = (u64::from(record.first_child()) + 1).min(end);
                let end = (first + u64::from(record.child_count())).min(end);
                if first > dir.0 { first..end } else { 0..0 }
            }
            _ => 0..0,
        }
    }

    /// The children of `dir`, sorted by name bytewise.
    pub fn children(&self, dir: Ino) -> impl Iterator<Item = Node<'_>> {
        self.child_range(dir).filter_map(|ino| self.node(Ino(ino)))
    }

    /// The files that have relocations.
    pub fn relocated(&self) -> impl Iterator<Item = (Ino, FileNode<'_>)> {
        self.nodes().filter_map(|node| match node.kind {
            NodeKind::File(file) if !file.rewrite.is_empty() => Some((node.ino, file)),
            _ => None,
        })
    }

    /// The path of `ino` below the space; `None` if the catalog does not have it.
    pub fn path_of(&self, ino: Ino) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut node = self.node(ino)?;
        while node.ino != Ino::ROOT {
            names.push(OwnedName::new(node.name).ok()?);
            // Parents precede their children, so this terminates whatever the bytes.
            node = self.node(node.parent).filter(|parent| parent.ino < node.ino)?;
        }
        let mut path = RelPath::root();
        names.into_iter().rev().for_each(|name| path.push(name));
        Some(path)
    }

    /// Everything but the entries.
    pub fn head(&self) -> &Head {
        &self.head
    }

    fn record(&self, position: u32) -> Option<Record<'_>> {
        if position < self.head.header().nodes { self.entries.record(position) } else { None }
    }

    fn slice(&self, slice: format::Slice) -> Option<&[u8]> {
        self.entries.slice(slice)
    }

    fn name_at(&self, ino: u64) -> Option<&[u8]> {
        let position = u32::try_from(ino.checked_sub(1)?).ok()?;
        self.slice(self.record(position)?.name())
    }

    /// Whether `ino` names `dir` as its parent.
    fn is_in(&self, ino: Ino, dir: Ino) -> bool {
        self.node(ino).is_some_and(|node| node.parent == dir)
    }

    /// The node in a record: its name is one that a file can have, and its parent precedes it.
    fn decode<'a>(&'a self, position: u32, record: Record<'a>) -> Option<Node<'a>> {
        let kind = match record.kind() {
            format::KIND_DIR => NodeKind::Dir { subdirs: record.subdirs() },
            format::KIND_FILE => NodeKind::File(FileNode {
                size: record.size(),
                digest: record.digest()?,
                rewrite: Rewrites(self.slice(record.rewrites())?),
            }),
            format::KIND_LINK => NodeKind::Link { target: self.slice(record.target())? },
            _ => return None,
        };
        let name = self.slice(record.name())?;
        let is_valid = position == 0 || (record.parent() < position && Name::new(name).is_ok());
        is_valid.then(|| Node {
            ino: Ino(u64::from(position) + 1),
            parent: Ino(u64::from(record.parent()) + 1),
            name,
            mode: record.mode(),
            kind,
        })
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("id", &self.id()).field("nodes", &self.len()).finish_non_exhaustive()
    }
}
