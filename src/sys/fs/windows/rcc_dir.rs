//! A directory of RCC that we write to: the counterpart of [`super::rcc_dir`] on Unix. Access control lists are inherited.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::open::{self, Held};
use super::replace;

/// An open directory of RCC.
#[derive(Debug)]
pub struct RccDir(Held);

impl RccDir {
    /// Holds the directory at `path`. The directories above are trusted.
    pub fn open(path: &Path) -> io::Result<RccDir> {
        Held::open(path).map(RccDir)
    }

    /// Holds the directory `name` below; a link there is an error.
    pub fn open_dir(&self, name: &str) -> io::Result<RccDir> {
        self.0.open_dir(name).map(RccDir)
    }

    /// As [`RccDir::open_dir`]; a missing directory is created.
    pub fn ensure_dir(&self, name: &str, _mode: u32) -> io::Result<RccDir> {
        match fs::create_dir(self.0.path().join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.open_dir(name),
        }
    }

    /// As [`RccDir::ensure_dir`].
    pub fn ensure_usual_dir(&self, name: &str) -> io::Result<RccDir> {
        self.ensure_dir(name, 0)
    }

    /// True if `name` is a regular file.
    pub fn has_file(&self, name: &str) -> bool {
        self.0.path().join(name).symlink_metadata().is_ok_and(|found| found.is_file())
    }

    /// Creates a file that does not exist yet.
    pub fn create_new(&self, name: &str, _mode: u32) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.0.path().join(name))
    }

    /// Opens the file `name` for appending.
    pub fn open_append(&self, name: &str, _mode: u32) -> io::Result<File> {
        open::open_file(&self.0.path().join(name), OpenOptions::new().append(true).create(true))
    }

    /// Opens the file `name` to set its times, which requires write access.
    pub fn open_to_touch(&self, name: &str) -> io::Result<File> {
        open::open_file(&self.0.path().join(name), OpenOptions::new().read(true).write(true))
    }

    /// Renames within the directory; an entry at `to` is replaced.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        replace::rename(&self.0.path().join(from), &self.0.path().join(to))
    }

    /// Removes the file `name`, if it exists.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.path().join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
