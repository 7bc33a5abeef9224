//! Our own lock: at most one process mounts or materializes a space at a time, whatever mount namespace it lives in.
//!
//! `<holofs>/spaces/<label>/lock` is held by flock for as long as the mount lives or the work takes; its content says who
//! holds it (on Windows that of a file beside it). The kernel frees it with the process, so a crash leaves no lock, and stale
//! content means nothing.
//!
//! `tests/models/` compiles this very file against a scheduler that tries the orders in which processes can run.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::SpaceError;
use super::sync::{File, Instant, TryLockError, sleep};
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;
use crate::sys::process::Process;

/// How long a lock may be held by nobody who is known: its holder is about to sign, or somebody only asks.
const GRACE: Duration = Duration::from_secs(2);
/// How long a holder that was killed may take to end: as long as the disk takes for what it was writing.
const LAST_WRITES: Duration = Duration::from_secs(30);

/// The lock of a live space, held until it is dropped. It survives fork: the child holds it too.
#[derive(Debug)]
pub struct Live {
    file: File,
    path: Place,
}

impl Live {
    /// Takes the lock at `path`, or says who holds it.
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

    /// Writes who holds it: to be called again by a child that took the lock over by fork.
    pub fn sign(&mut self) -> Result<(), SpaceError> {
        let text = serde_json::to_string(&Process::current()).unwrap_or_default();
        let signed = lock::sign(&mut self.file, &self.path, text.as_bytes());
        signed.map_err(SpaceError::io("Signing", &self.path))
    }
}

impl Drop for Live {
    /// Takes the signature away, unless a child has signed instead: whoever finds the lock held and not signed knows that
    /// it is about to be free (a process that was just forked has our descriptor until its exec).
    fn drop(&mut self) {
        if signature(&self.path) == Some(Process::current())
            && let Err(error) = lock::sign(&mut self.file, &self.path, b"")
        {
            log::debug!("{} stays signed: {error}", self.path.display());
        }
    }
}

/// Locks the file at `path`, unless somebody else has, or has just removed it.
fn attempt(path: &Place) -> io::Result<Option<File>> {
    let file = lock::open_own(path)?;
    match file.try_lock() {
        Ok(()) => Ok(lock::is_still_own(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who holds the lock at `path`, if anybody does who signed it and lives.
pub fn held_by(path: &Place) -> Option<Process> {
    match lock::look_at(path).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => signature(path).filter(Process::is_alive),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// True unless certainly nobody holds the lock at `path`: one that may not be looked at (another user's) counts as held.
pub fn may_be_held(path: &Place) -> bool {
    match lock::look_at(path) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Who signed last.
fn signature(path: &Place) -> Option<Process> {
    serde_json::from_slice(&lock::signature(path).ok()?).ok()
}
