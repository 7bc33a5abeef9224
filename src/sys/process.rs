//! Processes: their identity, whether they are alive, and who owns them.

#[cfg(unix)]
pub mod command;
#[cfg(unix)]
pub mod daemon;
#[cfg(unix)]
pub mod family;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "process/fork_unsupported.rs")]
pub mod fork;
#[cfg(unix)]
pub mod latency;
#[cfg(unix)]
pub mod limits;
#[cfg(unix)]
mod mail;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "process/mailbox_unsupported.rs")]
pub mod mailbox;
#[cfg(unix)]
pub mod sandbox;
pub mod signals;
pub mod this_process;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, getppid, getuid, test_kill_process};

use crate::sys::text::read_lossy;

/// A process, identified by its pid and start time, since a pid alone may be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot; unknown without /proc.
    pub start_time: Option<u64>,
}

impl Process {
    /// This process. /proc is read once: a daemon in its sandbox cannot read it.
    pub fn current() -> Process {
        static KNOWN: OnceLock<Process> = OnceLock::new();
        let id = std::process::id();
        let known = *KNOWN.get_or_init(|| Process::with_id(id));
        if known.pid == id { known } else { Process::with_id(id) } // after a fork it is another process
    }

    /// The process that has the id `pid` now.
    pub fn with_id(pid: u32) -> Process {
        Process { pid, start_time: start_time(pid) }
    }

    /// True while it runs: false for a zombie and for a killed process. Without /proc any process with that pid counts.
    pub fn is_alive(&self) -> bool {
        let Some(fields) = stat_fields(self.pid) else { return exists(self.pid) };
        let started = self.start_time.zip(start_of(&fields));
        started.is_none_or(|(then, now)| then == now) && !is_ending(&fields)
    }

    /// The pid of its current parent, as far as /proc shows.
    pub fn parent(&self) -> Option<u32> {
        stat_fields(self.pid)?.get(1)?.parse().ok()
    }

    /// True if `pid` is its parent, or an ancestor a few generations up.
    pub fn descends_from(&self, pid: u32) -> bool {
        const GENERATIONS: usize = 3;
        let above = |of: &u32| Process { pid: *of, start_time: None }.parent();
        std::iter::successors(self.parent(), above).take(GENERATIONS).any(|parent| parent == pid)
    }

