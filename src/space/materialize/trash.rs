//! Directories to remove are set aside by one rename each, and deleted when no command waits for that.
//!
//! ```text
//! <base>/.holofs-trash-<uid>/.holofs-gone-<unique>   a directory that was in a space; 0700, ours alone
//! ```
//! Anything in the trash with such a name is garbage at all times. So a crash leaves only garbage, which the next run of this
//! user in that base has deleted, as does `gc`. Nothing else in the trash is touched. Any number of runs may put things there
//! while one process sweeps: it finishes by removing the empty trash, and a run that finds the trash gone creates another one.
//!
//! RCC does not know the name and leaves it alone. A rename that fails (another subvolume, a lower layer of an overlay, a directory
//! that is not ours) is not an error: the directory is then removed in place.

use std::io;
use std::path::{Path, PathBuf};

use super::place::TempNames;
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::{Name, OwnedName};
use crate::sys::process::this_process;

/// The prefix of all names in the trash.
const GONE: &str = ".holofs-gone-";

/// Where a run puts removed directories.
pub(super) struct Trash {
    base: TreeDir,
    name: OwnedName,
    names: TempNames,
}

/// What to do while another process sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Leave the work to it.
    LeaveToIt,
    /// Wait until it is done, because nothing can continue before.
    WaitFor,
}

impl Trash {
    /// The trash of this user in the open `base`; creates nothing.
    pub fn new(base: &TreeDir) -> io::Result<Trash> {
        Ok(Trash { base: base.reopen()?, name: trash_name()?, names: TempNames::beginning(GONE) })
    }

    /// Moves the directory `name` of `from` to the trash.
    pub fn take(&self, from: &TreeDir, name: Name<'_>) -> io::Result<()> {
        let gone = self.names.next()?;
        let attempt = || from.rename_to(name, &self.open()?, gone.as_name());
        match attempt() {
            // The trash was swept meanwhile, and removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => attempt(),
            outcome => outcome,
        }
    }

    fn open(&self) -> io::Result<TreeDir> {
        match self.base.open_dir(self.name.as_name()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.and_then(ours),
        }
        match self.base.make_private_dir(self.name.as_name()) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        self.base.open_dir(self.name.as_name()).and_then(ours)
    }
}

/// The trash, unless another user may have put something there: in a shared base any user can create a directory.
fn ours(dir: TreeDir) -> io::Result<TreeDir> {
    let (owner, mode) = dir.owner_and_mode()?;
    match owner == this_process::effective_uid() && mode & 0o077 == 0 {
        true => Ok(dir),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write to the trash")),
    }
}

fn trash_name() -> io::Result<OwnedName> {
    let name = format!(".holofs-trash-{}", this_process::effective_uid());
    OwnedName::new(name.as_bytes()).map_err(io::Error::other)
}

/// The trash of this user in `base`, if there is one.
pub fn trash_in(base: &Path) -> Option<PathBuf> {
    let path = base.join(trash_name().ok()?.as_name().as_os_str());
    path.symlink_metadata().is_ok_and(|found| found.is_dir()).then_some(path)
}

/// Moves the directory at `path` to the trash of its parent, from which `sweep` deletes it.
pub fn set_aside(path: &Path) -> io::Result<()> {
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let name = Name::new(name.as_encoded_bytes()).map_err(io::Error::other)?;
    let base = TreeDir::open(parent)?;
    Trash::new(&base)?.take(&base, name)
}

/// Deletes what this user set aside in `base`. True if nothing is left.
pub fn sweep(base: &Path, other: Other) -> io::Result<bool> {
    let (base, name) = (TreeDir::open(base)?, trash_name()?);
    loop {
        let dir = match base.open_dir(name.as_name()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => ours(found?)?,
        };
        if !dir.lock(other == Other::WaitFor)? {
            return Ok(false);
        }
        let stuck = match empty(&dir) {
            // It was removed while we waited for it; there may be another one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            stuck => stuck?,
        };
        match base.remove_empty_dir(name.as_name()) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            // Something was added meanwhile by a process that relies on us because the lock was taken; or something can never be
            // removed.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => match gone_in(&dir) {
                Ok(names) if names.iter().all(|name| stuck.contains(name)) => return Err(error),
                _ => {}
            },
            Err(error) => return Err(error),
        }
    }
}

/// What was set aside and still exists.
fn gone_in(dir: &TreeDir) -> io::Result<Vec<OwnedName>> {
    let mut names = dir.entry_names()?;
    names.retain(|name| name.as_name().as_bytes().starts_with(GONE.as_bytes()));
    Ok(names)
}

