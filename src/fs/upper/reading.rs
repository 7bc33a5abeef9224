//! Opens the database read-only: nothing in the directory changes.
//!
//! Even for a reader, SQLite creates a missing log and its index, and leaves them. Without a log, no process has the database open
//! for writing, and it is read as an immutable file. If a process opens and closes it meanwhile, the file has changed and is read
//! again.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::OpenFlags;

use super::journal::{DATABASE, Journal};
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

/// The path and flags for SQLite to open the database at `path` with.
pub(super) fn how(path: &Path, access: Access) -> (Cow<'_, Path>, OpenFlags) {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match access {
        Access::ReadOnly if Path::new(&log).symlink_metadata().is_err() => {
            let mut name = OsString::from("file:");
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
            for byte in path.as_os_str().as_bytes() {
                match plain(byte) {
                    true => name.push(char::from(*byte).to_string()),
                    false => name.push(format!("%{byte:02x}")),
                }
            }
            name.push("?immutable=1");
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            (Cow::Owned(name.into()), flags)
        }
        Access::ReadOnly => (Cow::Borrowed(path), OpenFlags::SQLITE_OPEN_READ_ONLY),
        _ => (Cow::Borrowed(path), OpenFlags::SQLITE_OPEN_READ_WRITE),
    }
}
