//! Files below a directory, opened by descriptor and relative name without following any link.
//!
//! The contents of a [`Dir`] may be hostile: nothing here leaves the directory, follows a link, blocks on a FIFO or returns anything
//! but a regular file. Linux resolves the whole name in the kernel (openat2); where that is missing or forbidden, the name is walked
//! component by component with `O_NOFOLLOW`.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub use super::facts::{FileFacts, OpenError};

/// Opens a directory only as a starting point.
#[cfg(target_os = "linux")]
const DIR_ONLY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// No such flag on this platform.
#[cfg(not(target_os = "linux"))]
const DIR_ONLY: OFlags = OFlags::DIRECTORY;

/// An open directory, the root of relative names.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// The names in `dir`, without `.` and `..`, unordered.
pub(super) fn names(dir: rustix::fs::Dir) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in dir {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

impl Dir {
    /// Opens the directory at `path`, which is trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens the directory that `seen` describes; fails if the path is now a link or another directory.
    pub fn open_seen(path: &Path, seen: &Metadata) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let now = rustix::fs::fstat(&dir)?;
        if (now.st_dev, now.st_ino) != (seen.dev(), seen.ino()) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "another directory has taken its place"));
        }
        Ok(Dir(dir))
    }

    /// Wraps the open directory `dir`.
    pub(super) fn of(dir: OwnedFd) -> Dir {
        Dir(dir)
    }

    /// Opens the directory `name` below, without following links.
    pub fn open_dir(&self, name: &Path) -> Result<Dir, OpenError> {
        self.resolve(name, OFlags::RDONLY | OFlags::DIRECTORY).map(Dir)
    }

    /// Opens the regular file `name` below for reading.
    pub fn open_file(&self, name: &Path) -> Result<(File, FileFacts), OpenError> {
        let file = File::from(self.resolve(name, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let facts = facts_if_regular(&file)?;
        Ok((file, facts))
    }

    /// The facts of `name`, links not followed; `None` if it is not a regular file or does not exist.
    pub fn facts(&self, name: &Path) -> Option<FileFacts> {
        facts_at(self, name.as_os_str())
    }

    /// Hard-links the file `name` below to `new` in `into`. No link on the way is followed; a symbolic link at `name` would itself be
    /// linked.
    pub fn hardlink(&self, name: &Path, into: &impl AsFd, new: &OsStr) -> Result<(), OpenError> {
        let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
        let opened = parent.map(|parent| self.resolve(parent, DIR_ONLY)).transpose()?;
        let from = opened.as_ref().map_or(self.as_fd(), AsFd::as_fd);
        let file = name.file_name().unwrap_or_default();
        rustix::fs::linkat(from, file, into, new, AtFlags::empty()).map_err(explain)
    }

    /// Creates the directory `name` with `mode`; an existing one is left unchanged.
    pub fn ensure_dir(&self, name: &Path, mode: u16) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode.into())) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the file `name`, one component that must not exist, for writing and reading.
    pub fn create_new(&self, name: &Path, mode: u16) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode.into()))?.into())
    }

    /// Renames within the directory; an entry at `to` is replaced atomically.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Renames the file `name` to the same name in `into`.
    pub fn rename_into(&self, name: &OsStr, into: &impl AsFd) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, into, name)?)
    }

    /// Removes the file `name`; true if it existed.
    pub fn remove_file(&self, name: &Path) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in the directory, without `.` and `..`, unordered.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        names(rustix::fs::Dir::read_from(&self.0)?)
    }

    /// The number of files in it, at any depth, whose name `counts` accepts, and the bytes they use on disk. Files that vanish
    /// meanwhile are not counted; a directory that cannot be read is logged.
    pub fn disk_usage(&self, counts: &dyn Fn(&OsStr) -> bool) -> io::Result<(u64, u64)> {
        let (mut files, mut bytes, mut left) = (0, 0, vec![PathBuf::new()]);
        while let Some(at) = left.pop() {
            let opened = if at.as_os_str().is_empty() { None } else { Some(self.open_dir(&at)) };
            let dir = match opened.transpose() {
                Ok(below) => below,
                Err(OpenError::Missing | OpenError::NotRegular(_) | OpenError::Link) => continue,
                Err(OpenError::Other(error)) => {
                    log::warn!("Cannot list {}: {error}", at.display());
                    continue;
                }
            };
            let dir = dir.as_ref().unwrap_or(self);
            for name in dir.names()? {
                let name = OsStr::from_bytes(&name);
                let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    left.push(at.join(name));
                } else if counts(name) {
                    files += 1;
                    bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                }
            }
        }
        Ok((files, bytes))
    }

    /// The owner and the 12 permission bits of the directory itself.
    pub fn owner_and_mode(&self) -> io::Result<(u32, u16)> {
        let facts = facts_of(&rustix::fs::fstat(&self.0)?);
        Ok((facts.uid, facts.mode))
    }

    /// Opens `name` with `flags`, resolved beneath this directory.
    fn resolve(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
        open(self.as_fd(), name, flags).map_err(explain)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens `name` with `flags`, resolved beneath `dir` and following no link.
pub(super) fn open(dir: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    match resolve_at_once(dir, name, flags) {
        // Seccomp filters that do not know openat2 answer EPERM.
        Err(Errno::NOSYS | Errno::PERM) => resolve_stepwise(dir, name, flags),
        result => result,
    }
}

/// The facts of an open file.
pub fn facts_of_file(file: &File) -> io::Result<FileFacts> {
    Ok(facts_of(&rustix::fs::fstat(file)?))
}

/// The facts of `name` in `dir`, links not followed; `None` if it is not a regular file or does not exist.
pub fn facts_at(dir: &impl AsFd, name: &OsStr) -> Option<FileFacts> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| facts_of(&stat))
}

