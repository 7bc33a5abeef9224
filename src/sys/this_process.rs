//! What the operating system says about this process and its fellows.

use rustix::io::Errno;
use rustix::process::{Pid, Resource};

/// How many descriptors this process may have open; `None` is unlimited.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// The user as whom this process acts.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True unless there is certainly no process with this number.
pub fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_waited_child_is_not() {
        assert!(is_alive(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
        assert!(!is_alive(u32::MAX));
    }
}
