//! The location of our own state: a path below a directory that is opened and checked once.
//!
//! A [`Place`] is cheap and touches nothing. It can be displayed and compared like its path; opening, reading and writing go through
//! the descriptor of its top ([`super::owned`]). A directory that is used often can be made the top of what
//! is below it ([`Place::as_top`]).

use std::ffi::OsStr;
use std::fs::{File, FileTimes};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::owned::OwnedDir;

/// A file or directory of our own state.
#[derive(Debug, Clone)]
pub struct Place {
    top: Arc<Top>,
    below: PathBuf,
    path: PathBuf,
}

/// A state directory, with its descriptor once it is open.
#[derive(Debug)]
struct Top {
    path: PathBuf,
    /// The same directory below another top, whose descriptor leads to it.
    above: Option<Place>,
    open: Mutex<Option<Arc<OwnedDir>>>,
}

impl Place {
    /// The top of a state tree; the directories above are trusted.
    pub fn top(path: impl Into<PathBuf>) -> Place {
        Place::top_of(path.into(), None)
    }

    /// The same directory, which stays open from its first use on, so that using what is below it takes fewer steps.
    pub fn as_top(&self) -> Place {
        Place::top_of(self.path.clone(), Some(self.clone()))
    }

    fn top_of(path: PathBuf, above: Option<Place>) -> Place {
        let top = Top { path: path.clone(), above, open: Mutex::default() };
        Place { top: Arc::new(top), below: PathBuf::new(), path }
    }

    /// The entry `name` in this directory.
    pub fn below(&self, name: impl AsRef<Path>) -> Place {
        let name = name.as_ref();
        Place { top: Arc::clone(&self.top), below: self.below.join(name), path: self.path.join(name) }
    }

    /// The path, for display.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory.
    pub fn open(&self) -> io::Result<OwnedDir> {
        self.top.get(OwnedDir::open, Place::open)?.open_dir(&self.below)
    }

    /// Opens the directory; creates it, 0700, if it does not exist.
    pub fn ensure(&self) -> io::Result<OwnedDir> {
        self.top.get(OwnedDir::ensure, Place::ensure)?.ensure_dir(&self.below)
    }

    /// Opens the regular file for reading.
    pub fn open_file(&self) -> io::Result<File> {
        self.open_dir_of(OwnedDir::open_file)
    }

    /// The content of the regular file; more than `most` bytes are an error.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        self.open_dir_of(|dir, name| dir.read(name, most))
    }

    /// Publishes a file with these bytes here, atomically; creates its directory if needed.
    pub fn publish(&self, bytes: &[u8]) -> io::Result<()> {
        self.in_dir(|dir, name| dir.publish(name, bytes))
    }

    /// The size of the file in bytes: cheap, and only a hint, since what leads to it is not checked.
    pub fn size_hint(&self) -> io::Result<u64> {
        self.top.get(OwnedDir::open, Place::open)?.size_hint(&self.below)
    }

    /// Sets both times of the file to now, unless it was written or touched less than `recent` ago.
    pub fn touch_unless(&self, recent: Duration) -> io::Result<()> {
        let file = self.open_file()?;
        if file.metadata()?.modified()?.elapsed().is_ok_and(|age| age < recent) {
            return Ok(());
        }
        let now = SystemTime::now();
        file.set_times(FileTimes::new().set_accessed(now).set_modified(now))
    }

    /// Creates an empty file, unless an entry exists; creates its directory if needed.
    pub fn mark(&self) -> io::Result<()> {
        self.in_dir(OwnedDir::mark)
    }

    /// True if the entry exists; a link counts, even a dangling one.
    pub fn is_there(&self) -> io::Result<bool> {
        absent(self.open_dir_of(OwnedDir::has), false)
    }

    /// Removes the file; true if it existed.
    pub fn remove_file(&self) -> io::Result<bool> {
        absent(self.open_dir_of(OwnedDir::remove_file), false)
    }

    /// Removes it and everything below it, links not followed; true if it existed.
    pub fn remove(&self) -> io::Result<bool> {
        absent(self.open_dir_of(OwnedDir::remove), false)
    }

    /// When anything of it was last read or written.
    pub fn last_use(&self) -> io::Result<SystemTime> {
        self.open_dir_of(OwnedDir::last_use)
    }

    /// The entries of the directory, sorted; empty if it does not exist.
    pub fn entries(&self) -> io::Result<Vec<Place>> {
        let names = absent(self.open().and_then(|dir| dir.names()), Vec::new())?;
        Ok(names.into_iter().map(|name| self.below(name)).collect())
    }

    /// Calls `act` with its directory, which is created if needed, and its name there.
    pub fn in_dir<T>(&self, act: impl FnOnce(&OwnedDir, &OsStr) -> io::Result<T>) -> io::Result<T> {
        let (dir, name) = self.split()?;
        match dir.below.as_os_str().is_empty() {
            true => act(&*dir.top.get(OwnedDir::ensure, Place::ensure)?, name),
            false => act(&dir.ensure()?, name),
        }
    }

    /// As [`Place::in_dir`]; the directory must exist.
    pub fn open_dir_of<T>(&self, act: impl FnOnce(&OwnedDir, &OsStr) -> io::Result<T>) -> io::Result<T> {
        let (dir, name) = self.split()?;
        match dir.below.as_os_str().is_empty() {
            true => act(&*dir.top.get(OwnedDir::open, Place::open)?, name),
            false => act(&dir.open()?, name),
        }
    }

    /// The directory that it is in; `None` if that is above the top.
    pub fn dir(&self) -> Option<Place> {
        let (below, path) = self.below.parent().zip(self.path.parent())?;
        Some(Place { top: Arc::clone(&self.top), below: below.to_owned(), path: path.to_owned() })
    }

    /// The entry with the same name but another extension, in the same directory.
    pub fn with_extension(&self, extension: &str) -> Place {
        Place {
            top: Arc::clone(&self.top),
            below: self.below.with_extension(extension),
            path: self.path.with_extension(extension),
        }
    }

    /// The directory it is in, and its name there.
    fn split(&self) -> io::Result<(Place, &OsStr)> {
        if self.below.as_os_str().is_empty() {
            if let Some(above) = &self.top.above {
                return above.split();
            }
            let (dir, name) =
                self.path.parent().zip(self.path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
            return Ok((Place::top(dir), name));
        }
        let parts = self.below.parent().zip(self.below.file_name()).zip(self.path.parent());
        let ((below, name), path) = parts.ok_or(io::ErrorKind::InvalidInput)?;
        Ok((Place { top: Arc::clone(&self.top), below: below.to_owned(), path: path.to_owned() }, name))
    }
}

