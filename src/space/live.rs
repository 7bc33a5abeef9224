//! Our own lock: at most one process mounts or materializes a space at a time, in any mount namespace.
//!
//! `<holofs>/spaces/<label>/lock` is held with flock while the mount or the work lasts; its content names the holder (on Windows, the
//! content of a file next to it). The kernel releases it with the process, so a crash leaves no lock, and stale content is ignored.
//!
//! `tests/models/` compiles this same file with a scheduler that explores the interleavings of processes.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::SpaceError;
use super::sync::{File, Instant, TryLockError, sleep};
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;
use crate::sys::process::Process;

/// How long a lock may have no known holder: its holder is about to sign, or a process is only checking it.
const GRACE: Duration = Duration::from_secs(2);
/// How long a killed holder may take to exit: as long as the disk needs for its outstanding writes.
const LAST_WRITES: Duration = Duration::from_secs(30);

/// The lock of a live space, held until it is dropped. It survives fork: the child holds it too.
#[derive(Debug)]
pub struct Live {
    file: File,
    path: Place,
}

impl Live {
    /// Takes the lock at `path`, or fails with its holder.
    pub fn take(path: &Place, root: &Path) -> Result<Live, SpaceError> {
        let started = Instant::now();
        loop {
            if let Some(file) = attempt(path).map_err(SpaceError::io("Locking", path))? {
                let mut live = Live { file, path: path.clone() };
                live.sign()?;
                return Ok(live);
            }
            let holder = signature(path);
            let patience = if holder.is_some_and(|process| process.exists()) { LAST_WRITES } else { GRACE };
            if holder.is_some_and(|process| process.is_alive()) || started.elapsed() > patience {
                return Err(SpaceError::Live { root: root.to_owned(), holder });
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Records this process as the holder; called again by a child that inherited the lock by fork.
    pub fn sign(&mut self) -> Result<(), SpaceError> {
        self.sign_for(Process::current())
    }

    /// Records `holder` as the holder; it must hold a [`Live::share`] of the lock.
    pub fn sign_for(&mut self, holder: Process) -> Result<(), SpaceError> {
        let text = serde_json::to_string(&holder).unwrap_or_default();
        let signed = lock::sign(&mut self.file, &self.path, text.as_bytes());
        signed.map_err(SpaceError::io("Signing", &self.path))
    }

    /// A duplicate of the locked file for another process: the lock is free once both have closed it.
    pub fn share(&self) -> Result<File, SpaceError> {
        self.file.try_clone().map_err(SpaceError::io("Sharing", &self.path))
    }
}

impl Drop for Live {
    /// Removes the signature, unless a child has signed instead: a lock that is held and not signed is about to become free (a process
    /// that was just forked has our descriptor until its exec).
    fn drop(&mut self) {
        if signature(&self.path) == Some(Process::current())
            && let Err(error) = lock::sign(&mut self.file, &self.path, b"")
        {
            log::debug!("{} stays signed: {error}", self.path.display());
        }
    }
}

/// Locks the file at `path`, unless another process holds it, or has just removed it.
fn attempt(path: &Place) -> io::Result<Option<File>> {
    let file = lock::open_own(path)?;
    match file.try_lock() {
        Ok(()) => Ok(lock::is_still_own(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The living process that holds the lock at `path` and signed it.
pub fn held_by(path: &Place) -> Option<Process> {
    match lock::look_at(path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => signature(path).filter(Process::is_alive),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// The process that holds the lock at `path`, by its signature alone: for one in another PID namespace, whose number is not
/// valid here.
#[cfg(unix)]
pub fn signed_by(path: &Place) -> Option<Process> {
    match lock::look_at(path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => signature(path),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// True unless it is certain that the lock at `path` is free: one that may not be opened (another user's) counts as held.
pub fn may_be_held(path: &Place) -> bool {
    match lock::look_at(path) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The last signer.
fn signature(path: &Place) -> Option<Process> {
    serde_json::from_slice(&lock::signature(path).ok()?).ok()
}
