//! File-system semantics without FUSE: what a space is, asked by inode.
//!
//! A [`Vfs`] answers from three places: the Index (what the catalog says), the relocated files (what only this space's
//! own path changes) and, if the space was written, the upper. It owns its types ([`Attr`], [`SetAttr`]), so that all of
//! it is tested without a mount. No callback of it panics, no lock is held across blob I/O, and an answer about the static
//! tree takes no lock at all.
//!
//! There is no open and no handle: an inode says what to read, before and after copy-up alike. Permissions are the kernel's
//! affair (`default_permissions`); what depends on the caller here is only who owns what is made.

mod attr;
mod change;
mod copy_up;
mod differences;
mod error;
mod listing;
mod lookup;
mod namespace;
mod read;
mod rename;
mod seek;
mod setattr;
mod write;
mod xattr;

use std::sync::Arc;

use crate::fs::upper::Upper;
use crate::space::relocated::Relocated;
use crate::store::index::{Index, Ino, Node};
use crate::sys::fs::counts::Counts;

pub use crate::fs::upper::{Kind, Time};
pub use attr::{Attr, MOTHER_TIME};
pub use differences::Difference;
pub use error::VfsError;
pub use listing::{Listed, Listing};
pub use lookup::shared_counts;
pub use namespace::New;
pub use rename::RenameMode;
pub use seek::Seek;
pub use setattr::{SetAttr, SetTime};
pub use xattr::SetMode;

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

/// Who asks: the owner of what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One space, as a file system.
pub struct Vfs {
    index: Arc<Index>,
    relocated: Arc<Relocated>,
    view: View,
    upper: Option<Arc<Upper>>,
    writable: bool,
    lookups: Lookups,
}

impl Vfs {
    /// A space that was never written and cannot be.
    pub fn read_only(index: Arc<Index>, relocated: Arc<Relocated>, view: View) -> Vfs {
        let lookups = Lookups::new(index.len());
        Vfs { index, relocated, view, upper: None, writable: false, lookups }
    }

    /// A space with what was written to it; more can be written if `writable`.
    pub fn with_upper(
        index: Arc<Index>,
        relocated: Arc<Relocated>,
        upper: Arc<Upper>,
        view: View,
        writable: bool,
    ) -> Vfs {
        Vfs { upper: Some(upper), writable, ..Vfs::read_only(index, relocated, view) }
    }

    /// The same, with the kernel's references counted in `counts`, of [`shared_counts`].
    pub fn counting_in(self, counts: Counts) -> Vfs {
        Vfs { lookups: Lookups::shared(self.index.len(), counts), ..self }
    }

    /// The compiled catalog.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The catalog's node of `ino`, or the error for an inode that never was.
    fn node(&self, ino: Ino) -> Result<Node<'_>, VfsError> {
        self.index.node(ino).ok_or(VfsError::NoSuchInode(ino))
    }

    /// What was written; `None` if nothing was: then the catalog says everything.
    fn written(&self) -> Option<&Upper> {
        self.upper.as_deref().filter(|upper| !upper.is_pristine())
    }

    /// Where to write.
    fn writer(&self) -> Result<&Upper, VfsError> {
        self.upper.as_deref().filter(|_| self.writable).ok_or(VfsError::ReadOnly)
    }
}
