//! Copy-up: copies the bytes of a catalog file into the upper before its first change.
//!
//! Blocks are shared if the file system supports it, otherwise copied with their holes; the file itself is never shared. The copy is
//! made in an invisible file: if it fails, nothing has changed.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::observe::{Counter, Observer};
use crate::sys::fs::bytes::{self, Cloned};

use super::files::Files;
use super::{Ino, Time, UpperError};

/// Turns a copy into this space's content: writes the label at each relocation.
pub type Patch<'a> = &'a dyn Fn(&File) -> io::Result<()>;

/// Where the bytes of a copy-up come from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// A verified file of exactly the raw bytes.
    pub file: &'a File,
    /// Applied to the copy before it becomes visible.
    pub patch: Option<Patch<'a>>,
    /// The times to show until the write that follows.
    pub atime: Time,
    /// See `atime`.
    pub mtime: Time,
}

/// Copies bytes into the upper, and remembers whether blocks can be shared at all.
#[derive(Default)]
pub(super) struct Copier {
    never_clones: AtomicBool,
}

impl Copier {
    /// Copies the first `keep` bytes of `source` to `ino`. `keep` must not exceed the size; if it is 0, nothing is read.
    pub fn copy_up(
        &self,
        files: &Files,
        ino: Ino,
        source: &Source<'_>,
        keep: u64,
        observer: &dyn Observer,
    ) -> Result<Arc<File>, UpperError> {
        let part = files.create_part(ino)?;
        if let Some(target) = part.file() {
            let filled = self.fill(source, target, keep, observer);
            filled.map_err(|source| UpperError::Io {
                doing: "copy up to",
                path: files.path_of(ino),
                source,
            })?;
        }
        let file = part.publish()?;
        observer.count(Counter::CopiedUp, 1);
        Ok(file)
    }

    fn fill(&self, source: &Source<'_>, target: &File, keep: u64, observer: &dyn Observer) -> io::Result<()> {
        if keep > 0 {
            let tier = self.place(source.file, target, keep, observer)?;
            observer.count(tier, 1);
            if let Some(patch) = source.patch {
                patch(target)?;
            }
            target.set_len(keep)?; // a clone copies the whole file, and a patch may lie beyond the end
        }
        bytes::set_times(target, Some(source.atime.into()), Some(source.mtime.into()))
    }

    fn place(&self, source: &File, target: &File, keep: u64, observer: &dyn Observer) -> io::Result<Counter> {
        if !self.never_clones.load(Ordering::Relaxed) {
            match bytes::clone(source, target)? {
                Cloned::Yes if source.metadata()?.len() >= keep => return Ok(Counter::Reflinked),
                Cloned::Yes => return Err(io::ErrorKind::UnexpectedEof.into()),
                Cloned::NotThese(reason) => observer.fallback("copy-up by copying", &reason.to_string()),
                Cloned::Never(reason) => {
                    self.never_clones.store(true, Ordering::Relaxed);
                    observer.fallback("copy-up by copying", &reason.to_string());
                }
            }
        }
        bytes::copy_sparse(source, target, keep)?;
        Ok(Counter::Copied)
    }
}
