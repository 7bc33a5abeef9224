//! Content: bytes of files, texts of links, and what the disk below has left.

use crate::space::relocated::ContentError;
use crate::store::Wanted;
use crate::tree::{FileNode, Ino, NodeKind};

use super::{Vfs, VfsError};

/// What `statfs` shows: the disk that takes what is written, in blocks of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of a block.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

impl Vfs {
    /// Reads into `out` from `offset`; the number of bytes, 0 at the end. Bytes are verified before they are returned, and
    /// the label stands where the catalog has a relocation.
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, VfsError> {
        let node = self.node(ino)?;
        let file = match node.kind {
            NodeKind::File(file) => file,
            NodeKind::Dir { .. } => return Err(VfsError::IsADirectory(ino)),
            NodeKind::Link { .. } => return Err(VfsError::NotAFile(ino)),
        };
        let want = usize::try_from(file.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..want];
        if out.is_empty() {
            return Ok(0);
        }
        let content = self.relocated.read(ino, &wanted(&file, node.mode), file.rewrite, offset, out);
        content.map_err(|source| self.content_error(ino, source))?;
        Ok(want)
    }

    /// The text of a link, exactly as recorded.
    pub fn readlink(&self, ino: Ino) -> Result<&[u8], VfsError> {
        match self.node(ino)?.kind {
            NodeKind::Link { target } => Ok(target),
            _ => Err(VfsError::NotALink(ino)),
        }
    }

    /// The disk that the space's own files are on.
    pub fn statfs(&self) -> Result<DiskUsage, VfsError> {
        let io = |source| VfsError::Io { doing: "ask for free space", ino: Ino::ROOT, source };
        let usage = crate::sys::disk::usage(self.relocated.dir()).map_err(io)?;
        Ok(DiskUsage {
            block_size: usage.block_size,
            blocks: usage.blocks,
            free: usage.free,
            available: usage.available,
            files: usage.files,
            files_free: usage.files_free,
        })
    }

    fn content_error(&self, ino: Ino, source: ContentError) -> VfsError {
        let path = self.index.path_of(ino).map_or_else(|| format!("inode {ino}"), |path| path.to_string());
        VfsError::Content { path, source }
    }
}

/// The blob a catalog file needs.
pub(super) fn wanted(file: &FileNode<'_>, mode: u16) -> Wanted {
    Wanted { digest: file.digest, size: file.size, mode }
}
