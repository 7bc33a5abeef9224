//! Writing bytes. They go directly to the file of the upper, whose size and times are authoritative: no row is written.

use std::os::unix::fs::FileExt;

use crate::store::Wanted;
use crate::store::index::Ino;
use crate::sys::fs::bytes;

use super::{Vfs, VfsError, setattr};

/// The supported flags of fallocate(2).
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 16;
/// The maximum number of bytes copied at once, so that signals are handled in between.
const COPY_AT_ONCE: u64 = 64 << 20;

impl Vfs {
    /// Writes `data` at `offset`; returns how many bytes were written. With `drop_privileges`, setuid and setgid are cleared, because
    /// the writer could not have set them.
    pub fn write(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        drop_privileges: bool,
    ) -> Result<usize, VfsError> {
        let (upper, file) = (self.writer()?, self.own_bytes(ino)?);
        if drop_privileges {
            self.drop_privileges(ino)?;
        }
        let mut done = 0;
        while done < data.len() {
            match upper.with_room(|| file.write_at(&data[done..], offset + done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break, // report what was written; the next write gets the error again
                Err(source) => return Err(VfsError::Io { doing: "write", ino, source }),
            }
        }
        Ok(done)
    }

    /// Allocates, frees or zeroes a range, with the flags of fallocate(2).
    pub fn allocate(&self, ino: Ino, offset: u64, len: u64, flags: u32) -> Result<(), VfsError> {
        let upper = self.writer()?;
        let known = [0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE];
        if !known.contains(&flags) {
            return Err(VfsError::Unsupported("This kind of fallocate"));
        }
        let file = self.own_bytes(ino)?;
        let allocated = upper.with_room(|| bytes::allocate(&file, flags, offset, len));
        allocated.map_err(|source| VfsError::Io { doing: "allocate", ino, source })
    }

    /// Copies up to `len` bytes from one file to another or to itself; returns how many were copied.
    pub fn copy_range(&self, from: Ino, at: u64, to: Ino, to_at: u64, len: u64) -> Result<u64, VfsError> {
        let target = self.own_bytes(to)?;
        let len = len.min(COPY_AT_ONCE);
        let failed = |source| VfsError::Io { doing: "copy to", ino: to, source };
        let upper = self.writer()?;
        if upper.has_bytes(from) {
            let source = upper.file(from)?;
            return upper.with_room(|| bytes::copy_part(&source, at, &target, to_at, len)).map_err(failed);
        }
        let (file, mode) = self.catalog_file(from).ok_or(VfsError::NotAFile(from))?;
        let whole = self.relocated.whole(from, &Wanted::of(&file, mode), file.rewrite);
        let whole = whole.map_err(|source| self.content_error(from, source))?;
        if !whole.needs_patch() {
            let copied = upper.with_room(|| bytes::copy_part(whole.file(), at, &target, to_at, len));
            return copied.map_err(failed);
        }
        let mut buffer = vec![0; usize::try_from(len.min(1 << 20)).unwrap_or_default()];
        let count = self.read(from, at, &mut buffer)?;
        upper.with_room(|| target.write_all_at(&buffer[..count], to_at)).map_err(failed)?;
        Ok(count as u64)
    }

    /// Makes `ino` durable: its bytes and, unless `data_only`, its metadata.
    pub fn sync(&self, ino: Ino, data_only: bool) -> Result<(), VfsError> {
        match self.written() {
            Some(upper) => Ok(upper.sync_inode(ino, data_only)?),
            None => Ok(()),
        }
    }

    /// Clears setuid, and setgid where it grants a privilege.
    fn drop_privileges(&self, ino: Ino) -> Result<(), VfsError> {
        if setattr::unprivileged(self.inode(ino)?.mode) == self.inode(ino)?.mode {
            return Ok(());
        }
        let mut change = self.change(&[ino])?;
        change.edit(ino, |inode| inode.mode = setattr::unprivileged(inode.mode))?;
        change.commit(None)
    }
}
