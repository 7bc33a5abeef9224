//! Extended attributes: what programs keep in `user.*`, and what HoloFS itself tells about a file in `user.holofs.*`.
//!
//! No other namespace is kept. `security.*` would be privileges that the kernel acts upon, `trusted.*` belongs to
//! file systems, and ACLs are not supported. All of them are answered ENOTSUP and not "no such attribute": `ls -l` asks each file
//! for two of them, but stops at the first file system that says so.

use crate::fs::upper::Kind;
use crate::store::index::Ino;

use super::{Vfs, VfsError};

/// The digest of the content before relocation, of a file that is as the catalog says.
const DIGEST: &[u8] = b"user.holofs.digest";
/// Where the content comes from: `catalog`, `relocated` or `written`.
const STATE: &[u8] = b"user.holofs.state";
/// Programs may keep what they want here.
const KEPT: &[u8] = b"user.";
/// But not here.
const OURS: &[u8] = b"user.holofs.";
/// The most bytes of attributes of one inode, as on ext4 with room to spare: they are kept in memory.
const MOST_BYTES: usize = 256 << 10;
/// The most bytes of attributes of all inodes of a space, for the same reason; written in docs/limits.md.
const MOST_BYTES_OF_SPACE: usize = 64 << 20;

/// Whether an attribute that is set must be there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetMode {
    /// It does not matter.
    Either,
    /// It must not.
    Create,
    /// It must.
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

    /// The names of all extended attributes that were set, each ended by NUL. What we tell ourselves is not among them, as with
    /// other file systems that tell something this way: who copies a file with its attributes would keep it, untrue, in the copy.
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

    /// What we tell of a regular file ourselves.
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
        _ if name.starts_with(OURS) => Err(VfsError::NotPermitted("user.holofs.* is told by HoloFS itself")),
        _ if name.starts_with(KEPT) => Ok(()),
        _ => Err(VfsError::Unsupported("An extended attribute outside of user.*")),
    }
}
