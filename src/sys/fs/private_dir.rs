//! A private directory of files: opened once, its files named relative to the descriptor.
//!
//! No path is walked twice, no link is followed, and files created here are readable and writable only by their owner at all times.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::bytes::FileStat;
use super::owned::OwnedDir;

/// An open directory.
#[derive(Debug)]
pub struct PrivateDir(OwnedFd);

/// How every file here is opened. A name that became a FIFO must not block, and reading must not change access times.
const FILE: OFlags = OFlags::RDWR
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(super::at::NOATIME);

impl AsFd for PrivateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedDir> for PrivateDir {
    fn from(dir: OwnedDir) -> PrivateDir {
        PrivateDir(dir.into_fd())
    }
}

impl PrivateDir {
    /// Opens the directory at `path`, which must not be a link.
    pub fn open(path: &Path) -> io::Result<PrivateDir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(PrivateDir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Creates the directory at `path`, 0700, if it does not exist, and opens it.
    pub fn ensure(path: &Path) -> io::Result<PrivateDir> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => PrivateDir::open(path),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates a new file, 0600; an existing one is an error.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = FILE | OFlags::CREATE | OFlags::EXCL;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Opens a file for reading and writing. Anything but a regular file is an error of kind `InvalidData`.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let file = File::from(rustix::fs::openat(&self.0, name, FILE, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "Not a regular file"));
        }
        Ok(file)
    }

    /// The metadata of a file, without opening it.
    pub fn stat(&self, name: &str) -> io::Result<FileStat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    /// Renames a file, replacing an existing one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file; a missing one is not an error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Calls `each` with every name except `.` and `..`, in directory order.
    pub fn for_each_name(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = CStr::to_bytes(entry.file_name());
            if name != b"." && name != b".." {
                each(name);
            }
        }
        Ok(())
    }

    /// Makes the names durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.0.as_fd())?)
    }

    /// Makes everything on the file system of this directory durable.
    pub fn sync_file_system(&self) -> io::Result<()> {
        super::at::sync_file_system(self)
    }
}
