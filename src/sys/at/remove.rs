//! Removing trees, through descriptors and never through a link, however deep they are.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::TreeDir;
use crate::name::{Name, OwnedName};
use crate::sys::btrfs;

/// Directories in each other that are removed by recursion.
const DEEP: usize = 64;

/// Entries removed by one task at least.
const REMOVED_AT_ONCE: usize = 16;

impl TreeDir {
    /// Removes `name` with all that is below it, links not followed. True if there was anything.
    pub fn remove(&self, name: Name<'_>) -> io::Result<bool> {
        self.remove_at(name, 0)
    }

    fn remove_at(&self, name: Name<'_>, depth: usize) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            // What unlink says of a directory depends on the system.
            Err(Errno::ISDIR | Errno::PERM) if depth < DEEP => self.remove_tree(name, depth + 1),
            Err(Errno::ISDIR | Errno::PERM) => self.remove_flat(name),
            Err(error) => Err(error.into()),
        }
    }

    fn remove_tree(&self, name: Name<'_>, depth: usize) -> io::Result<bool> {
        let dir = self.open_dir(name)?;
        // Where users may not do it, a subvolume is emptied and removed as any directory.
        if btrfs::is_subvolume(&dir) && btrfs::destroy(self, name).is_ok() {
            return Ok(true);
        }
        let remove = |(inner, _): &(OwnedName, FileType)| dir.remove_at(inner.as_name(), depth).map(drop);
        let (dirs, others): (Vec<_>, Vec<_>) =
            dir.names()?.into_iter().partition(|(_, kind)| *kind == FileType::Directory);
        // Most directories are small: each is a task of its own, or one thread would have the whole of many a tree.
        dirs.par_iter().try_for_each(remove)?;
        others.par_iter().with_min_len(REMOVED_AT_ONCE).try_for_each(remove)?;
        rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::REMOVEDIR)?;
        Ok(true)
    }

    /// Removes the directory `name` however deep it is, with one descriptor and no recursion: what is a directory in it is
    /// moved up beside it first. Who ends us meanwhile leaves strangers there, inside a tree that goes.
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
                        let beside = format!(".holofs-gone-{}-{number}", std::process::id());
                        let beside = OwnedName::new(beside.as_bytes()).map_err(io::Error::other)?;
                        let (from, to) = (inner.as_name().as_os_str(), beside.as_name().as_os_str());
                        rustix::fs::renameat(&dir.0, from, &self.0, to)?;
                        waiting.push(beside);
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
