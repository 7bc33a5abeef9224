//! The temporary directory of one run: `<home>/temp/holofs-…`, private to its user, removed with the run.
//!
//! ```text
//! holofs-…/lock    held while the run lives, so that leftovers of killed runs can be recognized
//! holofs-…/tmp/    TEMP, TMP
//! holofs-…/pyc/    bytecode of this run: `space::bytecode`
//! ```
//! Making and removing these directories takes as long as a short command. So if a run leaves nothing else in them, they are kept
//! in the state of the space for its next run. That run gets them under a new name, with nothing of the previous run in them.
//!
//! The next run, and `gc`, remove leftovers of killed runs. A directory with RCC's mark and without a lock belongs to a shell (`holofs
//! variables`): it is removed after two days, as RCC does with its own. One with neither was left by a command that was killed at its
//! very start.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;
use crate::sys::fs::{dir, lock, shared};

/// The prefix of the names. RCC's differ, so that neither program removes what the other uses.
const PREFIX: &str = "holofs-";
const LOCK: &str = "lock";
const FILES: &str = "tmp";
const BYTECODE: &str = "pyc";
/// RCC's mark of a directory that may be removed when it is unused: a shell's directory has it.
pub const MARK: &str = "recycle.now";
/// The maximum time of a command between creating its directory and its lock or mark.
const BEGINNING: Duration = Duration::from_secs(60);
/// The time for which RCC keeps what shells may still use.
const UNLOCKED: Duration = Duration::from_secs(48 * 60 * 60);

/// A directory for one run; removed when dropped.
#[derive(Debug)]
pub struct RunTemp {
    dir: PathBuf,
    lock: Option<File>,
    kept: Option<Kept>,
}

/// What becomes of the directory of a run that leaves nothing in it.
#[derive(Debug)]
struct Kept {
    /// Where it is kept for the next run.
    idle: Place,
    /// The only link in it, at the end of its only chain of directories.
    link: PathBuf,
}

impl RunTemp {
    /// The directory kept at `idle`, or a new one, in the first of `parents` that is writable.
    pub fn take(idle: Option<&Place>, parents: &[PathBuf]) -> io::Result<RunTemp> {
        if let Some((idle, parent)) = idle.zip(parents.first()) {
            match RunTemp::take_idle(idle, parent) {
                Ok(temp) => return Ok(temp),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::debug!("The directory of a former run is not used: {error}"),
            }
        }
        RunTemp::create(parents)
    }

    /// If several runs start, only one gets the lock of the kept directory.
    fn take_idle(idle: &Place, parent: &Path) -> io::Result<RunTemp> {
        let lock = idle.open()?.open_or_create(OsStr::new(LOCK))?;
        lock.try_lock()?;
        let moved = named(parent, |path| fs::rename(idle, path))?;
        match lock::is_still_at(&lock, &moved.join(LOCK))? {
            true => Ok(RunTemp { dir: moved, lock: Some(lock), kept: None }),
            false => Err(io::Error::other("another one is in its place")),
        }
    }

