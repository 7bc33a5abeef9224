//! File-system semantics without FUSE: the content of a space, addressed by inode.
//!
//! A [`Vfs`] answers from three sources: the Index (what the catalog says), the relocated files (those that differ only by the
//! space's own path) and, if the space was written, the upper. It has its own types ([`Attr`], [`SetAttr`]), so all of it is tested
//! without a mount. No operation panics, no lock is held across blob I/O, and the static tree is served without locks.
//!
//! There is no open and no handle: an inode identifies what to read, before and after copy-up. The kernel checks permissions
//! (`default_permissions`); here the caller only decides the owner of created entries.

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

/// Settings of a mount that decide how its space looks.
#[derive(Debug, Clone)]
pub struct View {
    /// Owner of everything the catalog lists.
    pub uid: u32,
    /// Group of everything the catalog lists.
    pub gid: u32,
    /// Permissions of the catalog's directories: RCC makes them 0750 less the umask.
    pub dir_mode: u16,
}

/// The user of a request, who becomes the owner of created entries.
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
    /// A space that was never written and cannot be written.
    pub fn read_only(index: Arc<Index>, relocated: Arc<Relocated>, view: View) -> Vfs {
        let lookups = Lookups::new(index.len());
        Vfs { index, relocated, view, upper: None, writable: false, lookups }
    }

    /// A space with its written state; `writable` allows further writes.
    pub fn with_upper(
        index: Arc<Index>,
        relocated: Arc<Relocated>,
        upper: Arc<Upper>,
        view: View,
        writable: bool,
    ) -> Vfs {
        Vfs { upper: Some(upper), writable, ..Vfs::read_only(index, relocated, view) }
    }

    /// Counts the kernel's references in `counts`, from [`shared_counts`].
    pub fn counting_in(self, counts: Counts) -> Vfs {
        Vfs { lookups: Lookups::shared(self.index.len(), counts), ..self }
    }

    /// The compiled catalog.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The catalog's node of `ino`, or an error if there is no such inode.
    fn node(&self, ino: Ino) -> Result<Node<'_>, VfsError> {
        self.index.node(ino).ok_or_else(|| self.missing(VfsError::NoSuchInode(ino)))
    }

    /// The error for what seems not to exist.
    fn missing(&self, error: VfsError) -> VfsError {
        self.ensure_whole().err().unwrap_or(error)
    }

    /// Fails if entries of the catalog seem not to exist because they cannot be read.
    fn ensure_whole(&self) -> Result<(), VfsError> {
        if self.index.is_lost() { Err(VfsError::Lost) } else { Ok(()) }
    }

    /// The written state; `None` if nothing was written: then the catalog decides everything.
    fn written(&self) -> Option<&Upper> {
        self.upper.as_deref().filter(|upper| !upper.is_pristine())
    }

    /// The upper, if it can be written to.
    fn writer(&self) -> Result<&Upper, VfsError> {
        self.upper.as_deref().filter(|_| self.writable).ok_or(VfsError::ReadOnly)
    }
}
