//! Extended attributes: those that programs set in `user.*`, and those that HoloFS reports about a file in `user.holofs.*`.
//!
//! No other namespace is stored. `security.*` would grant privileges that the kernel enforces, `trusted.*` belongs to file systems,
//! and ACLs are not supported. All of them are answered with ENOTSUP instead of "no such attribute": `ls -l` queries two of them for
//! each file, but stops at the first file system that returns ENOTSUP.

use crate::fs::upper::Kind;
use crate::store::index::Ino;

use super::{Vfs, VfsError};

/// For a file that is as in the catalog: the digest of its content before relocation.
const DIGEST: &[u8] = b"user.holofs.digest";
/// The source of the content: `catalog`, `relocated` or `written`.
const STATE: &[u8] = b"user.holofs.state";
/// The namespace that programs may use.
const KEPT: &[u8] = b"user.";
/// The part of it that is reserved.
const OURS: &[u8] = b"user.holofs.";
/// The maximum size of the attributes of one inode, somewhat more than on ext4: they are kept in memory.
const MOST_BYTES: usize = 256 << 10;
/// The maximum size of the attributes of all inodes of a space, for the same reason; documented in docs/limits.md.
const MOST_BYTES_OF_SPACE: usize = 64 << 20;

/// Whether an attribute must exist before it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetMode {
    /// It may exist.
    Either,
    /// It must not exist.
    Create,
    /// It must exist.
    Replace,
}

impl Vfs {
    /// The value of an extended attribute.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, VfsError> {
        if name.starts_with(OURS) {
            return self.own_xattr(ino, name)?.ok_or(VfsError::NoAttribute);
        }
        refuse_foreign(name)?;
        let inode = self.written().and_then(|upper| upper.inode(ino));
        let value = inode.and_then(|inode| inode.xattrs.get(name).map(<[u8]>::to_vec));
        value.ok_or(VfsError::NoAttribute)
    }

    /// The names of all attributes that were set, each terminated by NUL. Reported attributes are not listed, as on other file
    /// systems that have such attributes: a program that copies a file with its attributes would store them in the copy, where they
    /// are wrong.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>, VfsError> {
        let mut names = Vec::new();
        match self.written().and_then(|upper| upper.inode(ino)) {
            Some(inode) => inode.xattrs.iter().for_each(|(name, _)| names.extend([name, b"\0"].concat())),
            None => drop(self.node(ino)?),
        }
        Ok(names)
    }

    /// Sets an extended attribute.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: SetMode) -> Result<(), VfsError> {
        self.writer()?;
        refuse_foreign(name)?;
        let mut change = self.change(&[ino])?;
        let mut xattrs = change.inode(ino)?.xattrs;
        match (mode, xattrs.get(name).is_some()) {
            (SetMode::Create, true) => return Err(VfsError::Exists),
            (SetMode::Replace, false) => return Err(VfsError::NoAttribute),
            _ => {}
        }
        let before = xattrs.size();
        xattrs.set(name, value);
        let (size, all) = (xattrs.size(), change.upper.xattr_bytes());
        if size > before && (size > MOST_BYTES || all + (size - before) > MOST_BYTES_OF_SPACE) {
            return Err(VfsError::TooManyAttributes);
        }
        change.edit(ino, |inode| inode.xattrs = xattrs)?;
        change.commit(None)
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), VfsError> {
        self.writer()?;
        refuse_foreign(name)?;
        let mut change = self.change(&[ino])?;
        let mut xattrs = change.inode(ino)?.xattrs;
        xattrs.remove(name).ok_or(VfsError::NoAttribute)?;
        change.edit(ino, |inode| inode.xattrs = xattrs)?;
        change.commit(None)
    }

    /// The reported attributes of a regular file.
    fn own_xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>, VfsError> {
        let written = self.written().and_then(|upper| upper.inode(ino));
        if written.as_ref().is_some_and(|inode| inode.has_bytes) {
            return Ok((name == STATE).then(|| b"written".to_vec()));
        }
        if written.is_some_and(|inode| inode.kind != Kind::File) {
            return Ok(None);
        }
        let Some((file, _)) = self.catalog_file(ino) else { return self.node(ino).map(|_| None) };
        Ok(match name {
            DIGEST => Some(file.digest.to_string().into_bytes()),
            STATE if file.rewrite.is_empty() => Some(b"catalog".to_vec()),
            STATE => Some(b"relocated".to_vec()),
            _ => None,
        })
    }
}

fn refuse_foreign(name: &[u8]) -> Result<(), VfsError> {
    match name {
        _ if name.starts_with(OURS) => Err(VfsError::NotPermitted("user.holofs.* is set by HoloFS only")),
        _ if name.starts_with(KEPT) => Ok(()),
        _ => Err(VfsError::Unsupported("An extended attribute outside of user.*")),
    }
}
