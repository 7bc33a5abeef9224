//! Reading: bytes of files, targets of symbolic links, and free space.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fs::upper::{FIRST_CREATED, Inode};
use crate::space::relocated::{ContentError, Whole};
use crate::store::Wanted;
use crate::store::index::{FileNode, Ino, NodeKind};
use crate::store::observe::origin::{self, Origin};
use crate::sys::fs::disk;

use super::{Kind, Vfs, VfsError};

impl Vfs {
    /// Reads into `out` from `offset`; returns the number of bytes, 0 at the end. Bytes are verified before they are returned, and
    /// each relocation contains the label.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, VfsError> {
        if let Some(upper) = self.written().filter(|upper| upper.has_bytes(ino)) {
            let failed = |source| VfsError::Io { doing: "read", ino, source };
            origin::note(Origin::Written);
            return read_full(&*upper.file(ino)?, offset, out).map_err(failed);
        }
        if self.is_empty_file(ino) {
            return Ok(0);
        }
        let (file, mode) = self.readable(ino)?;
        let want = usize::try_from(file.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..want];
        if out.is_empty() {
            return Ok(0);
        }
        let content = self.relocated.read(ino, &Wanted::of(&file, mode), file.rewrite, offset, out);
        content.map_err(|source| self.content_error(ino, source))?;
        Ok(want)
    }

    /// The whole content of a catalog file as an immutable file on disk, with its path; `None` if there is none now: the file was
    /// written, is not relocated yet, is empty, or could not be stored on disk.
    pub fn on_disk(&self, ino: Ino) -> Result<Option<(Whole, PathBuf)>, VfsError> {
        let Some((file, mode)) = self.catalog_file(ino).filter(|(file, _)| file.size > 0) else {
            return Ok(None);
        };
        if self.has_own_bytes(ino) {
            return Ok(None);
        }
        let whole = self.relocated.whole(ino, &Wanted::of(&file, mode), file.rewrite);
        let whole = whole.map_err(|source| self.content_error(ino, source))?;
        let path = match &whole {
            Whole::Raw(raw) => raw.path().map(Path::to_owned),
            Whole::Patched(_) => Some(self.relocated.path(ino)),
            Whole::Unpatched(_) => None,
        };
        Ok(path.map(|path| (whole, path)))
    }

    /// True if the bytes of `ino` are no longer the catalog's.
    pub fn has_own_bytes(&self, ino: Ino) -> bool {
        self.written().is_some_and(|upper| upper.has_bytes(ino))
    }

    /// True for a created file that never had bytes, or lost them in a power cut before a sync.
    fn is_empty_file(&self, ino: Ino) -> bool {
        let is_file = |inode: Inode| inode.kind == Kind::File && !inode.has_bytes;
        ino.0 >= FIRST_CREATED && self.written().and_then(|upper| upper.inode(ino)).is_some_and(is_file)
    }

    /// The catalog's file with this inode number, and its mode in the catalog.
    fn readable(&self, ino: Ino) -> Result<(FileNode<'_>, u16), VfsError> {
        if let Some(file) = self.catalog_file(ino) {
            return Ok(file);
        }
        match self.getattr(ino)?.kind {
            Kind::Dir => Err(VfsError::IsADirectory(ino)),
            _ => Err(VfsError::NotAFile(ino)),
        }
    }

    /// The target of a symbolic link, exactly as recorded or created.
    pub fn readlink(&self, ino: Ino) -> Result<Cow<'_, [u8]>, VfsError> {
        if let Some(inode) = self.written().and_then(|upper| upper.inode(ino)) {
            let is_link = inode.kind == Kind::Link;
            return is_link.then(|| inode.target.to_vec().into()).ok_or(VfsError::NotALink(ino));
        }
        match self.node(ino)?.kind {
            NodeKind::Link { target } => Ok(target.into()),
            _ => Err(VfsError::NotALink(ino)),
        }
    }

    /// Usage of the disk that holds the space's own files.
    pub fn statfs(&self) -> Result<disk::Usage, VfsError> {
        let io = |source| VfsError::Io { doing: "ask for free space", ino: Ino::ROOT, source };
        let dir = self.upper.as_ref().map_or(self.relocated.dir(), |upper| upper.dir());
        disk::usage(dir).map_err(io)
    }

    pub(super) fn content_error(&self, ino: Ino, source: ContentError) -> VfsError {
        let path = self.index.path_of(ino).map_or_else(|| format!("inode {ino}"), |path| path.to_string());
        VfsError::Content { path, source }
    }
}

/// Reads until `out` is full or the file ends, because a short reply means end of file.
fn read_full(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
