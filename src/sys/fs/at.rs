//! Changing a directory tree, one directory descriptor at a time.
//!
//! Every operation names one component below an open directory and follows no link, so that links planted or swapped in the tree
//! cannot redirect it. An entry is identified by what was found there, never by its path.

mod remove;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::beneath::{facts_of, facts_of_file};
pub use super::facts::{DIR_MODE, DirEntry, DirEntryKind, DirState, FileFacts};
use crate::sys::fs::name::{Name, OwnedName};
use crate::sys::text::read_lossy;

/// An open directory of a tree that may be hostile.
#[derive(Debug)]
pub struct TreeDir(OwnedFd);

/// Reads without updating the access time, where supported.
#[cfg(target_os = "linux")]
pub(super) const NOATIME: OFlags = OFlags::NOATIME;
/// No such flag on this platform.
#[cfg(not(target_os = "linux"))]
pub(super) const NOATIME: OFlags = OFlags::empty();

#[cfg(target_os = "linux")]
thread_local! {
    /// Reusable buffer for reading directory entries.
    static NAMES: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

impl TreeDir {
    /// Opens the directory at `path`, which is trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<TreeDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(TreeDir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Wraps the open directory `dir`.
    pub(super) fn of(dir: OwnedFd) -> TreeDir {
        TreeDir(dir)
    }

    /// Opens the directory `name`; a link there is an error.
    pub fn open_dir(&self, name: Name<'_>) -> io::Result<TreeDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(TreeDir(rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty())?))
    }

    /// Another descriptor of the same directory.
    pub fn reopen(&self) -> io::Result<TreeDir> {
        Ok(TreeDir(self.0.try_clone()?))
    }

    /// Creates the directory `name` with the mode RCC uses, and opens it.
    pub fn make_dir(&self, name: Name<'_>) -> io::Result<TreeDir> {
        rustix::fs::mkdirat(&self.0, name.as_os_str(), Mode::from_raw_mode(DIR_MODE.into()))?;
        self.open_dir(name)
    }

    /// Creates the file `name`, which must not exist, and opens it for reading and writing; the umask applies to `mode`.
    pub fn create(&self, name: Name<'_>, mode: u16) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::from_raw_mode(mode.into()))?.into())
    }

    /// Opens the regular file `name` for reading; does not block on a FIFO or other special file.
    pub fn open_file(&self, name: Name<'_>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Creates the symbolic link `name` with the target text `target`.
    pub fn symlink(&self, name: Name<'_>, target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.0, name.as_os_str())?)
    }

    /// Creates a hard link here to the file at the trusted path `from`.
    pub fn hardlink(&self, name: Name<'_>, from: &Path) -> io::Result<()> {
        Ok(rustix::fs::linkat(rustix::fs::CWD, from, &self.0, name.as_os_str(), AtFlags::empty())?)
    }

    /// Creates the hard link `new` here to the file `name` of `from`; a symbolic link there would itself be linked.
    pub fn hardlink_from(&self, from: &TreeDir, name: Name<'_>, new: Name<'_>) -> io::Result<()> {
        Ok(rustix::fs::linkat(&from.0, name.as_os_str(), &self.0, new.as_os_str(), AtFlags::empty())?)
    }

    /// The facts of the entry `name`; links are not followed.
    pub fn facts(&self, name: Name<'_>) -> io::Result<FileFacts> {
        Ok(facts_of(&rustix::fs::statat(&self.0, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Opens the file `name` for reading, and returns its facts; for a file whose inode number is known.
    pub fn open_with_facts(&self, name: Name<'_>) -> io::Result<(File, FileFacts)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty());
        // Updating the access time would change the tree. Only the owner may set O_NOATIME.
        let opened = match open(flags | NOATIME) {
            Err(Errno::PERM) => open(flags),
            opened => opened,
        };
        let file = File::from(opened?);
        let facts = facts_of_file(&file)?;
        Ok((file, facts))
    }

    /// Opens the file at `path` below for writing, following no link on the way. Only for a tree that is known to have a regular file
    /// there: the type is not checked.
    pub fn open_to_patch(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(super::beneath::open(self.0.as_fd(), path, flags)?.into())
    }

    /// The owner and the 12 permission bits of the directory itself.
    pub fn owner_and_mode(&self) -> io::Result<(u32, u16)> {
        let stat = rustix::fs::fstat(&self.0)?;
        Ok((stat.st_uid, (stat.st_mode & 0o7777) as u16))
    }

    /// Sets the permissions of the directory itself.
    pub fn set_dir_mode(&self, mode: u16) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode.into()))?)
    }

    /// Creates the directory `name`, accessible to its owner only.
    pub fn make_private_dir(&self, name: Name<'_>) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name.as_os_str(), Mode::RWXU)?)
    }

    /// Locks the directory itself until it is closed. Returns false if the lock is taken and `waits` is false.
    pub fn lock(&self, waits: bool) -> io::Result<bool> {
        use rustix::fs::FlockOperation::{LockExclusive, NonBlockingLockExclusive};
        match rustix::fs::flock(&self.0, if waits { LockExclusive } else { NonBlockingLockExclusive }) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            locked => Ok(locked.map(|()| true)?),
        }
    }

    /// Renames `from` into the directory `into`, to a name that is not in use.
    pub fn rename_to(&self, from: Name<'_>, into: &TreeDir, to: Name<'_>) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from.as_os_str(), &into.0, to.as_os_str())?)
    }

    /// Renames within this directory; a file or link at `to` is replaced atomically.
    pub fn rename(&self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from.as_os_str(), &self.0, to.as_os_str())?)
    }

    /// Renames within this directory to a name that must not exist.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    pub fn rename_new(&self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(&self.0, from.as_os_str(), &self.0, to.as_os_str(), RenameFlags::NOREPLACE) {
            // File systems without the flag; a directory can only replace an empty one.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename(from, to),
            outcome => Ok(outcome?),
        }
    }

    /// The names of all entries, unordered.
    pub fn entry_names(&self) -> io::Result<Vec<OwnedName>> {
        Ok(self.names()?.into_iter().map(|(name, _)| name).collect())
    }

    /// The kind of the entry `name`; `None` if there is none.
    pub fn find(&self, name: Name<'_>) -> io::Result<Option<DirEntryKind>> {
        match self.kind_of(name, FileType::Unknown) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            kind => kind.map(Some),
        }
    }

    /// The current state of the directory itself.
    pub fn state(&self) -> io::Result<DirState> {
        let stat = rustix::fs::fstat(&self.0)?;
        #[allow(clippy::unnecessary_cast, reason = "their types differ between systems")]
        let (seconds, nanos) = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        Ok(DirState { device: stat.st_dev as u64, ino: stat.st_ino as u64, changed: (seconds, nanos) })
    }

    /// All entries, unordered. Entries that vanish meanwhile are left out.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        let names = self.names()?;
        let mut entries = Vec::with_capacity(names.len());
        for (name, file_type) in names {
            match self.kind_of(name.as_name(), file_type) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                kind => entries.push(DirEntry { kind: kind?, name }),
            }
        }
        Ok(entries)
    }

    fn kind_of(&self, name: Name<'_>, known: FileType) -> io::Result<DirEntryKind> {
        match known {
            FileType::Directory => Ok(DirEntryKind::Dir),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(&self.0, name.as_os_str(), Vec::new())?;
                Ok(DirEntryKind::Link(text.into_bytes().into()))
            }
            FileType::RegularFile | FileType::Unknown => self.stat(name),
            _ => Ok(DirEntryKind::Other),
        }
    }

    fn stat(&self, name: Name<'_>) -> io::Result<DirEntryKind> {
        let (mode, size) = size_and_mode(&self.0, name)?;
        match FileType::from_raw_mode(mode.into()) {
            FileType::RegularFile => Ok(DirEntryKind::File { size, mode: mode & 0o7777 }),
            FileType::Unknown => Ok(DirEntryKind::Other),
            other => self.kind_of(name, other),
        }
    }

    /// The names, and the file types that the directory stores.
    #[cfg(target_os = "linux")]
    fn names(&self) -> io::Result<Vec<(OwnedName, FileType)>> {
        rustix::fs::seek(&self.0, rustix::fs::SeekFrom::Start(0))?;
        let mut names = Vec::new();
        // Reused: allocating a large buffer per directory would be a tenth of the cost of a walk.
        let mut buffer = NAMES.take();
        buffer.reserve(32 << 10);
        let mut dir = rustix::fs::RawDir::new(&self.0, buffer.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry = entry?;
            if let Ok(name) = OwnedName::new(entry.file_name().to_bytes()) {
                names.push((name, entry.file_type()));
            }
        }
        NAMES.set(buffer);
        Ok(names)
    }

    /// The names, and the file types that the directory stores.
    #[cfg(not(target_os = "linux"))]
    fn names(&self) -> io::Result<Vec<(OwnedName, FileType)>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            if let Ok(name) = OwnedName::new(entry.file_name().to_bytes()) {
                names.push((name, entry.file_type()));
            }
        }
        Ok(names)
    }
}

