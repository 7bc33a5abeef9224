//! A verified, read-only file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::MOTHER_TIME;
use crate::store::sequential::SequentialReads;
use crate::sys::fs::beneath::{FileFacts, facts_of_file};
use crate::sys::fs::disk;
use crate::sys::fs::offset::FileExt;

/// A whole file with exactly the raw bytes of a blob, verified once. Cheap to clone; it stays readable whatever happens to its name.
#[derive(Debug, Clone)]
pub struct RawFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    len: u64,
    path: Option<PathBuf>,
    /// The last change; zero for content without a name.
    changed: (i64, u64),
    reads: SequentialReads,
}

impl RawFile {
    /// An entry of the raw store that last changed at `changed`; `file` must be open for reading only.
    pub(super) fn on_disk(file: File, len: u64, path: PathBuf, changed: (i64, u64)) -> RawFile {
        RawFile(Arc::new(Inner { file, len, path: Some(path), changed, reads: SequentialReads::default() }))
    }

    /// A sealed file in memory, without a name.
    pub(super) fn in_memory(file: File, len: u64) -> RawFile {
        RawFile(Arc::new(Inner { file, len, path: None, changed: (0, 0), reads: SequentialReads::default() }))
    }

    /// Reads like `pread`: may read fewer bytes than requested; zero means the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.file.read_at(buffer, offset)
    }

    /// Fills `buffer` from `offset`, which must lie within the content. Sequential reads of large pieces raise the disk's read-ahead.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Inner { file, reads, .. } = &*self.0;
        if reads.grows(offset, buffer.len() as u64) {
            disk::will_be_read_in_order(file);
        }
        file.read_exact_at(buffer, offset)
    }

    /// Reads the whole content; for small files and tests.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.0.len).map_err(io::Error::other)?];
        self.0.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// True if the file is empty.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The descriptor, for reflinks and kernel copies. Its position is shared: use offsets only.
    pub fn as_file(&self) -> &File {
        &self.0.file
    }

    /// The path in the raw store; `None` for content that is only in memory. The entry may be evicted at any time.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// True unless the file was modified from outside.
    pub(super) fn is_intact(&self) -> bool {
        let Ok(facts) = facts_of_file(&self.0.file) else { return false };
        let is_unchanged = || facts.mtime == (MOTHER_TIME, 0) && facts.changed == self.0.changed;
        facts.size == self.0.len && (self.0.path.is_none() || is_unchanged())
    }

    /// The current result of `fstat`.
    pub(super) fn facts(&self) -> io::Result<FileFacts> {
        facts_of_file(&self.0.file)
    }
}
