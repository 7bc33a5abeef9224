//! Processes: which one, is it still the same one, and whose.

use std::fmt;

use rustix::process::{Pid, getppid, getuid, test_kill_process};

/// One process: its number alone would be taken by another one some day, its start time tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot; unknown without /proc.
    pub start_time: Option<u64>,
}

impl Process {
    /// This process.
    pub fn current() -> Process {
        Process::with_id(std::process::id())
    }

    /// The process that has the id `pid` now.
    pub fn with_id(pid: u32) -> Process {
        Process { pid, start_time: start_time(pid) }
    }

    /// True while it runs. Without /proc any process of that number counts.
    pub fn is_alive(&self) -> bool {
        let known = self.start_time.zip(start_time(self.pid));
        exists(self.pid) && known.is_none_or(|(then, now)| then == now)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// True if there is a process `pid`, whoever owns it.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Field 22 of /proc/<pid>/stat. The name in field 2 may hold blanks and brackets, so count from its closing one.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The parent's id; 0 if it is outside of this pid namespace.
pub fn parent_id() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// This user's name as /etc/passwd has it, else the number.
pub fn user_name() -> String {
    let uid = getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
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
    }

    #[test]
    fn a_user_has_a_name() {
        assert!(!user_name().is_empty());
    }
}
