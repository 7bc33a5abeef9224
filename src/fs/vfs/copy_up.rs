//! Copy-up: a catalog file gets its own bytes right before they change. Its inode number stays.

use std::fs::File;
use std::sync::Arc;

use crate::fs::upper::{Inode, Kind, Source};
use crate::store::Wanted;
use crate::store::index::Ino;
use crate::sys::fs::bytes;

use super::change::Change;
use super::{Vfs, VfsError};

impl Vfs {
    /// The writable bytes of `ino`: those of the upper, copied up if necessary.
    pub(super) fn own_bytes(&self, ino: Ino) -> Result<Arc<File>, VfsError> {
        let upper = self.writer()?;
        if upper.has_bytes(ino) {
            return Ok(upper.file(ino)?);
        }
        let mut change = self.change(&[ino])?;
        let file = self.own_bytes_in(&mut change, ino, u64::MAX)?;
        change.commit(None)?;
        Ok(file)
    }

    /// The same within a change that was begun with `ino`; at most the first `keep` bytes are needed.
    pub(super) fn own_bytes_in(
        &self,
        change: &mut Change<'_>,
        ino: Ino,
        keep: u64,
    ) -> Result<Arc<File>, VfsError> {
        let inode = change.inode(ino)?;
        match inode.kind {
            Kind::File if inode.has_bytes => return Ok(change.upper.file(ino)?),
            Kind::File => {}
            Kind::Dir => return Err(VfsError::IsADirectory(ino)),
            _ => return Err(VfsError::NotAFile(ino)),
        }
        let file = match self.catalog_file(ino).filter(|(file, _)| keep > 0 && file.size > 0) {
            Some(_) => self.copy_up(change, ino, &inode, keep)?,
            None => empty(change, ino, &inode)?, // no content is kept, so nothing is read
        };
        change.tx.put(ino, Inode { has_bytes: true, ..inode });
        Ok(file)
    }

    fn copy_up(
        &self,
        change: &mut Change<'_>,
        ino: Ino,
        inode: &Inode,
        keep: u64,
    ) -> Result<Arc<File>, VfsError> {
        let (file, mode) = self.catalog_file(ino).ok_or(VfsError::NoSuchInode(ino))?;
        let whole = self.relocated.whole(ino, &Wanted::of(&file, mode), file.rewrite);
        let whole = whole.map_err(|source| self.content_error(ino, source))?;
        let patch = |copy: &File| self.relocated.patch(copy, file.rewrite);
        let source = Source {
            file: whole.file(),
            patch: whole.needs_patch().then_some(&patch),
            atime: inode.atime,
            mtime: inode.mtime,
        };
        Ok(change.tx.copy_up(ino, &source, keep.min(file.size))?)
    }
}

/// Creates an empty file for the bytes, and changes nothing else.
fn empty(change: &mut Change<'_>, ino: Ino, inode: &Inode) -> Result<Arc<File>, VfsError> {
    let file = change.tx.create_bytes(ino)?;
    let dated = bytes::set_times(&file, Some(inode.atime.into()), Some(inode.mtime.into()));
    dated.map_err(|source| VfsError::Io { doing: "set the times", ino, source })?;
    Ok(file)
}
