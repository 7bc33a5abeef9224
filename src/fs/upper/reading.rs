//! Opens the database read-only: nothing in the directory changes.
//!
//! Even for a reader, SQLite creates a missing log and its index, and leaves them. Without a log, no process has the database open
//! for writing, and it is read as an immutable file. If a process opens and closes it meanwhile, the file has changed and is read
//! again.

use std::time::SystemTime;

use super::journal::Journal;
use super::on_disk::DATABASE;
use super::schema::Loaded;
use super::{Access, UpperError};
use crate::sys::fs::place::Place;

/// The maximum number of attempts to read a changing database.
const ATTEMPTS: u32 = 20;

/// Opens the database in `dir` and loads its content.
pub(super) fn load(dir: &Place, access: Access) -> Result<(Journal, Loaded), UpperError> {
    let attempt = || Journal::open(dir, access).and_then(|journal| Ok((journal.load()?, journal)));
    let mut attempts = 1;
    loop {
        let before = changed(dir);
        let loaded = attempt().map(|(loaded, journal)| (journal, loaded));
        if access.is_writable() || attempts == ATTEMPTS || changed(dir) == before {
            return loaded;
        }
        attempts += 1;
    }
}

/// The modification time and length of the database.
fn changed(dir: &Place) -> Option<(SystemTime, u64)> {
    let found = dir.join(DATABASE).symlink_metadata().ok()?;
    Some((found.modified().ok()?, found.len()))
}
