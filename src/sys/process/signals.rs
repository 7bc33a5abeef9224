//! Signals to this process, and from it to a daemon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// From now on this process does nothing on signals that are requests; its supervisor forwards them as messages. They are not
/// ignored, because started processes would inherit that.
pub fn leave_to_supervisor() -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// A flag that SIGTERM, SIGHUP and SIGINT set from now on, instead of ending this process.
pub fn interruption() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// Ends the process `pid` at once with two SIGTERMs, each sent only if `is_it`: a daemon that gets a second one does not wait.
pub fn terminate(pid: u32, is_it: impl Fn() -> bool) {
    for _ in 0..2 {
        if let Err(error) = send(pid, Signal::TERM, &is_it) {
            log::debug!("Cannot end process {pid}: {error}");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Asks the process `pid` to stop using its mount, if `is_it`. A process that has ended does not use it either.
pub fn ask_for_quiet(pid: u32, is_it: impl Fn() -> bool) {
    if let Err(error) = send(pid, Signal::USR1, &is_it) {
        log::debug!("Cannot make process {pid} leave its mount alone: {error}");
    }
}

/// Asks the supervisor `pid` to let the installed program serve its mount, if `is_it`.
pub fn ask_for_restart(pid: u32, is_it: impl Fn() -> bool) -> io::Result<()> {
    send(pid, Signal::USR2, &is_it)
}

/// Sends a signal to the process `pid` if `is_it` is true for it. On Linux `is_it` is called while a pidfd refers to the process, so
/// the signal cannot reach another process that was given the same pid.
fn send(pid: u32, signal: Signal, is_it: &dyn Fn() -> bool) -> io::Result<()> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let other = || io::Error::new(io::ErrorKind::NotFound, "another process has its number now");
    #[cfg(target_os = "linux")]
    match rustix::process::pidfd_open(target, rustix::process::PidfdFlags::empty()) {
        Ok(process) if is_it() => return Ok(rustix::process::pidfd_send_signal(process, signal)?),
        Ok(_) => return Err(other()),
        Err(rustix::io::Errno::NOSYS) => {} // before Linux 5.3
        Err(error) => return Err(error.into()),
    }
    if is_it() { Ok(rustix::process::kill_process(target, signal)?) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_spares_a_process_that_is_not_the_one_meant() {
        let mut quiet = std::process::Command::new("sleep");
        let mut child = quiet.arg("600").spawn().unwrap();
        terminate(child.id(), || false);
        assert_eq!(ask_for_restart(child.id(), || false).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(child.try_wait().unwrap().is_none());
        terminate(child.id(), || true);
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    }
}
