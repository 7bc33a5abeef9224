//! A directory of our own state: the counterpart of [`super::owned`] on Unix. Access control lists decide who may write here, and they
//! are inherited from the user's profile. What this guarantees is that an open directory stays where it is, and that no link is
//! followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::at::TreeDir;
use super::beneath::{Dir, Located};
use super::open::{self, Held};
use super::replace;

/// An open directory of our own.
#[derive(Debug)]
pub struct OwnedDir(Held);

impl OwnedDir {
    /// Holds the directory at `path`. The directories above are trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<OwnedDir> {
        Held::open(path).map(OwnedDir)
    }

    /// As [`OwnedDir::open`]; creates the directory and its parents where they are missing.
    pub fn ensure(path: &Path) -> io::Result<OwnedDir> {
        super::dir::ensure_private(path)?;
        OwnedDir::open(path)
    }

    /// Holds the directory `name` below.
    pub fn open_dir(&self, name: &Path) -> io::Result<OwnedDir> {
        self.0.walk(name).map(OwnedDir)
    }

    /// As [`OwnedDir::open_dir`]; missing directories are created.
    pub fn ensure_dir(&self, name: &Path) -> io::Result<OwnedDir> {
        let mut reached = self.0.reopen()?;
        for component in name.components() {
            match fs::create_dir(reached.path().join(component)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => reached = reached.open_dir(component)?,
            }
        }
        Ok(OwnedDir(reached))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Always false: a directory that is held cannot be removed.
    pub fn is_removed(&self) -> bool {
        false
    }

    /// The same directory, for reading trees of files.
    pub fn beneath(&self) -> io::Result<Dir> {
        Dir::open(self.path())
    }

    /// The same directory, for changing trees.
    pub fn tree(&self) -> io::Result<TreeDir> {
        TreeDir::open(self.path())
    }

    /// Opens the regular file `name` for reading.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        open::open_file(&self.path().join(name), OpenOptions::new().read(true))
    }

    /// Opens the regular file `name` for reading and writing; creates it if it does not exist.
    pub fn open_or_create(&self, name: &OsStr) -> io::Result<File> {
        let mut options = OpenOptions::new();
        open::open_file(&self.path().join(name), options.read(true).write(true).create(true).truncate(false))
    }

    /// Opens the regular file `name` for appending; creates it if it does not exist.
    pub fn open_to_append(&self, name: &OsStr) -> io::Result<File> {
        open::open_file(&self.path().join(name), OpenOptions::new().append(true).create(true))
    }

    /// Creates the file `name`, which must not exist, for reading and writing.
    pub(super) fn create_new(&self, name: &OsStr) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path().join(name))
    }

    /// Creates a hard link at `path` to the file `name`.
    pub(super) fn link_at(&self, name: &OsStr, path: &Path) -> io::Result<()> {
        fs::hard_link(self.path().join(name), path)
    }

    /// True if an entry of that name exists; a link counts, even a dangling one.
    pub fn has(&self, name: &OsStr) -> io::Result<bool> {
        match self.path().join(name).symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size of `name` below, in bytes: a hint.
    pub fn size_hint(&self, name: &Path) -> io::Result<u64> {
        Ok(self.path().join(name).symlink_metadata()?.len())
    }

    /// True if `name` still refers to `file`.
    pub fn names_file(&self, name: &OsStr, file: &File) -> io::Result<bool> {
        open::names(&self.path().join(name), file)
    }

    /// Removes the file `name`; true if it existed.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<bool> {
        replace::is_removed(fs::remove_file(self.path().join(name)))
    }

    /// Renames within the directory; a file at `to` is replaced.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        replace::rename(&self.path().join(from), &self.path().join(to))
    }

    /// When anything of `name` was last read or written. Walking a directory updates its access time, so for a non-empty directory
    /// only the files count.
    pub fn last_use(&self, name: &OsStr) -> io::Result<SystemTime> {
        last_use(&self.path().join(name))
    }

    /// Total bytes of the regular files in it.
    pub fn file_bytes(&self) -> io::Result<u64> {
        let files =
            fs::read_dir(self.path())?.filter_map(|entry| entry.and_then(|entry| entry.metadata()).ok());
        Ok(files.filter(fs::Metadata::is_file).map(|found| found.len()).sum())
    }

    /// The names in it, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(self.path())?;
        let mut names: Vec<OsString> =
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }
}

impl Located for OwnedDir {
    fn directory(&self) -> &Path {
        self.path()
    }
}

fn last_use(path: &Path) -> io::Result<SystemTime> {
    let found = path.symlink_metadata()?;
    if !found.is_dir() {
        return Ok(found.modified()?.max(found.accessed()?));
    }
    let entries = fs::read_dir(path)?.flatten();
    let uses = entries.filter_map(|entry| last_use(&entry.path()).ok());
    Ok(uses.fold(found.modified()?, SystemTime::max))
}