/// Treats a missing entry as `none`, not as an error.
fn absent<T>(outcome: io::Result<T>, none: T) -> io::Result<T> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(none),
        other => other,
    }
}

impl Top {
    /// The open directory; `open` or, below another top, `open_below` is called the first time, and again after it was removed.
    fn get(
        &self,
        open: impl Fn(&Path) -> io::Result<OwnedDir>,
        open_below: impl Fn(&Place) -> io::Result<OwnedDir>,
    ) -> io::Result<Arc<OwnedDir>> {
        let mut known = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = known.as_ref().filter(|dir| !dir.is_removed()) {
            return Ok(Arc::clone(dir));
        }
        let dir = self.above.as_ref().map_or_else(|| open(&self.path), open_below);
        let dir = Arc::new(dir?);
        *known = Some(Arc::clone(&dir));
        Ok(dir)
    }
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.path == other.path
    }
}

impl Eq for Place {}

impl From<&Place> for Place {
    fn from(place: &Place) -> Place {
        place.clone()
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place::top(path)
    }
}

impl From<Place> for PathBuf {
    fn from(place: Place) -> PathBuf {
        place.path
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Place {
        Place::top(path)
    }
}

impl serde::Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_until_it_is_opened() {
        let temp = tempfile::tempdir().unwrap();
        let top = Place::top(temp.path().join("state"));
        let file = top.below("spaces").below("file");
        assert_eq!(&*file, temp.path().join("state/spaces/file"));
        assert!(!file.is_there().unwrap() && !file.remove_file().unwrap());
        assert_eq!(file.read(9).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(top.below("spaces").entries().unwrap(), []);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        file.publish(b"text").unwrap();
        assert_eq!(file.read(9).unwrap(), b"text");
        assert_eq!(top.below("spaces").entries().unwrap(), std::slice::from_ref(&file));
        assert!(top.below("spaces").remove().unwrap());
        assert!(!file.is_there().unwrap());
    }

    #[test]
    fn a_top_that_was_removed_is_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let file = Place::top(temp.path().join("state")).below("file");
        file.publish(b"one").unwrap();
        std::fs::remove_dir_all(temp.path().join("state")).unwrap();
        assert!(!file.is_there().unwrap());
        file.publish(b"two").unwrap();
        assert_eq!(file.read(9).unwrap(), b"two");
    }

    #[test]
    fn a_place_below_as_top_is_the_same_and_is_made_again_after_it_was_removed() {
        let temp = tempfile::tempdir().unwrap();
        let plain = Place::top(temp.path().join("state")).below("spaces").below("one");
        let top = plain.as_top();
        assert_eq!(top.below("file"), plain.below("file"));
        assert_eq!(top.below("file").read(9).unwrap_err().kind(), io::ErrorKind::NotFound);
        for text in [b"one", b"two"] {
            top.below("file").publish(text).unwrap();
            assert_eq!(plain.below("file").read(9).unwrap(), text);
            assert!(top.remove().unwrap() && !top.is_there().unwrap() && !plain.is_there().unwrap());
            assert_eq!(top.entries().unwrap(), []);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_top_that_was_swapped_for_another_directory_stays_the_one_that_was_opened() {
        let temp = tempfile::tempdir().unwrap();
        let (state, moved) = (temp.path().join("state"), temp.path().join("moved"));
        let file = Place::top(&state).below("file");
        file.publish(b"ours").unwrap();
        std::fs::rename(&state, &moved).unwrap();
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("file"), "planted").unwrap();
        assert_eq!(file.read(9).unwrap(), b"ours");
    }
}
