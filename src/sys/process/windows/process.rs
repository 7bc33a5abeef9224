//! Processes: their identity, and whether they are alive.

#[path = "command.rs"]
pub mod command;
#[path = "signals.rs"]
pub mod signals;
#[path = "this_process.rs"]
pub mod this_process;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, FILETIME, GetLastError, STILL_ACTIVE};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};
use windows_sys::Win32::System::WindowsProgramming::GetUserNameW;

/// A process, identified by its pid and start time, since a pid alone may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in units of 100 ns; unknown for processes of other users.
    pub start_time: Option<u64>,
}

impl Process {
    /// This process.
    pub fn current() -> Process {
        Process::with_id(std::process::id())
    }

    /// The process that has the id `pid` now.
    pub fn with_id(pid: u32) -> Process {
        Process { pid, start_time: open(pid).ok().and_then(|process| started(&process)) }
    }

    /// True while it runs.
    pub fn is_alive(&self) -> bool {
        self.exists()
    }

    /// True while it exists.
    pub fn exists(&self) -> bool {
        let known = self.start_time.zip(Process::with_id(self.pid).start_time);
        exists(self.pid) && known.is_none_or(|(then, now)| then == now)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// True if there is a process `pid`, regardless of its owner.
pub fn exists(pid: u32) -> bool {
    match open(pid) {
        Ok(process) => is_running(&process),
        Err(error) => error == ERROR_ACCESS_DENIED,
    }
}

fn open(pid: u32) -> Result<OwnedHandle, u32> {
    // SAFETY: it takes no pointer; a handle that is not null is ours to close. The last error is this thread's.
    #[allow(unsafe_code)]
    unsafe {
        let handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
        if handle.is_null() { Err(GetLastError()) } else { Ok(OwnedHandle::from_raw_handle(handle)) }
    }
}

fn is_running(process: &OwnedHandle) -> bool {
    let mut code = 0;
    // SAFETY: the handle is open for as long as `process` lives, and `code` outlives the call.
    #[allow(unsafe_code)]
    let outcome = unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) };
    outcome == 0 || code == STILL_ACTIVE.cast_unsigned()
}

fn started(process: &OwnedHandle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [made, ended, kernel, user] = &mut times;
    // SAFETY: the handle is open for as long as `process` lives, and all four outlive the call.
    #[allow(unsafe_code)]
    let outcome = unsafe { GetProcessTimes(process.as_raw_handle(), made, ended, kernel, user) };
    (outcome != 0).then(|| u64::from(times[0].dwHighDateTime) << 32 | u64::from(times[0].dwLowDateTime))
}

/// Windows has no superuser.
pub fn is_root() -> bool {
    false
}

/// The parent is not known here: as on Unix for a parent that is not visible.
pub fn parent_id() -> u32 {
    0
}

/// This user's name.
pub fn user_name() -> String {
    const ROOM: u32 = 257; // UNLEN and the NUL
    let (mut name, mut len) = ([0; ROOM as usize], ROOM);
    // SAFETY: the buffer has the stated size, and both outlive the call.
    #[allow(unsafe_code)]
    let outcome = unsafe { GetUserNameW(name.as_mut_ptr(), &raw mut len) };
    let end = if outcome == 0 { 0 } else { name.iter().position(|&unit| unit == 0).unwrap_or(0) };
    String::from_utf16_lossy(&name[..end])
}

/// The executable of this process; `first` is argv[0], `path` is PATH.
pub fn program(first: Option<&OsStr>, path: Option<&OsStr>) -> io::Result<PathBuf> {
    let first = PathBuf::from(first.unwrap_or_default()).with_extension("exe");
    if first.components().count() > 1 {
        return std::path::absolute(first);
    }
    let path = path.map(OsStr::to_string_lossy).unwrap_or_default();
    let found = path.split(';').map(|dir| Path::new(dir).join(&first)).find(|place| place.is_file());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the program is not in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let this = Process::current();
        assert!(this.is_alive() && this.start_time.is_some());
        assert!(!Process { start_time: this.start_time.map(|time| time + 1), ..this }.is_alive());
        assert!(Process { start_time: None, ..this }.is_alive());
        assert!(!exists(u32::MAX - 3));
    }
}
