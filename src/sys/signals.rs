//! Signals, handled on a thread of their own.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

/// Calls `handler` for each signal from now on.
pub fn handle(mut handler: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let serve = move || {
        for signal in signals.forever() {
            handler(if signal == SIGHUP { Signal::Hangup } else { Signal::Terminate });
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(serve).map(drop)
}
