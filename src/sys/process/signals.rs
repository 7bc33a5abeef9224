//! Signal handling on a separate thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: exit.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// SIGUSR1: stop using the mount, another process wants to unmount it.
    Quiet,
}

/// From now on SIGUSR1 does not end this process, which cannot handle it yet.
pub fn expect_quiet() -> io::Result<()> {
    signal_hook::flag::register(SIGUSR1, Arc::default()).map(drop)
}

/// Calls `handler` for each signal from now on.
pub fn handle(mut handler: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
    let serve = move || {
        for signal in signals.forever() {
            handler(match signal {
                SIGHUP => Signal::Hangup,
                SIGUSR1 => Signal::Quiet,
                _ => Signal::Terminate,
            });
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(serve).map(drop)
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
