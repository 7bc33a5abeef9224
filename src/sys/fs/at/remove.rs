//! Removing trees of any depth, through descriptors and never through a link.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::TreeDir;
use crate::sys::fs::btrfs;
use crate::sys::fs::name::{Name, OwnedName};

/// Depth of nested directories that are removed by recursion.
const DEEP: usize = 64;

/// Minimum number of entries that one task removes.
const REMOVED_AT_ONCE: usize = 16;

impl TreeDir {
    /// Removes `name` and everything below it; links are not followed. True if it existed.
    pub fn remove(&self, name: Name<'_>) -> io::Result<bool> {
        self.remove_at(name, 0)
    }

    /// Removes `name` unless it is a directory, for which it returns `None`; otherwise true if it existed.
    pub fn remove_plain(&self, name: Name<'_>) -> io::Result<Option<bool>> {
        match rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::empty()) {
            Ok(()) => Ok(Some(true)),
            Err(Errno::NOENT) => Ok(Some(false)),
            // The errno of unlink for a directory depends on the system.
            Err(Errno::ISDIR | Errno::PERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the empty directory `name`.
    pub fn remove_empty_dir(&self, name: Name<'_>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::REMOVEDIR)?)
    }

    fn remove_at(&self, name: Name<'_>, depth: usize) -> io::Result<bool> {
        match self.remove_plain(name)? {
            Some(removed) => Ok(removed),
            None if depth >= DEEP => self.remove_flat(name),
            None => match self.remove_tree(name, depth + 1) {
                // The directory denied access before; it no longer does.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && self.open_up(name)? => {
                    self.remove_tree(name, depth + 1)
                }
                outcome => outcome,
            },
        }
    }

    /// Gives the owner all permissions on the directory `name`; false if the owner has them already.
    #[cfg(not(target_os = "linux"))]
    fn open_up(&self, name: Name<'_>) -> io::Result<bool> {
        let stat = rustix::fs::statat(&self.0, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if mode.contains(Mode::RWXU) {
            return Ok(false);
        }
        rustix::fs::chmodat(&self.0, name.as_os_str(), mode | Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(true)
    }

    /// Gives the owner all permissions on the directory `name`; false if the owner has them already.
    #[cfg(target_os = "linux")]
    fn open_up(&self, name: Name<'_>) -> io::Result<bool> {
        use rustix::fs::OFlags;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty())?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&dir)?.st_mode & 0o7777);
        if mode.contains(Mode::RWXU) {
            return Ok(false);
        }
        // The path through the descriptor works even where the directory may not be opened, and follows no link.
        let itself = format!("/proc/self/fd/{}", dir.as_raw_fd());
        Ok(rustix::fs::chmod(itself, mode | Mode::RWXU).map(|()| true)?)
    }

    fn remove_tree(&self, name: Name<'_>, depth: usize) -> io::Result<bool> {
        let dir = self.open_dir(name)?;
        // Where users may not destroy a subvolume, it is emptied and removed like any directory.
        if btrfs::is_subvolume(&dir) && btrfs::destroy(self, name).is_ok() {
            return Ok(true);
        }
        let remove = |(inner, _): &(OwnedName, FileType)| dir.remove_at(inner.as_name(), depth).map(drop);
        let (dirs, others): (Vec<_>, Vec<_>) =
            dir.names()?.into_iter().partition(|(_, kind)| *kind == FileType::Directory);
        // Most directories are small, so each is a separate task; otherwise one thread would often get a whole tree.
        dirs.par_iter().try_for_each(remove)?;
        others.par_iter().with_min_len(REMOVED_AT_ONCE).try_for_each(remove)?;
        rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::REMOVEDIR)?;
        Ok(true)
    }

    /// Removes the directory `name` at any depth, with one descriptor and no recursion: its subdirectories are first moved up next to
    /// it. If interrupted, it leaves the moved directories there, inside a tree that is being removed anyway.
    fn remove_flat(&self, name: Name<'_>) -> io::Result<bool> {
        static MOVED: AtomicU64 = AtomicU64::new(0);
        let mut waiting = vec![name.to_owned()];
        while let Some(next) = waiting.pop() {
            let dir = self.open_dir(next.as_name())?;
            for inner in dir.entry_names()? {
                match rustix::fs::unlinkat(&dir.0, inner.as_name().as_os_str(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR | Errno::PERM) => {
                        let number = MOVED.fetch_add(1, Ordering::Relaxed);
                        let aside = format!(".holofs-gone-{}-{number}", std::process::id());
                        let aside = OwnedName::new(aside.as_bytes()).map_err(io::Error::other)?;
                        let (from, to) = (inner.as_name().as_os_str(), aside.as_name().as_os_str());
                        rustix::fs::renameat(&dir.0, from, &self.0, to)?;
                        waiting.push(aside);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            rustix::fs::unlinkat(&self.0, next.as_name().as_os_str(), AtFlags::REMOVEDIR)?;
        }
        Ok(true)
    }
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
    fn removing_a_tree_follows_no_link() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("precious"), "x").unwrap();
        fs::create_dir_all(dir.path().join("t/deep/er")).unwrap();
        symlink(outside.path(), dir.path().join("t/deep/er/link")).unwrap();
        symlink(outside.path(), dir.path().join("top")).unwrap();
        let tree = TreeDir::open(dir.path()).unwrap();
        assert!(tree.remove(name("t")).unwrap());
        assert!(tree.remove(name("top")).unwrap());
        assert!(!tree.remove(name("t")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn a_directory_that_locks_its_owner_out_is_opened_once_and_never_through_a_link() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(dir.path().join("t/dark")).unwrap().permissions().mode() & 0o7777;
        fs::create_dir_all(dir.path().join("t/dark")).unwrap();
        fs::write(dir.path().join("t/dark/file"), "x").unwrap();
        fs::set_permissions(dir.path().join("t/dark"), fs::Permissions::from_mode(0o050)).unwrap();
        symlink("t/dark", dir.path().join("link")).unwrap();
        let tree = TreeDir::open(dir.path()).unwrap();
        assert!(tree.open_up(name("link")).is_err());
        assert_eq!(mode(), 0o050);
        let inner = tree.open_dir(name("t")).unwrap();
        assert!(inner.open_up(name("dark")).unwrap());
        assert_eq!(mode(), 0o750);
        assert!(!inner.open_up(name("dark")).unwrap(), "nothing more can be done");
        fs::set_permissions(dir.path().join("t/dark"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(tree.remove(name("t")).unwrap());
    }

    #[test]
    fn a_tree_deeper_than_any_stack_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(dir.path()).unwrap();
        let mut inner = tree.make_dir(name("d")).unwrap();
        for _ in 0..3000 {
            inner.create(name("f"), 0o600).unwrap();
            inner.make_dir(name("e")).unwrap();
            inner = inner.make_dir(name("d")).unwrap();
        }
        assert!(tree.remove(name("d")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
