//! A fork of this process that does one thing and exits: for what cannot be undone, and for what must continue on its own.
//!
//! Nothing of the caller runs twice: no destructor, no exit handler.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::CapabilitySets;

/// Exit code of a fork whose parent was gone before it could ask to be killed with it.
const ORPHAN: i32 = 1;

/// A fork of this process.
pub struct Forked(Pid);

/// Runs `work` in a fork of this process, which must be single-threaded. The fork is killed when this process ends.
pub fn spawn(work: impl FnOnce() -> i32) -> io::Result<Forked> {
    let parent = rustix::process::getpid();
    spawn_free(|| {
        let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let is_child = rustix::process::getppid() == Some(parent);
        if bound.is_ok() && is_child { work() } else { ORPHAN }
    })
}

/// Like [`spawn`], but the fork is not killed when this process ends.
pub fn spawn_free(work: impl FnOnce() -> i32) -> io::Result<Forked> {
    // SAFETY: the only thread of this process is forked, so the copy may do whatever this process may.
    #[allow(unsafe_code)]
    match unsafe { libc::fork() } {
        0 => {
            super::mailbox::close();
            let code = work();
            // SAFETY: it does not return, so nothing is used after it.
            unsafe { libc::_exit(code) }
        }
        child => Pid::from_raw(child).map(Forked).filter(|_| child > 0).ok_or_else(io::Error::last_os_error),
    }
}

/// True if a fork of this process may do anything, and would be small: it has one thread, and little memory of its own.
pub fn is_cheap() -> bool {
    const MOST_KIB: u64 = 1536; // what a supervisor may have
    let status = super::shown(std::process::id(), "status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    number("Threads") == Some(1) && number("RssAnon").is_some_and(|kib| kib <= MOST_KIB)
}

/// From now on this fork is not killed when its parent ends. Must be called by the thread that [`spawn`] started with.
pub fn outlive_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(None)?)
}

/// Executes `command` in place of this fork, which keeps its capabilities: in a user namespace, they are not those of root. Returns
/// only if that failed.
pub fn become_program(command: &mut Command) -> io::Error {
    if let Err(error) = keep_capabilities() {
        log::debug!("Capabilities are lost: {error}");
    }
    command.exec()
}

fn keep_capabilities() -> rustix::io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable: now.permitted, ..now })?;
    for capability in now.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

impl Forked {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    /// Its status, if it has exited.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let ended = rustix::process::waitpid(Some(self.0), WaitOptions::NOHANG)?;
        Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
    }

    /// Sends SIGKILL (`hard`) or SIGTERM.
    pub fn kill(&self, hard: bool) {
        let signal = if hard { Signal::KILL } else { Signal::TERM };
        if let Err(error) = rustix::process::kill_process(self.0, signal) {
            log::debug!("Cannot end process {}: {error}", self.pid());
        }
    }

    /// Waits until it has exited; returns its status.
    pub fn wait(self) -> io::Result<ExitStatus> {
        let ended = rustix::process::waitpid(Some(self.0), WaitOptions::empty())?;
        let (_, status) = ended.ok_or_else(|| io::Error::other("the copy goes on"))?;
        Ok(ExitStatus::from_raw(status.as_raw()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_process_with_two_threads_is_not_cheap_to_fork() {
        let is_cheap = std::thread::spawn(is_cheap).join().unwrap();
        assert!(!is_cheap);
    }

    #[test]
    fn a_copy_does_its_work_and_ends() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let copy = spawn(|| i32::from(writer.write_all(b"done").is_err())).unwrap();
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(copy.wait().unwrap().success());
        assert_eq!(said, "done");
    }
}
