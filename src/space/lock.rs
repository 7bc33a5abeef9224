//! RCC's locks: flock on `<base>/<label>.lck` and `<holotree>/global.lck`.
//!
//! Order: `global.lck` before a space's lock, as in RCC. Neither is held while programs run in a space; [`super::live`] shows that we
//! are using a space.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SpaceError;
use super::holder::{Holders, Marker, holders};
use crate::sys;

/// Shorter waits are not reported.
const REPORTED_AFTER: Duration = Duration::from_secs(1);
/// How long another member may take to share a lock file that it has created.
const SHARING: Duration = Duration::from_secs(1);
/// The first retry comes soon: the server of a new mount holds the lock for a moment, while it writes RCC's marks.
const FIRST_RETRY: Duration = Duration::from_millis(1);
/// The longest retry interval: short compared to what RCC does under the lock.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Wait {
    /// Until it is free, as RCC does.
    Forever,
    /// At most this long.
    For(Duration),
    /// Not at all.
    Not,
}

/// A wait for a lock that is long enough to be reported.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The lock file.
    pub path: &'a Path,
    /// The apparent holders.
    pub holders: Holders,
}

impl std::fmt::Display for Waiting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiting for {}, held by {}", self.path.display(), self.holders)
    }
}

/// A lock to take, and the requester.
#[derive(Debug, Clone)]
pub(super) struct LockRequest {
    /// The lock file.
    pub path: PathBuf,
    /// The holotree is shared, so its lock files are writable by all users.
    pub shared: bool,
    /// The directory of the markers.
    pub pids_dir: PathBuf,
    /// RCC's `--controller`.
    pub controller: String,
    /// RCC's `--space`.
    pub space: String,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    // Dropped in this order: the marker is removed while the lock is still held.
    _marker: Option<Marker>,
    _file: File,
}

impl LockRequest {
    /// Takes the lock. `on_wait` is called once, if it takes more than a moment.
    pub(super) fn take(&self, wait: Wait, on_wait: &dyn Fn(&Waiting<'_>)) -> Result<Lock, SpaceError> {
        let started = Instant::now();
        let mut is_reported = false;
        let mut pause = FIRST_RETRY;
        loop {
            let attempted = match self.attempt() {
                Err(error) if self.is_not_yet_shared(&error, started) => {
                    std::thread::sleep(RETRY_EVERY);
                    continue;
                }
                attempted => attempted.map_err(|source| self.failed(source))?,
            };
            if let Some(file) = attempted {
                let marker = Marker::put(&self.pids_dir, &self.controller, &self.space, self.file_name());
                return Ok(Lock { _marker: marker, _file: file });
            }
            if is_over(wait, started) {
                return Err(SpaceError::Locked { path: self.path.clone(), holders: self.holders() });
            }
            if !is_reported && started.elapsed() >= REPORTED_AFTER {
                is_reported = true;
                on_wait(&Waiting { path: &self.path, holders: self.holders() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_EVERY);
        }
    }

    fn attempt(&self) -> io::Result<Option<File>> {
        let file = sys::fs::lock::open(&self.path, 0o666)?;
        if self.shared
            && let Err(error) = sys::fs::lock::share(&file)
        {
            log::debug!("{} stays accessible to its owner only: {error}", self.path.display());
        }
        match file.try_lock() {
            Ok(()) => Ok(sys::fs::lock::is_still_at(&file, &self.path)?.then_some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Another member has just created the file, and its mode, which the umask restricts at first, does not give us access yet.
    fn is_not_yet_shared(&self, error: &io::Error, started: Instant) -> bool {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_some();
        self.shared && is_denied && started.elapsed() < SHARING
    }

    fn holders(&self) -> Holders {
        holders(&self.pids_dir, self.file_name())
    }

    fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn failed(&self, source: io::Error) -> SpaceError {
        SpaceError::io("Locking", &self.path)(source)
    }
}

fn is_over(wait: Wait, started: Instant) -> bool {
    match wait {
        Wait::Forever => false,
        Wait::For(bound) => started.elapsed() >= bound,
        Wait::Not => true,
    }
}
