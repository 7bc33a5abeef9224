//! Files below a directory: the counterpart of [`super::beneath`] on Unix, with each directory held in turn ([`super::open`]).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::at::TreeDir;
pub use super::facts::{FileFacts, OpenError};
use super::info::Info;
use super::open::{self, Held};
use super::replace;

/// An open directory, the root of relative names.
#[derive(Debug)]
pub struct Dir(Held);

impl Dir {
    /// Opens the directory at `path`, which is trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<Dir> {
        Held::open(path).map(Dir)
    }

    /// Opens the directory `name` below, without following links.
    pub fn open_dir(&self, name: &Path) -> Result<Dir, OpenError> {
        self.0.walk(name).map(Dir).map_err(explain)
    }

    /// Opens the regular file `name` below for reading.
    pub fn open_file(&self, name: &Path) -> Result<(File, FileFacts), OpenError> {
        let (dir, last) = self.parent(name).map_err(explain)?;
        let file = open::open_file(&dir.path().join(last), OpenOptions::new().read(true)).map_err(explain)?;
        let facts = facts_of_file(&file)?;
        Ok((file, facts))
    }

    /// The facts of `name`, links not followed; `None` if it is not a regular file or does not exist.
    pub fn facts(&self, name: &Path) -> Option<FileFacts> {
        let (dir, last) = self.parent(name).ok()?;
        facts_at_path(&dir.path().join(last))
    }

    /// Hard-links the file `name` below to `new` in `into`. No link on the way is followed; a symbolic link at `name` would itself be
    /// linked.
    pub fn hardlink(&self, name: &Path, into: &TreeDir, new: &OsStr) -> Result<(), OpenError> {
        let (dir, last) = self.parent(name).map_err(explain)?;
        fs::hard_link(dir.path().join(last), into.place().join(new)).map_err(explain)
    }

    /// Renames the file `name` to the same name in `into`.
    pub fn rename_into(&self, name: &OsStr, into: &impl Located) -> io::Result<()> {
        replace::rename(&self.0.path().join(name), &into.directory().join(name))
    }

    /// Creates the directory `name`; an existing one is left unchanged.
    pub fn ensure_dir(&self, name: &Path, _mode: u16) -> io::Result<()> {
        let (dir, last) = self.parent(name)?;
        match fs::create_dir(dir.path().join(last)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Creates the file `name`, one component that must not exist, for writing and reading.
    pub fn create_new(&self, name: &Path, _mode: u16) -> io::Result<File> {
        let (dir, last) = self.parent(name)?;
        OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join(last))
    }

    /// Renames within the directory; an entry at `to` is replaced.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        replace::rename(&from_dir.path().join(from), &to_dir.path().join(to))
    }

    /// Removes the file `name`, read-only or not; true if it existed.
    pub fn remove_file(&self, name: &Path) -> io::Result<bool> {
        let (dir, last) = self.parent(name)?;
        let path = dir.path().join(last);
        replace::is_removed(path.symlink_metadata().and_then(|meta| replace::remove_leaf(&path, &meta)))
    }

    /// The names in the directory, unordered.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let entries = fs::read_dir(self.0.path())?;
        entries.map(|entry| Ok(entry?.file_name().into_encoded_bytes())).collect()
    }

    /// Access control lists decide who may do what here, and they are inherited: everything counts as this user's own.
    pub fn owner_and_mode(&self) -> io::Result<(u32, u16)> {
        Ok((crate::sys::process::this_process::effective_uid(), 0o700))
    }

    /// The directory that contains `name`, held, and the last component.
    fn parent(&self, name: &Path) -> io::Result<(Held, PathBuf)> {
        let last = name.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.0.walk(name.parent().unwrap_or(Path::new("")))?, last.into()))
    }
}

/// The facts of an open file.
pub fn facts_of_file(file: &File) -> io::Result<FileFacts> {
    Ok(Info::of(file)?.facts())
}

/// The facts of `name` in `dir`, links not followed; `None` if it is not a regular file or does not exist.
pub fn facts_at(dir: &impl Located, name: &OsStr) -> Option<FileFacts> {
    facts_at_path(&dir.directory().join(name))
}

/// A directory that is held, so that its path stays valid.
pub trait Located {
    /// Its path.
    fn directory(&self) -> &Path;
}

impl Located for TreeDir {
    fn directory(&self) -> &Path {
        self.place()
    }
}

fn facts_at_path(path: &Path) -> Option<FileFacts> {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    is_file.then(|| open::look(path).ok().map(|info| info.facts()))?
}

fn explain(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Missing,
        io::ErrorKind::IsADirectory => OpenError::NotRegular("directory"),
        _ if open::is_link_refused(&error) => OpenError::Link,
        _ => OpenError::Other(error),
    }
}

/// True if the error means that this process, or the system, has no handles left.
pub fn is_descriptor_shortage(error: &io::Error) -> bool {
    /// ERROR_TOO_MANY_OPEN_FILES, ERROR_NO_SYSTEM_RESOURCES.
    const SHORTAGES: [i32; 2] = [4, 1450];
    error.raw_os_error().is_some_and(|number| SHORTAGES.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_beneath_are_opened() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("a")).unwrap();
        fs::write(temp.path().join("a/b"), "content").unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(dir.open_file(Path::new("a/b")).unwrap().1.size, 7);
        let failed = |name: &str| dir.open_file(Path::new(name)).unwrap_err().to_string();
        assert_eq!(failed("a/none"), "There is no such file");
        assert_eq!(failed("a"), "It is a directory, not a file");
        assert!(dir.open_file(Path::new("../x")).is_err());
        assert!(dir.open_file(Path::new("C:/windows")).is_err());
    }

    #[test]
    fn a_new_file_is_created_once_renamed_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let (old, new) = (Path::new("old"), Path::new("new"));
        drop(dir.create_new(old, 0o600).unwrap());
        assert_eq!(dir.create_new(old, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        dir.rename(old, new).unwrap();
        assert_eq!(dir.facts(new).map(|facts| facts.size), Some(0));
        assert_eq!(dir.names().unwrap(), [b"new"]);
        assert!(dir.remove_file(new).unwrap());
        assert!(!dir.remove_file(new).unwrap());
    }

    #[test]
    fn a_hard_link_is_the_same_file_and_replaces_nothing() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/deep")).unwrap();
        fs::write(temp.path().join("a/b"), "content").unwrap();
        let (dir, into) = (Dir::open(temp.path()).unwrap(), TreeDir::open(temp.path()).unwrap());
        let link = |from: &str, new: &str| dir.hardlink(Path::new(from), &into, OsStr::new(new));
        link("a/b", "new").unwrap();
        assert_eq!(facts_at(&into, OsStr::new("new")), dir.facts(Path::new("a/b")));
        assert_eq!(facts_at(&into, OsStr::new("new")).map(|facts| facts.size), Some(7));
        assert!(matches!(link("a/none", "other"), Err(OpenError::Missing)));
        assert!(matches!(link("none/b", "other"), Err(OpenError::Missing)));
        assert!(matches!(link("a/b", "new"), Err(OpenError::Other(_))));
        assert!(link("a/deep", "other").is_err());
        assert_eq!(facts_at(&into, OsStr::new("a")), None);
        assert_eq!(facts_at(&into, OsStr::new("other")), None);
    }
}
