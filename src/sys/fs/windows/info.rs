//! The identity and the facts of an open file, which `std` does not provide.

use std::fs::File;
use std::io;
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::Storage::FileSystem::{BY_HANDLE_FILE_INFORMATION, GetFileInformationByHandle};

use crate::sys::fs::facts::FileFacts;

/// 1601 to 1970, in units of 100 ns.
const EPOCH: i64 = 116_444_736_000_000_000;
/// One second, in units of 100 ns.
const SECOND: i64 = 10_000_000;

/// The facts of an open file or directory.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// The volume's serial number, and the number of the file in it: equal for two names of one file.
    pub id: (u64, u64),
    /// The size in bytes.
    pub size: u64,
    /// It is read-only.
    pub is_read_only: bool,
    /// It is a link or junction, or its content is provided by a driver.
    pub is_reparse_point: bool,
    /// It is a directory.
    pub is_dir: bool,
    /// The last content change: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// The last access, as far as it is recorded, or the creation: seconds since 1970.
    pub used: i64,
}

impl Info {
    /// Reads the facts of `file`.
    pub fn of(file: &File) -> io::Result<Info> {
        use windows_sys::Win32::Storage::FileSystem::{
            FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_READONLY, FILE_ATTRIBUTE_REPARSE_POINT,
        };
        let mut found = BY_HANDLE_FILE_INFORMATION::default();
        // SAFETY: the handle is open for as long as `file` lives, and `found` has the type that the call fills.
        #[allow(unsafe_code)]
        let outcome = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) };
        if outcome == 0 {
            return Err(io::Error::last_os_error());
        }
        let has = |attribute: u32| found.dwFileAttributes & attribute != 0;
        Ok(Info {
            id: (found.dwVolumeSerialNumber.into(), wide(found.nFileIndexHigh, found.nFileIndexLow)),
            size: wide(found.nFileSizeHigh, found.nFileSizeLow),
            is_read_only: has(FILE_ATTRIBUTE_READONLY),
            is_reparse_point: has(FILE_ATTRIBUTE_REPARSE_POINT),
            is_dir: has(FILE_ATTRIBUTE_DIRECTORY),
            modified: since_1970(found.ftLastWriteTime),
            used: since_1970(found.ftLastAccessTime).0.max(since_1970(found.ftCreationTime).0),
        })
    }

    /// The same as on other platforms.
    pub fn facts(&self) -> FileFacts {
        FileFacts {
            id: self.id,
            size: self.size,
            mode: if self.is_read_only { 0o444 } else { 0o666 },
            uid: crate::sys::process::this_process::effective_uid(),
            mtime: (self.modified.0, self.modified.1.into()),
            changed: (0, 0),
            last_use: self.used,
        }
    }
}

fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Seconds and nanoseconds.
fn since_1970(time: FILETIME) -> (i64, u32) {
    let ticks = wide(time.dwHighDateTime, time.dwLowDateTime).cast_signed() - EPOCH;
    let nanos = u32::try_from(ticks.rem_euclid(SECOND) * 100).unwrap_or(0);
    (ticks.div_euclid(SECOND), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_file_has_one_number_under_each_of_its_names_and_its_own_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&one, "abc").unwrap();
        std::fs::hard_link(&one, &other).unwrap();
        let file = File::options().write(true).open(&one).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_610_000_000, 500)).unwrap();
        let info = Info::of(&file).unwrap();
        assert_eq!(info.id, Info::of(&File::open(&other).unwrap()).unwrap().id);
        assert_eq!((info.size, info.modified), (3, (1_610_000_000, 500)));
        assert!(!info.is_dir && !info.is_read_only && !info.is_reparse_point);
    }
}