/// True if the error means that this process, or the system, has no descriptors left.
pub fn is_descriptor_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn facts_if_regular(file: &File) -> Result<FileFacts, OpenError> {
    let stat = rustix::fs::fstat(file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(facts_of(&stat)),
        FileType::Directory => Err(OpenError::NotRegular("directory")),
        FileType::Fifo => Err(OpenError::NotRegular("FIFO")),
        FileType::Socket => Err(OpenError::NotRegular("socket")),
        FileType::Symlink => Err(OpenError::Link),
        _ => Err(OpenError::NotRegular("device")),
    }
}

// The widths and signs of these fields differ between platforms.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
pub(super) fn facts_of(stat: &Stat) -> FileFacts {
    FileFacts {
        id: (stat.st_dev as u64, stat.st_ino as u64),
        size: stat.st_size as u64,
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        last_use: (stat.st_atime as i64).max(stat.st_ctime as i64),
    }
}

fn explain(errno: Errno) -> OpenError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => OpenError::Missing,
        Errno::LOOP | Errno::MLINK | Errno::XDEV => OpenError::Link,
        Errno::NXIO => OpenError::NotRegular("socket or device"),
        other => OpenError::Other(other.into()),
    }
}

/// One system call for the whole name; the kernel may ask for a retry after a concurrent rename.
#[cfg(target_os = "linux")]
fn resolve_at_once(dir: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    const TRIES: usize = 16;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..TRIES {
        match rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::NOSYS)
}

#[cfg(not(target_os = "linux"))]
fn resolve_at_once(_: BorrowedFd<'_>, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// The same result with one open per component.
fn resolve_stepwise(dir: BorrowedFd<'_>, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut reached: Option<OwnedFd> = None;
    let mut components = name.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(component) = component else { return Err(Errno::XDEV) };
        let at = reached.as_ref().map_or(dir, AsFd::as_fd);
        let last = components.peek().is_none();
        let how = if last { flags | OFlags::NOFOLLOW | OFlags::CLOEXEC } else { step };
        let next = rustix::fs::openat(at, component, how, Mode::empty());
        reached = Some(next.map_err(|errno| tell_link(at, Path::new(component), errno))?);
    }
    reached.ok_or(Errno::NOENT)
}

/// For a link, `O_DIRECTORY | O_NOFOLLOW` gives ENOTDIR: checks whether it is one.
fn tell_link(at: BorrowedFd<'_>, name: &Path, errno: Errno) -> Errno {
    let is_link = || {
        rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    };
    if errno == Errno::NOTDIR && is_link() { Errno::LOOP } else { errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// A directory with `a/b` (a file), links and other entries; both ways of opening are tested.
    fn planted() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("a")).unwrap();
        fs::write(temp.path().join("a/b"), "content").unwrap();
        symlink("b", temp.path().join("a/link")).unwrap();
        symlink("a", temp.path().join("dirlink")).unwrap();
        let fifo = temp.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        temp
    }

    fn both(dir: &Dir, name: &str) -> [String; 2] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let ways = [resolve_at_once, resolve_stepwise];
        ways.map(|way| {
            let opened = way(dir.as_fd(), Path::new(name), flags).map_err(explain).map(File::from);
            match opened.and_then(|file| facts_if_regular(&file)) {
                Ok(facts) => format!("{} bytes", facts.size),
                Err(error) => error.to_string(),
            }
        })
    }

    #[test]
    fn only_regular_files_beneath_are_opened_in_both_ways() {
        let temp = planted();
        let dir = Dir::open(temp.path()).unwrap();
        let _socket = UnixListener::bind(temp.path().join("socket")).unwrap();
        let link = "It is a symbolic link, or is behind one";
        let cases = [
            ("a/b", "7 bytes"),
            ("a/none", "There is no such file"),
            ("a/b/c", "There is no such file"),
            ("a/link", link),
            ("dirlink/b", link),
            ("../x", link),
            ("fifo", "It is a FIFO, not a file"),
            ("a", "It is a directory, not a file"),
            ("socket", "It is a socket or device, not a file"),
        ];
        for (name, expected) in cases {
            assert_eq!(both(&dir, name), [expected, expected], "{name}");
        }
    }

    #[test]
    fn a_device_is_no_file() {
        let dev = Dir::open(Path::new("/dev")).unwrap();
        assert!(matches!(dev.open_file(Path::new("zero")), Err(OpenError::NotRegular("device"))));
    }

    #[test]
    fn a_new_file_is_created_once_renamed_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let (old, new) = (Path::new("old"), Path::new("new"));
        dir.create_new(old, 0o600).unwrap();
        assert_eq!(dir.create_new(old, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        dir.rename(old, new).unwrap();
        assert_eq!(dir.facts(new).map(|facts| facts.mode), Some(0o600));
        assert_eq!(dir.names().unwrap(), [b"new"]);
        assert!(dir.remove_file(new).unwrap());
        assert!(!dir.remove_file(new).unwrap());
    }
}
