//! Signals, handled on a thread of their own.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Signals, SignalsInfo};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// SIGUSR1: leave the mount alone, somebody wants to unmount it.
    Quiet,
}

/// From now on SIGUSR1 does not end this process, which is not ready for it yet.
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

/// SIGTERM, SIGHUP and SIGINT that came since, to be passed on.
pub struct Caught(SignalsInfo<WithOrigin>);

/// From now on SIGTERM, SIGHUP and SIGINT do not end this process.
pub fn catch() -> io::Result<Caught> {
    SignalsInfo::new([SIGHUP, SIGINT, SIGTERM]).map(Caught)
}

impl Caught {
    /// Those that another process sent, or sends, go on to the process `pid`; those of a terminal reach it anyway, since it is in
    /// our group.
    pub fn pass_on(self, pid: u32) -> io::Result<()> {
        let mut signals = self.0;
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let serve = move || {
            for origin in signals.forever() {
                let signal = rustix::process::Signal::from_named_raw(origin.signal);
                if let (Some(_), Some(target), Some(signal)) = (origin.process, target, signal)
                    && let Err(error) = rustix::process::kill_process(target, signal)
                {
                    log::debug!("Cannot pass signal {} on to {pid}: {error}", origin.signal);
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(serve).map(drop)
    }
}

/// The signal that ended a process, if one did.
pub fn that_ended(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// Asks the process `pid` to leave its mount alone. One that is gone does not use it either.
pub fn ask_for_quiet(pid: u32) {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = rustix::process::kill_process(target, rustix::process::Signal::USR1) {
        log::debug!("Cannot ask process {pid} for quiet: {error}");
    }
}
