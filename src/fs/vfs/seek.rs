//! Holes in files.

use crate::store::index::Ino;
use crate::sys::fs::bytes::{self, Sought};

use super::{Kind, Vfs, VfsError};

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next data.
    Data,
    /// The next hole; the end of a file counts as one.
    Hole,
}

impl Vfs {
    /// The offset of the next data or hole in `ino`, at or after `offset`.
    pub fn seek(&self, ino: Ino, offset: u64, sought: Seek) -> Result<u64, VfsError> {
        if let Some(upper) = self.written().filter(|upper| upper.has_bytes(ino)) {
            let wanted = match sought {
                Seek::Data => Sought::Data,
                Seek::Hole => Sought::Hole,
            };
            let found = bytes::seek(&*upper.file(ino)?, offset, wanted);
            let found = found.map_err(|source| VfsError::Io { doing: "seek in", ino, source })?;
            return found.ok_or(VfsError::BeyondEnd);
        }
        let attr = self.getattr(ino)?;
        match (attr.kind, sought) {
            (Kind::File, _) if offset >= attr.size => Err(VfsError::BeyondEnd),
            // A catalog file has no holes.
            (Kind::File, Seek::Data) => Ok(offset),
            (Kind::File, Seek::Hole) => Ok(attr.size),
            _ => Err(VfsError::NotAFile(ino)),
        }
    }
}
