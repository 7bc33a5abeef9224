//! The bytes of files: one file for each inode with bytes, named by its number, readable only by the owner.
//!
//! A file appears under its number only when it is complete, and a number always refers to the same inode, so an open descriptor
//! stays valid. Descriptors are scarce (a process may be limited to a few thousand), so an LRU list holds them.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lru::LruCache;

use crate::sys::fs::bytes::{self, FileStat};
use crate::sys::fs::place::Place;
use crate::sys::fs::private_dir::PrivateDir;

use super::{Ino, UpperError};

/// Name of the directory with the bytes, in the directory of a space.
pub(super) const BYTES: &str = "upper";
/// Suffix of an incomplete file.
const PART: &str = ".part";

/// The directory with the bytes, created with the first file.
pub(super) struct Files {
    path: Place,
    dir: OnceLock<PrivateDir>,
    open: Mutex<LruCache<Ino, Arc<File>>>,
}

impl Files {
    /// The files below `space`, which need not exist; at most `descriptors` of them are kept open.
    pub fn new(space: &Place, descriptors: NonZeroUsize) -> Files {
        let open = Mutex::new(LruCache::new(descriptors));
        Files { path: space.below(BYTES), dir: OnceLock::new(), open }
    }

    /// The directory, created if necessary.
    pub fn dir(&self) -> Result<&PrivateDir, UpperError> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let dir = self.path.ensure().map(PrivateDir::from);
        let dir =
            dir.map_err(|source| UpperError::Io { doing: "open", path: self.path.clone().into(), source })?;
        Ok(self.dir.get_or_init(|| dir))
    }

    /// Creates an empty file for `ino`, and replaces what a failed operation left.
    pub fn create(&self, ino: Ino) -> Result<Arc<File>, UpperError> {
        let (dir, name) = (self.dir()?, name(ino));
        let made = match dir.create(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                dir.remove(&name).and_then(|()| dir.create(&name))
            }
            made => made,
        };
        Ok(self.keep(ino, made.map_err(|source| self.failed("create", ino, source))?))
    }

    /// Creates a file for `ino` that is invisible until it is published.
    pub fn create_part(&self, ino: Ino) -> Result<Part<'_>, UpperError> {
        let dir = self.dir()?;
        let part = name(ino) + PART;
        let failed = |source| self.failed("create", ino, source);
        dir.remove(&part).map_err(failed)?;
        let file = dir.create(&part).map_err(failed)?;
        Ok(Part { files: self, ino, name: part, file: Some(file) })
    }

    /// The open file of `ino`.
    pub fn open(&self, ino: Ino) -> Result<Arc<File>, UpperError> {
        if let Some(file) = self.open_files().get(&ino) {
            return Ok(Arc::clone(file));
        }
        let file = self.dir()?.open_file(&name(ino)).map_err(|source| self.failed("open", ino, source))?;
        Ok(self.keep(ino, file))
    }

    /// The `stat` of the file of `ino`.
    pub fn stat(&self, ino: Ino) -> Result<FileStat, UpperError> {
        // Looking up a name costs a search of the directory and a permission check.
        if let Some(file) = self.open_files().peek(&ino).map(Arc::clone) {
            return bytes::stat(&file).map_err(|source| self.failed("look at", ino, source));
        }
        self.dir()?.stat(&name(ino)).map_err(|source| self.failed("look at", ino, source))
    }

    /// Sets the times of the file of `ino` to those of a file that is created now.
    pub fn touch(&self, ino: Ino) -> Result<(), UpperError> {
        bytes::touch(&*self.open(ino)?).map_err(|source| self.failed("set the times of", ino, source))
    }

    /// Removes the file of `ino`; open descriptors stay valid.
    pub fn remove(&self, ino: Ino) -> Result<(), UpperError> {
        self.open_files().pop(&ino);
        self.dir()?.remove(&name(ino)).map_err(|source| self.failed("remove", ino, source))
    }

    /// Calls `each` for every name: with the inode of a complete file, or with `None` and the name of anything else.
    pub fn for_each(&self, mut each: impl FnMut(Option<Ino>, &[u8])) -> Result<(), UpperError> {
        let ino = |name: &[u8]| std::str::from_utf8(name).ok()?.parse().ok().map(Ino);
        let listed = self.dir()?.for_each_name(|name| each(ino(name), name));
        listed.map_err(|source| UpperError::Io { doing: "list", path: self.path.clone().into(), source })
    }

    /// Removes an incomplete file; foreign files stay.
    pub fn remove_unfinished(&self, name: &[u8]) -> Result<(), UpperError> {
        match std::str::from_utf8(name) {
            Ok(name) if name.ends_with(PART) => self.dir()?.remove(name).map_err(|source| UpperError::Io {
                doing: "remove",
                path: self.path.join(name),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// The error for a failed sync of the directory.
    pub fn cannot_sync(&self, source: std::io::Error) -> UpperError {
        UpperError::Io { doing: "make durable", path: self.path.clone().into(), source }
    }

    /// Where the bytes of `ino` are.
    pub fn path_of(&self, ino: Ino) -> PathBuf {
        self.path.join(name(ino))
    }

    fn keep(&self, ino: Ino, file: File) -> Arc<File> {
        let file = Arc::new(file);
        // The evicted descriptor is closed after the lock is released.
        let _closed = self.open_files().push(ino, Arc::clone(&file));
        file
    }

    fn open_files(&self) -> MutexGuard<'_, LruCache<Ino, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, ino: Ino, source: std::io::Error) -> UpperError {
        let path = self.path_of(ino);
        if source.kind() == std::io::ErrorKind::NotFound {
            return UpperError::Lost { ino, path };
        }
        UpperError::Io { doing, path, source }
    }
}

fn name(ino: Ino) -> String {
    ino.0.to_string()
}

/// An incomplete file; removed if it is dropped before it is published.
pub(super) struct Part<'a> {
    files: &'a Files,
    ino: Ino,
    name: String,
    file: Option<File>,
}

impl Part<'_> {
    /// The file.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Renames the file to its number.
    pub fn publish(mut self) -> Result<Arc<File>, UpperError> {
        let renamed = self.files.dir()?.rename(&self.name, &name(self.ino));
        renamed.map_err(|source| self.files.failed("publish", self.ino, source))?;
        match self.file.take() {
            Some(file) => Ok(self.files.keep(self.ino, file)),
            None => self.files.open(self.ino),
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.file.is_some()
            && let Ok(dir) = self.files.dir()
            && let Err(error) = dir.remove(&self.name)
        {
            log::warn!(
                "Cannot remove {}: {error}; the next mount does",
                self.files.path.join(&self.name).display()
            );
        }
    }
}
