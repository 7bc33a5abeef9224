//! The temporary directory of one run: `<home>/temp/holofs-…`, private to its user, removed with the run.
//!
//! ```text
//! holofs-…/lock    held while the run lives, so that leftovers of killed runs can be recognized
//! holofs-…/tmp/    TEMP, TMP
//! holofs-…/pyc/    bytecode of this run: `space::bytecode`
//! ```
//! The next run, and `gc`, remove leftovers of killed runs. A directory with RCC's mark and without a lock belongs to a shell (`holofs
//! variables`): it is removed after two days, as RCC does with its own. One with neither was left by a command that was killed at its
//! very start.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::{dir, lock};

/// The prefix of the names. RCC's differ, so that neither program removes what the other uses.
const PREFIX: &str = "holofs-";
const LOCK: &str = "lock";
/// RCC's mark of a directory that may be removed when it is unused: a shell's directory has it.
pub const MARK: &str = "recycle.now";
/// The maximum time of a command between creating its directory and its lock or mark.
const BEGINNING: Duration = Duration::from_secs(60);
/// As long as RCC keeps what shells may still use.
const UNLOCKED: Duration = Duration::from_secs(48 * 60 * 60);

/// A directory for one run; removed when dropped.
#[derive(Debug)]
pub struct RunTemp {
    dir: PathBuf,
    lock: Option<File>,
}

impl RunTemp {
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
        fs::create_dir_all(parent)?;
        loop {
            let dir = private_dir(parent)?;
            let path = dir.join(LOCK);
            let lock = lock::open(&path, 0o600)?;
            // A cleanup of killed runs' leftovers may have happened in between.
            match lock.try_lock() {
                Ok(()) if lock::is_still_at(&lock, &path)? => {
                    let temp = RunTemp { dir, lock: Some(lock) };
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
        self.dir.join("tmp")
    }
}

/// A new directory in `parent`, 0700 whatever the umask.
pub fn private_dir(parent: &Path) -> io::Result<PathBuf> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    Ok(builder.tempdir_in(parent)?.keep())
}

impl Drop for RunTemp {
    fn drop(&mut self) {
        if cfg!(windows) {
            drop(self.lock.take()); // what is open cannot be removed
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            log::warn!("Cannot remove {}: {error}", self.dir.display());
        }
    }
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
        let killed = RunTemp::create(&parents).unwrap();
        fs::write(killed.files().join("x"), "x").unwrap();
        let left = killed.path().to_owned();
        let RunTemp { dir: _, lock } = &mut *std::mem::ManuallyDrop::new(killed);
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
