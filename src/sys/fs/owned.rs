//! A directory of our own state, which is used only if this user owns it.
//!
//! It is opened without following a link, and only if it belongs to this user (or to root, who can do anything anyway) and nobody else
//! may write to it. Its contents are reached through its descriptor: directories that pass the same test, and regular files, never
//! through a link and without blocking on a FIFO. So no other user can plant, replace or redirect anything here, whatever happens to
//! the directories above.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::at::TreeDir;
use super::beneath::Dir;
use crate::sys::process::this_process;

/// How a directory is opened.
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How a directory on the way to another one is opened: a sandbox may forbid listing it.
#[cfg(target_os = "linux")]
const STEP: OFlags = OFlags::PATH.union(DIR);
/// No such flag on this platform.
#[cfg(not(target_os = "linux"))]
const STEP: OFlags = DIR;
/// How every file is opened, for any purpose.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// The mode of all our files.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Maximum depth to which our own trees are walked.
const DEEPEST: usize = 128;

/// An open directory of our own.
#[derive(Debug)]
pub struct OwnedDir {
    dir: OwnedFd,
    /// The path by which it was opened: for messages.
    path: PathBuf,
}

impl OwnedDir {
    /// Opens the directory at `path`. The directories above are trusted and may be links; the directory itself may not.
    pub fn open(path: &Path) -> io::Result<OwnedDir> {
        let opened = rustix::fs::open(path, DIR, Mode::empty());
        let dir = opened.map_err(|errno| explain(&rustix::fs::CWD, path, errno))?;
        OwnedDir::checked(dir, path.to_owned())
    }

