//! Detects whether the last process that had the database open for writing ended cleanly.
//!
//! An empty marker file exists while a process has the database open for writing: it is created once the log exists, and removed
//! before the last connection closes and removes the log. So a marker without a log means that the log was removed after the
//! process was killed. All commits since the last checkpoint were lost with it: names, whiteouts, and the rows without which
//! copied-up bytes would be deleted.

use std::path::{Path, PathBuf};

use crate::sys::fs::place::Place;

use super::UpperError;
use super::on_disk::{OPEN, exists, remove};
use crate::error::chain;

/// Name of the log.
const LOG: &str = "state.db-wal";
/// From this length in bytes on, a log that a killed process left is copied into the database at once: reading it took some 8 ms, and while
/// servers are killed again and again, none of them lives until its log would be copied.
const LONG: u64 = 8 << 20;

/// Marks the database in the directory of a space as open for writing until dropped.
pub(super) struct OpenMark {
    path: PathBuf,
    /// The previous session ended cleanly.
    pub ended_well: bool,
    /// The previous session was killed, and left a long log.
    pub left_much: bool,
}

impl OpenMark {
    /// Begins a session. The log must exist.
    pub fn begin(dir: &Place) -> Result<OpenMark, UpperError> {
        let path = dir.join(OPEN);
        let ended_well = !exists(&path)?;
        let made = dir.below(OPEN).mark();
        made.map_err(|source| UpperError::Io { doing: "make", path: path.clone(), source })?;
        let log = dir.join(LOG).symlink_metadata().map_or(0, |log| log.len());
        Ok(OpenMark { path, ended_well, left_much: !ended_well && log >= LONG })
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            log::warn!("{}: a missing log would be taken for a lost one", chain(&error));
        }
    }
}

/// Fails if the log of a killed process is missing. Call it before opening the database, which creates a new log.
pub(super) fn check_log(dir: &Place) -> Result<(), UpperError> {
    let log = dir.join(LOG);
    // Check the log twice, because other processes begin and end sessions meanwhile.
    if exists(&log)? || !exists(&dir.join(OPEN))? || exists(&log)? {
        return Ok(());
    }
    let what = format!(
        "it is missing, and the process that wrote it was killed: the changes since it was last copied into the database are lost; to continue with the rest, remove {OPEN} there"
    );
    Err(UpperError::Damaged { path: log, what })
}

/// The directory without symbolic links in its path: SQLite refuses them anywhere in the path, not only at the end.
pub(super) fn real(dir: &Path) -> Result<PathBuf, UpperError> {
    dir.canonicalize().map_err(|source| UpperError::Io { doing: "find", path: dir.to_owned(), source })
}
