//! Whether the process that had the database open for writing came to its end.
//!
//! An empty file stands beside the database while a process has it open for writing: made when the log is there, removed
//! before the last connection closes and removes the log. So a file of ours without a log is a log that somebody took away
//! after the process was killed, and with it everything that was committed since it was last copied into the database:
//! names, whiteouts, and the rows without which copied-up bytes would be collected.

use std::path::{Path, PathBuf};

use crate::sys::fs::place::Place;

use super::UpperError;
use super::journal::remove;
use super::recover::exists;
use crate::error::chain;

/// Name of the file, in the directory of a space.
pub(super) const OPEN: &str = "state.db.open";
/// Name of the log.
const LOG: &str = "state.db-wal";

/// The database in the directory of a space is open for writing until this is dropped.
pub(super) struct Session {
    path: PathBuf,
    /// The one before came to its end.
    pub ended_well: bool,
}

impl Session {
    /// Begins when the log is there.
    pub fn begin(dir: &Place) -> Result<Session, UpperError> {
        let path = dir.join(OPEN);
        let ended_well = !exists(&path)?;
        let made = dir.below(OPEN).mark();
        made.map_err(|source| UpperError::Io { doing: "make", path: path.clone(), source })?;
        Ok(Session { path, ended_well })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            log::warn!("{}: a missing log would be taken for a lost one", chain(&error));
        }
    }
}

/// An error if the log is gone that a killed process left. To be called before the database is opened, which makes a new one.
pub(super) fn check_log(dir: &Place) -> Result<(), UpperError> {
    let log = dir.join(LOG);
    // The log is looked at twice, for others begin and end their sessions meanwhile.
    if exists(&log)? || !exists(&dir.join(OPEN))? || exists(&log)? {
        return Ok(());
    }
    let what = format!(
        "it is missing, and the process that wrote it was killed: what was done since it was last copied into the database is lost; \
         to go on with what is left, remove {OPEN} there"
    );
    Err(UpperError::Damaged { path: log, what })
}

/// The directory without links on the way to it, which SQLite refuses along with one at the end.
pub(super) fn real(dir: &Path) -> Result<PathBuf, UpperError> {
    dir.canonicalize().map_err(|source| UpperError::Io { doing: "find", path: dir.to_owned(), source })
}