    /// A new directory in the first of `parents` that is writable.
    pub fn create(parents: &[PathBuf]) -> io::Result<RunTemp> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for parent in parents {
            match RunTemp::create_in(parent) {
                Ok(temp) => return Ok(temp),
                Err(error) => {
                    log::debug!("No temporary directory in {}: {error}", parent.display());
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn create_in(parent: &Path) -> io::Result<RunTemp> {
        shared::ensure_dir(parent, false)?;
        loop {
            let dir = private_dir(parent)?;
            let path = dir.join(LOCK);
            let lock = lock::open(&path, 0o600)?;
            // A cleanup of killed runs' leftovers may have happened in between.
            match lock.try_lock() {
                Ok(()) if lock::is_still_at(&lock, &path)? => {
                    let temp = RunTemp { dir, lock: Some(lock), kept: None };
                    dir::ensure_private(&temp.files())?;
                    return Ok(temp);
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory for the run's temporary files.
    pub fn files(&self) -> PathBuf {
        self.dir.join(FILES)
    }

    /// The directory for the run's bytecode, which need not exist.
    pub fn bytecode(&self) -> PathBuf {
        self.dir.join(BYTECODE)
    }

    /// When the run ends, the directory is moved to `idle`, if there is none yet and if it contains nothing but `link` and the
    /// directories that lead to it.
    pub fn keep_at(&mut self, idle: Place, link: PathBuf) {
        self.kept = Some(Kept { idle, link });
    }

    /// True if it is as the next run would create it.
    fn is_as_made(&self, link: &Path) -> io::Result<bool> {
        if !is_private(&self.dir)? || !is_private(&self.files())? || !link.is_symlink() {
            return Ok(false);
        }
        let mut all = names(&self.dir)?;
        all.sort();
        if all != [LOCK, BYTECODE, FILES] || !names(&self.files())?.is_empty() {
            return Ok(false);
        }
        let (top, mut below) = (self.bytecode(), link);
        while below != top {
            let Some((above, name)) = below.parent().zip(below.file_name()) else { return Ok(false) };
            if names(above)? != [name] {
                return Ok(false);
            }
            below = above;
        }
        Ok(true)
    }

    /// Keeps the directory for the next run; false if it is to be removed.
    fn keep(&self) -> bool {
        let Some(Kept { idle, link }) = &self.kept else { return false };
        let kept = self.is_as_made(link).and_then(|is_as_made| match is_as_made {
            true => fs::rename(&self.dir, idle).map(|()| true),
            false => Ok(false),
        });
        kept.unwrap_or_else(|error| {
            log::debug!("{} does not wait for the next run: {error}", self.dir.display());
            false
        })
    }
}

/// The names in a directory.
fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// True if only its owner may use the directory.
#[cfg(unix)]
fn is_private(dir: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::symlink_metadata(dir)?.permissions().mode() & 0o7777 == 0o700)
}

/// Access lists are inherited.
#[cfg(windows)]
fn is_private(_dir: &Path) -> io::Result<bool> {
    Ok(true)
}

/// A new directory in `parent`, 0700 whatever the umask.
pub fn private_dir(parent: &Path) -> io::Result<PathBuf> {
    named(parent, dir::make_private)
}

/// Calls `make` with a path in `parent` that is not in use.
fn named(parent: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let made = tempfile::Builder::new().prefix(PREFIX).make_in(parent, make)?;
    Ok(made.into_temp_path().keep()?)
}

impl Drop for RunTemp {
    fn drop(&mut self) {
        if self.keep() {
            return;
        }
        if cfg!(windows) {
            drop(self.lock.take()); // what is open cannot be removed
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            log::warn!("Cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// True if [`sweep`] would look at a directory other than that of `own`: most runs are alone.
pub fn has_others(parent: &Path, own: &RunTemp) -> bool {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) && Some(&*name) != own.dir.file_name()
    })
}

/// Removes this user's leftovers of killed runs in `parent`; with `dry_run` only reports them.
pub fn sweep(parent: &Path, dry_run: bool) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut left = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // One that cannot be removed must not affect the others.
            match remove_left(&entry.path(), dry_run) {
                Ok(true) => left.push(entry.path()),
                Ok(false) => {}
                Err(error) => log::debug!("Cannot remove {}: {error}", entry.path().display()),
            }
        }
    }
    Ok(left)
}

/// Removes the directory at `path` if it is ours and its run has ended.
fn remove_left(path: &Path, dry_run: bool) -> io::Result<bool> {
    let held = match OwnedDir::open(path)?.open_file(OsStr::new(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = SystemTime::now().duration_since(fs::metadata(path)?.modified()?).unwrap_or_default();
            if age < if path.join(MARK).exists() { UNLOCKED } else { BEGINNING } {
                return Ok(false);
            }
            None
        }
        file => Some(file?),
    };
    if held.as_ref().is_some_and(|file| file.try_lock().is_err()) {
        return Ok(false);
    }
    if !dry_run {
        fs::remove_dir_all(path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn a_run_has_a_directory_that_goes_with_it_and_is_swept_only_if_it_was_killed() {
        let parent = tempfile::tempdir().unwrap();
        let parents = [parent.path().join("none\0"), parent.path().join("temp")];
        let live = RunTemp::create(&parents).unwrap();
        assert!(!has_others(&parents[1], &live));
        let killed = RunTemp::create(&parents).unwrap();
        assert!(has_others(&parents[1], &live));
        fs::write(killed.files().join("x"), "x").unwrap();
        let left = killed.path().to_owned();
        let RunTemp { lock, .. } = &mut *std::mem::ManuallyDrop::new(killed);
        drop(lock.take()); // as the kernel does it
        let shell = private_dir(&parents[1]).unwrap();
        fs::create_dir(parents[1].join("rcc-own")).unwrap();
        for dry_run in [true, false] {
            assert_eq!(sweep(&parents[1], dry_run).unwrap(), std::slice::from_ref(&left));
        }
        assert!(!left.exists() && live.files().is_dir() && shell.is_dir());
        let path = live.path().to_owned();
        drop(live);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(&parents[1]).unwrap().count(), 2);
        assert!(sweep(&parent.path().join("missing"), false).unwrap().is_empty());
    }

    #[test]
    #[cfg(unix)]
    fn a_directory_in_which_nothing_was_left_serves_the_next_run_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let (idle, parents) = (Place::top(home.path()).below("idle"), [home.path().join("temp")]);
        let take = || {
            let mut temp = RunTemp::take(Some(&idle), &parents).unwrap();
            let link = temp.bytecode().join("a/b/link");
            dir::ensure_private(link.parent().unwrap()).unwrap();
            let is_new = dir::symlink(Path::new("elsewhere"), &link).is_ok();
            temp.keep_at(idle.clone(), link);
            (temp, is_new)
        };
        let (first, was_new) = take();
        let inode = |temp: &RunTemp| std::os::unix::fs::MetadataExt::ino(&fs::metadata(temp.path()).unwrap());
        let (path, number) = (first.path().to_owned(), inode(&first));
        drop(first);
        assert!(was_new && !path.exists() && idle.is_dir());
        let ((second, is_new), (other, other_is_new)) = (take(), take());
        assert_eq!((is_new, inode(&second)), (false, number));
        assert!(other_is_new && second.path() != path && !idle.exists());
        // One of two waits; the lock of each is held while it is used.
        assert_eq!(sweep(&parents[0], false).unwrap(), Vec::<PathBuf>::new());
        drop((other, second));
        assert_eq!(fs::read_dir(&parents[0]).unwrap().count(), 0);
        for left in ["tmp/file", "pyc/a/module.pyc", "pyc/a/b/c", "file"] {
            let (temp, _) = take();
            fs::write(temp.path().join(left), "x").unwrap();
            drop(temp);
            assert!(!idle.exists(), "{left}");
        }
        let (temp, _) = take();
        fs::set_permissions(temp.files(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        drop(temp);
        assert!(!idle.exists());
        assert_eq!(fs::read_dir(&parents[0]).unwrap().count(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn what_has_no_lock_goes_after_a_minute_and_a_shells_after_two_days() {
        let parent = tempfile::tempdir().unwrap();
        let aged = |age: Duration, is_shells: bool| {
            let dir = private_dir(parent.path()).unwrap();
            if is_shells {
                fs::write(dir.join(MARK), "True").unwrap();
            }
            let times = fs::FileTimes::new().set_modified(SystemTime::now() - age);
            File::open(&dir).unwrap().set_times(times).unwrap();
            dir
        };
        let minutes = Duration::from_secs(120);
        let stay = [aged(minutes, true), aged(Duration::ZERO, false)];
        let mut go = [aged(UNLOCKED + minutes, true), aged(minutes, false)];
        let mut gone = sweep(parent.path(), false).unwrap();
        go.sort();
        gone.sort();
        assert_eq!(gone, go);
        assert_eq!(stay.each_ref().map(|dir| dir.exists()), [true; 2]);
        let [_, young] = stay;
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(young.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }
}
