//! The files of the database in the directory of a space: names, and how they are looked for, removed and opened.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::OpenFlags;

use super::{Access, UpperError};

/// Name of the database in the directory of a space.
pub(super) const DATABASE: &str = "state.db";
/// Name of the marker file, in the directory of a space.
pub(super) const OPEN: &str = "state.db.open";

/// Whether `path` exists.
pub(super) fn exists(path: &Path) -> Result<bool, UpperError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(UpperError::Io { doing: "look at", path: path.to_owned(), source }),
    }
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), UpperError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(UpperError::Io { doing: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
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

/// Fails unless `path` is a file with content.
pub(super) fn check_not_empty(path: &Path) -> Result<(), UpperError> {
    let meta = std::fs::symlink_metadata(path).map_err(|source| UpperError::Io {
        doing: "open",
        path: path.to_owned(),
        source,
    })?;
    if meta.is_file() && meta.len() > 0 {
        return Ok(());
    }
    let what = if meta.is_file() { "it is empty" } else { "it is not a regular file" };
    Err(UpperError::Damaged { path: path.to_owned(), what: what.to_owned() })
}

/// Makes `path` accessible only to its owner.
pub(super) fn private(path: &Path) -> Result<(), UpperError> {
    use std::os::unix::fs::PermissionsExt;
    // SQLite gives the log and its index the permissions of the database.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|source| UpperError::Io {
        doing: "protect",
        path: path.to_owned(),
        source,
    })
}
