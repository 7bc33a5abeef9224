//! A directory of RCC that we write to; in a shared holotree other users may write to it too.
//!
//! It may be a link, since users put their hololib on other disks, but only if this user or root created the link: another user's link
//! could redirect our writes to places they cannot write to themselves. Below it, no link is followed, and only regular files are
//! opened.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::process::this_process;

/// How a directory is opened.
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The flags with which every file is opened.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open directory of RCC.
#[derive(Debug)]
pub struct RccDir(OwnedFd);

impl RccDir {
    /// Opens the directory at `path`. The directories above are trusted.
    pub fn open(path: &Path) -> io::Result<RccDir> {
        let refused = match rustix::fs::open(path, DIR | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(dir) => return Ok(RccDir(dir)),
            Err(errno @ (Errno::LOOP | Errno::MLINK | Errno::NOTDIR)) => errno,
            Err(errno) => return Err(errno.into()),
        };
        match trusted_target(path)? {
            Some(target) => Ok(RccDir(rustix::fs::open(&target, DIR, Mode::empty())?)),
            None => Err(refused.into()),
        }
    }

    /// Opens the directory `name` below; a link there is an error.
    pub fn open_dir(&self, name: &str) -> io::Result<RccDir> {
        Ok(RccDir(rustix::fs::openat(&self.0, name, DIR | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// As [`RccDir::open_dir`]; a missing directory is created with exactly `mode`, whatever the umask.
    pub fn ensure_dir(&self, name: &str, mode: u32) -> io::Result<RccDir> {
        match self.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let bits = Mode::from_raw_mode(mode);
        match rustix::fs::mkdirat(&self.0, name, bits) {
            // Directories of other users stay as they are.
            Err(Errno::EXIST) => self.open_dir(name),
            Err(errno) => Err(errno.into()),
            Ok(()) => {
                let made = self.open_dir(name)?;
                let stat = rustix::fs::fstat(&made.0)?;
                // It may have been replaced meanwhile: only a directory of our own is changed.
                let is_ours = stat.st_uid == this_process::effective_uid();
                if is_ours && Mode::from_raw_mode(stat.st_mode) != bits {
                    rustix::fs::fchmod(&made.0, bits)?;
                }
                Ok(made)
            }
        }
    }

    /// As [`RccDir::open_dir`]; a missing directory is created with the mode that the umask leaves.
    pub fn ensure_usual_dir(&self, name: &str) -> io::Result<RccDir> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(name),
            Err(errno) => Err(errno.into()),
        }
    }

    /// True if `name` is a regular file.
    pub fn has_file(&self, name: &str) -> bool {
        super::beneath::facts_at(self, OsStr::new(name)).is_some()
    }

    /// Creates a file that does not exist yet, with `mode` less the umask.
    pub fn create_new(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Opens the file `name` for appending; a new one gets `mode` less the umask.
    pub fn open_append(&self, name: &str, mode: u32) -> io::Result<File> {
        self.one_regular(name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, mode)
    }

    /// Opens the file `name` to set its times.
    pub fn open_to_touch(&self, name: &str) -> io::Result<File> {
        self.one_regular(name, OFlags::RDONLY, 0)
    }

    /// Opens a regular file with a single link: one with another may have been linked here to make us change it elsewhere.
    fn one_regular(&self, name: &str, flags: OFlags, mode: u32) -> io::Result<File> {
        let refused =
            || io::Error::new(io::ErrorKind::PermissionDenied, "it is not a regular file of one name");
        let file = match rustix::fs::openat(&self.0, name, FILE | flags, Mode::from_raw_mode(mode)) {
            Err(Errno::NXIO | Errno::LOOP | Errno::MLINK | Errno::ISDIR) => return Err(refused()),
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1 {
            true => Ok(file.into()),
            false => Err(refused()),
        }
    }

    /// Renames within the directory; an entry at `to` is replaced.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes the file `name`, if it exists.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for RccDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The target of the link at `path`, if this user or root created it.
fn trusted_target(path: &Path) -> io::Result<Option<PathBuf>> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let above = rustix::fs::open(parent, DIR, Mode::empty())?;
    let look = || rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW);
    let stat = look()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(None);
    }
    let text = rustix::fs::readlinkat(&above, name, Vec::new())?;
    // The text counts only if the link was not replaced between the two calls.
    if look()?.st_ino != stat.st_ino {
        return Ok(None);
    }
    if ![0, this_process::effective_uid()].contains(&stat.st_uid) {
        let why = format!("{} is a link of user {}: not followed", path.display(), stat.st_uid);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    use std::os::unix::ffi::OsStringExt;
    Ok(Some(parent.join(std::ffi::OsString::from_vec(text.into_bytes()))))
}
