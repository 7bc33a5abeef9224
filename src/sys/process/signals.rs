//! Signals to this process, and from it to a daemon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// From now on signals that ask a process for something are left to the one that passes them on. They are not ignored, which those that
/// this process starts would inherit.
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

/// Ends the process `pid` at once by a second SIGTERM: a daemon that gets two waits for nothing.
pub fn terminate(pid: u32) {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    for _ in 0..2 {
        if let Err(error) = rustix::process::kill_process(target, rustix::process::Signal::TERM) {
            log::debug!("Cannot end process {pid}: {error}");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Asks the process `pid` to stop using its mount. One that is gone does not use it either.
pub fn ask_for_quiet(pid: u32) {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = rustix::process::kill_process(target, rustix::process::Signal::USR1) {
        log::debug!("Cannot ask process {pid} for quiet: {error}");
    }
}

/// Asks the supervisor `pid` to let the installed program serve its mount.
pub fn ask_for_restart(pid: u32) -> io::Result<()> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::kill_process(target, rustix::process::Signal::USR2)?)
}