    /// True if it runs the same program as this process, as far as /proc shows.
    pub fn is_of_this_program(&self) -> bool {
        let program = |process: &str| std::fs::metadata(format!("/proc/{process}/exe")).ok();
        let (theirs, ours) = (program(&self.pid.to_string()), program("self"));
        theirs
            .zip(ours)
            .is_some_and(|(theirs, ours)| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
    }

    /// True once it has released everything: it is gone, or is only waiting to be reaped. Its locks are released some time before that.
    pub fn has_ended(&self) -> bool {
        !self.exists() || stat_fields(self.pid).is_some_and(|fields| has_let_go(&fields))
    }

    /// Waits until it has ended, at most for `most`.
    pub fn wait_for_end(&self, most: Duration) {
        if let Err(error) = wait_for(self, most) {
            log::trace!("The end of {self} is not reported: {error}");
            std::thread::sleep(most);
        }
    }

    /// True while it exists, even if it is exiting.
    pub fn exists(&self) -> bool {
        let known = self.start_time.zip(start_time(self.pid));
        exists(self.pid) && known.is_none_or(|(then, now)| then == now)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// Waits for the end of `process`, which need not be a child of this process.
#[cfg(target_os = "linux")]
fn wait_for(process: &Process, most: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let ended = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    // The pid may belong to another process now.
    if !process.exists() {
        return Ok(());
    }
    let most = Timespec::try_from(most).map_err(io::Error::other)?;
    poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&most))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn wait_for(_process: &Process, _most: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// True if there is a process `pid`, regardless of its owner.
pub fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// The fields of /proc/<pid>/stat from the third on. The name in the second may contain spaces and parentheses, so they are counted
/// from its closing one.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = shown(pid, "stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    Some(after_name.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The file `what` of /proc/<pid>.
fn shown(pid: u32, what: &str) -> io::Result<String> {
    const MOST: u64 = 64 << 10;
    let file = std::fs::File::open(format!("/proc/{pid}/{what}"))?;
    String::from_utf8(crate::sys::fs::owned_file::read_at_most(&file, MOST)?).map_err(io::Error::other)
}

/// Field 22.
fn start_time(pid: u32) -> Option<u64> {
    start_of(&stat_fields(pid)?)
}

fn start_of(fields: &[String]) -> Option<u64> {
    fields.get(19)?.parse().ok()
}

/// True if its first thread has ended and is not reaped yet (field 3).
fn is_unreaped(fields: &[String]) -> bool {
    matches!(fields.first().map(String::as_str), Some("Z" | "X"))
}

/// True if that was its last thread as well (field 20): files are closed with the last thread.
fn has_let_go(fields: &[String]) -> bool {
    let threads = fields.get(17).and_then(|count| count.parse::<u32>().ok());
    is_unreaped(fields) && threads.is_none_or(|threads| threads <= 1)
}

/// True if it is a zombie, is exiting (field 9), or is about to (field 31: a SIGKILL is pending): a killed process keeps its locks until
/// its last thread has noticed.
fn is_ending(fields: &[String]) -> bool {
    const PF_EXITING: u64 = 4;
    const KILL: u64 = 1 << 8;
    let bits = |field: usize| fields.get(field).and_then(|bits| bits.parse::<u64>().ok()).unwrap_or_default();
    is_unreaped(fields) || bits(6) & PF_EXITING != 0 || bits(28) & KILL != 0
}

/// The parent's id; 0 if it is outside of this pid namespace.
pub fn parent_id() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// This user's name from /etc/passwd, or the uid.
pub fn user_name() -> String {
    let uid = getuid().as_raw().to_string();
    let passwd = read_lossy("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// The executable of this process; `first` is argv[0], for systems without /proc.
pub fn program(first: Option<&OsStr>, path: Option<&OsStr>) -> io::Result<PathBuf> {
    let current = Path::new("/proc/self/exe");
    if let Ok(program) = std::fs::read_link(current) {
        return Ok(installed(program));
    }
    let first = PathBuf::from(first.unwrap_or_default());
    if first.components().count() > 1 {
        return std::path::absolute(first);
    }
    let places = path.map(split).unwrap_or_default().into_iter().map(|dir| dir.join(&first));
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no /proc"))
}

/// The path of a program, from the path that the kernel shows: an upgrade replaces the running file with another one at the
/// same path.
fn installed(shown: PathBuf) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let path = shown.as_os_str().as_bytes().strip_suffix(b" (deleted)").map(OsStr::from_bytes);
    path.map(Path::new).filter(|path| path.is_file()).map_or_else(|| shown.clone(), Path::to_owned)
}

fn split(path: &OsStr) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    path.as_bytes().split(|&byte| byte == b':').map(|dir| OsStr::from_bytes(dir).into()).collect()
}

/// True for the superuser.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let this = Process::current();
        assert!(this.is_alive());
        assert!(!Process { start_time: this.start_time.map(|time| time + 1), ..this }.is_alive());
        assert!(Process { start_time: None, ..this }.is_alive());
    }

    #[test]
    fn a_process_that_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::with_id(child.id());
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert!(exists(std::process::id()));
        assert!(!exists(child.id()));
        assert!(!exists(u32::MAX));
    }

    #[test]
    fn a_process_that_ended_and_was_not_reaped_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::with_id(child.id());
        process.wait_for_end(Duration::from_secs(600));
        assert!(!process.is_alive() && process.has_ended());
        assert!(child.wait().unwrap().success());
        assert!(!Process::current().has_ended());
    }

    #[test]
    fn files_are_closed_with_the_last_thread() {
        let fields = |state: &str, threads: &str| {
            let mut fields = vec!["0".to_owned(); 20];
            (fields[0], fields[17]) = (state.to_owned(), threads.to_owned());
            fields
        };
        for (state, threads, let_go) in
            [("Z", "1", true), ("X", "0", true), ("Z", "2", false), ("S", "1", false)]
        {
            assert_eq!(has_let_go(&fields(state, threads)), let_go, "{state} {threads}");
        }
    }

    #[test]
    fn a_user_has_a_name() {
        assert!(!user_name().is_empty());
    }
}
