//! File-system semantics without FUSE: what a space is, asked by inode.
//!
//! A [`Vfs`] answers from three places: the Index (what the catalog says), the relocated files (what only this space's
//! own path changes) and, for a writable space, the upper. It owns its types ([`Attr`], [`Kind`], [`Time`]), so that all of
//! it is tested without a mount. No callback of it panics, no lock is held across blob I/O, and an answer about the static
//! tree takes no lock at all.
//!
//! There is no open and no handle: an inode says what to read, before and after copy-up alike.

mod attr;
mod error;
mod listing;
mod lookup;
mod read;
mod xattr;

use std::sync::Arc;

use crate::space::relocated::Relocated;
use crate::tree::{Index, Ino, Node};

pub use attr::{Attr, Kind, MOTHER_TIME, Time};
pub use error::VfsError;
pub use listing::{Listed, Listing};
pub use read::DiskUsage;

use lookup::Lookups;

/// What a mount decides about the look of its space.
#[derive(Debug, Clone)]
pub struct View {
    /// Owner of everything the catalog lists.
    pub uid: u32,
    /// Group of everything the catalog lists.
    pub gid: u32,
    /// Permissions of the catalog's directories: RCC makes them 0750 less the umask.
    pub dir_mode: u16,
}

/// One space, as a file system.
pub struct Vfs {
    index: Arc<Index>,
    relocated: Arc<Relocated>,
    view: View,
    lookups: Lookups,
}

impl Vfs {
    /// A read-only space.
    pub fn read_only(index: Arc<Index>, relocated: Arc<Relocated>, view: View) -> Vfs {
        let lookups = Lookups::new(index.len());
        Vfs { index, relocated, view, lookups }
    }

    /// The compiled catalog.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The catalog's node of `ino`, or the error for an inode that never was.
    fn node(&self, ino: Ino) -> Result<Node<'_>, VfsError> {
        self.index.node(ino).ok_or(VfsError::NoSuchInode(ino))
    }
}