impl AsFd for TreeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The raw mode and the size; of the link itself if it is a link.
#[cfg(target_os = "linux")]
fn size_and_mode(dir: &OwnedFd, name: Name<'_>) -> io::Result<(u16, u64)> {
    use rustix::fs::{StatxFlags, statx};
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::SIZE;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let found = statx(dir, name.as_os_str(), flags, wanted)?;
    Ok((found.stx_mode, found.stx_size))
}

/// The raw mode and the size; of the link itself if it is a link.
#[cfg(not(target_os = "linux"))]
fn size_and_mode(dir: &OwnedFd, name: Name<'_>) -> io::Result<(u16, u64)> {
    let found = rustix::fs::statat(dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_mode as u16, found.st_size as u64))
}

/// Sets all 12 permission bits of an open file.
pub fn set_mode(file: &File, mode: u16) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode.into()))?)
}

/// The permission bits that a file created with the 12 permission bits `mode` has on disk: all of them.
pub fn mode_on_disk(mode: u16) -> u16 {
    mode
}

/// The text that a link to `target` has on disk: that text.
pub fn target_on_disk(target: &[u8]) -> Cow<'_, [u8]> {
    target.into()
}

/// Sets access and modification time of an open file, in seconds since 1970.
pub fn set_times(file: &File, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Makes everything on the file system of `dir` durable.
#[cfg(target_os = "linux")]
pub fn sync_file_system(dir: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

/// Makes everything on the file system of `dir` durable, as far as the platform has a call for that.
#[cfg(not(target_os = "linux"))]
pub fn sync_file_system(dir: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Syncs a new file where a power cut could otherwise leave it with the right size and time but other content. Not needed here: a file
/// gets its size when it gets its blocks.
pub fn settle(_file: &File) -> io::Result<()> {
    Ok(())
}

/// The umask of this process, where it can be read without changing it.
pub fn umask() -> Option<u16> {
    let status = read_lossy("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u16::from_str_radix(line.trim(), 8).ok()
}

/// True for errors that would hit every other file too: no space, no quota, a read-only or broken file system.
pub fn is_hopeless(error: &io::Error) -> bool {
    let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::NODEV];
    Errno::from_io_error(error).is_some_and(|errno| hopeless.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn entries_are_listed_with_their_facts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        symlink("nowhere/at all", dir.path().join("l")).unwrap();
        let tree = TreeDir::open(dir.path()).unwrap();
        let file = tree.create(name("f"), 0o600).unwrap();
        set_mode(&file, 0o4751).unwrap();
        drop(fs::write(dir.path().join("g"), "abc"));
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let mut entries = tree.entries().unwrap();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let kinds: Vec<_> =
            entries.iter().map(|entry| (entry.name.to_string(), entry.kind.clone())).collect();
        let link = DirEntryKind::Link(b"nowhere/at all".as_slice().into());
        assert_eq!(kinds[0], ("d".into(), DirEntryKind::Dir));
        assert_eq!(kinds[1], ("f".into(), DirEntryKind::File { size: 0, mode: 0o4751 }));
        assert!(matches!(kinds[2].1, DirEntryKind::File { size: 3, .. }));
        assert_eq!(kinds[3], ("l".into(), link));
        assert_eq!(kinds[4], ("s".into(), DirEntryKind::Other));
        assert_eq!(tree.entries().unwrap().len(), 5, "listing twice works");
        assert_eq!(tree.find(name("absent")).unwrap(), None);
        assert_eq!(tree.find(name("d")).unwrap(), Some(DirEntryKind::Dir));
    }

    #[test]
    fn links_are_neither_opened_nor_written_through() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), dir.path().join("d")).unwrap();
        symlink(outside.path().join("f"), dir.path().join("f")).unwrap();
        let tree = TreeDir::open(dir.path()).unwrap();
        assert!(tree.open_dir(name("d")).is_err());
        assert!(tree.open_file(name("f")).is_err());
        fs::write(outside.path().join("g"), "").unwrap();
        for path in ["f", "d/g", "../g"] {
            assert!(tree.open_to_patch(Path::new(path)).is_err(), "{path}");
        }
        assert!(tree.create(name("f"), 0o644).is_err());
        assert!(tree.make_dir(name("d")).is_err());
        assert!(tree.rename_new(name("f"), name("d")).is_err());
    }
}