    /// As [`OwnedDir::open`]; creates the directory and its parents, 0700, where they are missing.
    pub fn ensure(path: &Path) -> io::Result<OwnedDir> {
        match OwnedDir::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                super::dir::ensure_private(path)?;
                OwnedDir::open(path)
            }
            opened => opened,
        }
    }

    /// Opens the directory `name` below; every component must be ours.
    pub fn open_dir(&self, name: &Path) -> io::Result<OwnedDir> {
        self.walk(name, |at, component, flags| rustix::fs::openat(at, component, flags, Mode::empty()))
    }

    /// As [`OwnedDir::open_dir`]; missing directories are created, 0700.
    pub fn ensure_dir(&self, name: &Path) -> io::Result<OwnedDir> {
        self.walk(name, |at, component, flags| {
            match rustix::fs::openat(at, component, flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                opened => return opened,
            }
            match rustix::fs::mkdirat(at, component, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(at, component, flags, Mode::empty()),
                Err(errno) => Err(errno),
            }
        })
    }

    fn walk(
        &self,
        name: &Path,
        step: impl Fn(BorrowedFd<'_>, &OsStr, OFlags) -> Result<OwnedFd, Errno>,
    ) -> io::Result<OwnedDir> {
        let mut reached = OwnedDir { dir: self.dir.try_clone()?, path: self.path.clone() };
        let mut components = name.components().peekable();
        while let Some(component) = components.next() {
            let Component::Normal(component) = component else {
                return Err(refused("it leads out of the directory"));
            };
            let flags = if components.peek().is_some() { STEP } else { DIR };
            let opened = step(reached.dir.as_fd(), component, flags);
            let dir = opened.map_err(|errno| explain(&reached.dir, Path::new(component), errno))?;
            reached = OwnedDir::checked(dir, reached.path.join(component))?;
        }
        Ok(reached)
    }

    /// Returns the directory if it may be used.
    fn checked(dir: OwnedFd, path: PathBuf) -> io::Result<OwnedDir> {
        let stat = rustix::fs::fstat(&dir)?;
        let mode = stat.st_mode & 0o7777;
        if stat.st_uid != 0 && stat.st_uid != this_process::effective_uid() {
            return Err(refused(&format!(
                "{} belongs to user {}, neither to you nor to root; set HOLOFS_HOME to a directory of your own",
                path.display(),
                stat.st_uid
            )));
        }
        if mode & 0o022 != 0 {
            return Err(refused(&format!("others may write to {} (mode {mode:04o})", path.display())));
        }
        Ok(OwnedDir { dir, path })
    }

    /// The path by which it was opened: for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.dir
    }

    /// True if it was removed, so that nothing can be created in it.
    pub fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The same directory, for reading trees of files.
    pub fn beneath(&self) -> io::Result<Dir> {
        Ok(Dir::of(self.dir.try_clone()?))
    }

    /// The same directory, for changing trees.
    pub fn tree(&self) -> io::Result<TreeDir> {
        Ok(TreeDir::of(self.dir.try_clone()?))
    }

    /// Opens the regular file `name` for reading.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        self.regular(name, OFlags::RDONLY, Mode::empty())
    }

    /// Opens the regular file `name` for reading and writing; creates it, 0600, if it does not exist.
    pub fn open_or_create(&self, name: &OsStr) -> io::Result<File> {
        self.regular(name, OFlags::RDWR | OFlags::CREATE, PRIVATE)
    }

    /// Opens the regular file `name` for appending; creates it, 0600, if it does not exist.
    pub fn open_to_append(&self, name: &OsStr) -> io::Result<File> {
        self.regular(name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, PRIVATE)
    }

    /// Creates the file `name`, 0600, which must not exist, for reading and writing.
    pub(super) fn create_new(&self, name: &OsStr) -> io::Result<File> {
        let flags = FILE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(rustix::fs::openat(&self.dir, name, flags, PRIVATE)?.into())
    }

    /// Creates a hard link at `path` to the file `name`.
    pub(super) fn link_at(&self, name: &OsStr, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.dir, name, rustix::fs::CWD, path, AtFlags::empty())?)
    }

    /// True if an entry of that name exists; a link counts, even a dangling one.
    pub fn has(&self, name: &OsStr) -> io::Result<bool> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The size of `name` below, in bytes. What leads to it is not checked, so this is only a hint.
    pub fn size_hint(&self, name: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }

    /// True if `name` still refers to `file`.
    pub fn names_file(&self, name: &OsStr, file: &File) -> io::Result<bool> {
        let ours = rustix::fs::fstat(file)?;
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes the file `name`; true if it existed.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Renames within the directory; a file at `to` is replaced.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    /// The names in it, without `.` and `..`, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        // Needs its own descriptor: two concurrent listings would share the position.
        let opened = rustix::fs::openat(&self.dir, ".", DIR, Mode::empty())?;
        let names = super::beneath::names(rustix::fs::Dir::new(opened)?)?;
        let mut names: Vec<OsString> = names.into_iter().map(OsString::from_vec).collect();
        names.sort();
        Ok(names)
    }

    /// Total bytes of the regular files in it.
    pub fn file_bytes(&self) -> io::Result<u64> {
        let files = self.names()?.into_iter().filter_map(|name| super::beneath::facts_at(self, &name));
        Ok(files.map(|facts| facts.size).sum())
    }

    /// When anything of `name` was last read or written. Walking a directory updates its access time, so for a non-empty directory
    /// only the files count.
    pub fn last_use(&self, name: &OsStr) -> io::Result<SystemTime> {
        last_use(self.dir.as_fd(), name, DEEPEST)
    }

    /// Makes the names in it durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn regular(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<File> {
        let opened = rustix::fs::openat(&self.dir, name, FILE | flags, mode);
        let opened = opened.map_err(|errno| explain(&self.dir, Path::new(name), errno))?;
        match FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) {
            FileType::RegularFile => Ok(opened.into()),
            _ => Err(refused(&format!("{} is not a regular file", self.path.join(name).display()))),
        }
    }
}

