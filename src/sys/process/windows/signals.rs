//! Signals that a console sends to all of its processes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

/// SIGBREAK in C: Ctrl-Break.
const SIGBREAK: i32 = 21;

/// A flag that Ctrl-C and Ctrl-Break set from now on, instead of ending this process.
pub fn interruption() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGBREAK] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}