/// Removes what was set aside; an entry that cannot be removed does not affect the others.
fn empty(dir: &TreeDir) -> io::Result<Vec<OwnedName>> {
    let mut stuck = gone_in(dir)?;
    stuck.retain(|name| match dir.remove(name.as_name()) {
        Ok(_) => false,
        Err(error) => {
            log::warn!("{name} stays in the trash: {error}");
            true
        }
    });
    Ok(stuck)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    /// A base with a space in which the directory `old` has a file.
    fn base() -> (tempfile::TempDir, TreeDir, TreeDir) {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("space/old/inner")).unwrap();
        fs::write(temp.path().join("space/old/inner/file"), "x").unwrap();
        let base = TreeDir::open(temp.path()).unwrap();
        let space = base.open_dir(name("space")).unwrap();
        (temp, base, space)
    }

    #[test]
    fn what_is_put_aside_is_gone_at_once_and_deleted_later() {
        let (temp, base, space) = base();
        assert_eq!(trash_in(temp.path()), None);
        Trash::new(&base).unwrap().take(&space, name("old")).unwrap();
        assert!(!temp.path().join("space/old").exists());
        let trash = trash_in(temp.path()).unwrap();
        let mode = fs::metadata(&trash).unwrap().permissions().mode();
        assert_eq!((mode & 0o7777, fs::read_dir(&trash).unwrap().count()), (0o700, 1));
        assert!(sweep(temp.path(), Other::LeaveToIt).unwrap());
        assert_eq!(trash_in(temp.path()), None);
        assert!(sweep(temp.path(), Other::LeaveToIt).unwrap(), "nothing is left to do");
    }

    #[test]
    fn swept_trash_is_created_again() {
        let (temp, base, space) = base();
        let trash = Trash::new(&base).unwrap();
        for _ in 0..3 {
            fs::create_dir_all(temp.path().join("space/old")).unwrap();
            trash.take(&space, name("old")).unwrap();
            assert!(sweep(temp.path(), Other::WaitFor).unwrap());
        }
        assert_eq!(fs::read_dir(temp.path().join("space")).unwrap().count(), 0);
    }

    #[test]
    fn one_sweeps_at_a_time() {
        let (temp, base, space) = base();
        Trash::new(&base).unwrap().take(&space, name("old")).unwrap();
        let held = TreeDir::open(&trash_in(temp.path()).unwrap()).unwrap();
        assert!(held.lock(false).unwrap());
        assert!(!sweep(temp.path(), Other::LeaveToIt).unwrap());
        assert!(trash_in(temp.path()).is_some());
        drop(held);
        assert!(sweep(temp.path(), Other::LeaveToIt).unwrap());
    }

    #[test]
    fn links_are_not_followed_and_nothing_of_another_name_goes() {
        let (temp, base, space) = base();
        let precious = tempfile::tempdir().unwrap();
        fs::write(precious.path().join("precious"), "x").unwrap();
        symlink(precious.path(), temp.path().join("space/old/link")).unwrap();
        Trash::new(&base).unwrap().take(&space, name("old")).unwrap();
        let trash = trash_in(temp.path()).unwrap();
        symlink(precious.path(), trash.join(format!("{GONE}link"))).unwrap();
        fs::create_dir_all(trash.join("stranger/inner")).unwrap();
        assert!(sweep(temp.path(), Other::LeaveToIt).is_err(), "a stranger keeps the trash");
        let left: Vec<_> = fs::read_dir(&trash).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["stranger"]);
        assert!(trash.join("stranger/inner").exists() && precious.path().join("precious").exists());
    }

    #[test]
    fn a_trash_that_others_can_reach_is_not_used() {
        let (temp, base, space) = base();
        let trash = temp.path().join(trash_name().unwrap().as_name().as_os_str());
        fs::create_dir(&trash).unwrap();
        fs::set_permissions(&trash, Permissions::from_mode(0o770)).unwrap();
        let refused = Trash::new(&base).unwrap().take(&space, name("old")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(temp.path().join("space/old/inner/file").exists());
        assert!(sweep(temp.path(), Other::LeaveToIt).is_err());
        fs::remove_dir(&trash).unwrap();
        symlink(temp.path().join("space"), &trash).unwrap();
        assert!(Trash::new(&base).unwrap().take(&space, name("old")).is_err(), "a link is no trash");
        assert!(sweep(temp.path(), Other::LeaveToIt).is_err());
        assert!(temp.path().join("space/old/inner/file").exists());
    }

    #[test]
    fn directories_that_lock_their_owner_out_are_deleted_too() {
        let (temp, base, space) = base();
        for (dir, mode) in [("old/inner", 0o555), ("old", 0o700)] {
            fs::set_permissions(temp.path().join("space").join(dir), Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(temp.path().join("space/old/dark")).unwrap();
        fs::write(temp.path().join("space/old/dark/file"), "x").unwrap();
        fs::set_permissions(temp.path().join("space/old/dark"), Permissions::from_mode(0o000)).unwrap();
        Trash::new(&base).unwrap().take(&space, name("old")).unwrap();
        assert!(sweep(temp.path(), Other::LeaveToIt).unwrap());
        assert_eq!(trash_in(temp.path()), None);
    }
}