impl AsFd for OwnedDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types differ from system to system")]
fn last_use(at: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<SystemTime> {
    let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let since = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let written = since(stat.st_mtime as i64);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(written.max(since(stat.st_atime as i64))),
        FileType::Directory if depth > 0 => {
            let dir = Dir::of(rustix::fs::openat(at, name, DIR, Mode::empty())?);
            let names = dir.names()?.into_iter().map(OsString::from_vec);
            let uses = names.filter_map(|name| last_use(dir.as_fd(), &name, depth - 1).ok());
            Ok(uses.fold(written, SystemTime::max))
        }
        _ => Ok(written),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// For a link, `O_NOFOLLOW` gives ELOOP, and with `O_DIRECTORY` ENOTDIR: makes the error name the real cause.
fn explain(at: &impl AsFd, name: &Path, errno: Errno) -> io::Error {
    let is_link = || {
        rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    };
    match errno {
        Errno::LOOP | Errno::MLINK | Errno::NOTDIR if is_link() => {
            refused(&format!("{} is a symbolic link, which is never followed here", name.display()))
        }
        Errno::NXIO => refused(&format!("{} is not a regular file", name.display())),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn os(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn what_others_may_write_to_or_is_a_link_is_not_opened() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnedDir::open(temp.path()).unwrap();
        symlink("elsewhere", temp.path().join("link")).unwrap();
        fs::create_dir(temp.path().join("elsewhere")).unwrap();
        for mode in [0o777, 0o720, 0o702] {
            fs::set_permissions(temp.path().join("elsewhere"), Permissions::from_mode(mode)).unwrap();
            let error = dir.open_dir(Path::new("elsewhere")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
            assert!(error.to_string().starts_with("others may write to"), "{error}");
        }
        fs::set_permissions(temp.path().join("elsewhere"), Permissions::from_mode(0o755)).unwrap();
        assert!(dir.open_dir(Path::new("elsewhere")).is_ok());
        for name in ["link", "link/x", "../x", "/"] {
            let error = dir.ensure_dir(Path::new(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
        }
        assert!(OwnedDir::open(&temp.path().join("link")).is_err());
        assert!(OwnedDir::ensure(&temp.path().join("link")).is_err());
    }

    #[test]
    fn a_directory_of_another_user_is_not_ours() {
        if this_process::effective_uid() != 0 {
            return eprintln!("skipped: only root can give a directory away");
        }
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(temp.path(), Some(12_345), None).unwrap();
        let error = OwnedDir::open(temp.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("belongs to user 12345"), "{error}");
    }

    #[test]
    fn links_and_fifos_are_neither_opened_nor_waited_for_nor_written_through() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let precious = outside.path().join("precious");
        fs::write(&precious, "x").unwrap();
        symlink(&precious, temp.path().join("link")).unwrap();
        let fifo = temp.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let dir = OwnedDir::open(temp.path()).unwrap();
        for name in ["link", "fifo"] {
            let name = os(name);
            let opened =
                [dir.open_file(name).err(), dir.open_or_create(name).err(), dir.open_to_append(name).err()];
            let kinds = opened.map(|error| error.map(|error| error.kind()));
            assert_eq!(kinds, [Some(io::ErrorKind::PermissionDenied); 3], "{name:?}");
            dir.mark(name).unwrap();
            dir.publish(name, b"ours").unwrap();
            assert_eq!(dir.read(name, 4).unwrap(), b"ours");
        }
        assert_eq!(fs::read(&precious).unwrap(), b"x");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_larger_than_it_may_be_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnedDir::open(temp.path()).unwrap();
        dir.publish(os("file"), b"12345").unwrap();
        assert_eq!(dir.read(os("file"), 5).unwrap(), b"12345");
        assert_eq!(dir.read(os("file"), 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_made_here_is_private_under_any_umask() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OwnedDir::ensure(&temp.path().join("a/b")).unwrap().ensure_dir(Path::new("c/d")).unwrap();
        dir.publish(os("published"), b"").unwrap();
        drop((dir.open_or_create(os("made")).unwrap(), dir.open_to_append(os("log")).unwrap()));
        let mode = |path: &str| fs::metadata(temp.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["a", "a/b", "a/b/c", "a/b/c/d"].map(mode), [0o700; 4]);
        assert_eq!(["published", "made", "log"].map(|name| mode(&format!("a/b/c/d/{name}"))), [0o600; 3]);
        assert_eq!(dir.names().unwrap(), ["log", "made", "published"]);
        let made = dir.open_file(os("made")).unwrap();
        assert!(dir.names_file(os("made"), &made).unwrap());
        dir.rename(os("log"), os("made")).unwrap();
        assert!(!dir.names_file(os("made"), &made).unwrap());
        assert!(dir.remove_file(os("made")).unwrap() && !dir.remove_file(os("made")).unwrap());
    }
}
