//! What a console sends to all of its processes.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

/// What Ctrl-Break is in C.
const SIGBREAK: i32 = 21;

/// What is sent from now on does not end this process.
pub struct Caught(());

/// From now on Ctrl-C and Ctrl-Break do not end this process.
pub fn catch() -> io::Result<Caught> {
    for signal in [SIGINT, SIGBREAK] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(Caught(()))
}

/// A flag that Ctrl-C and Ctrl-Break set from now on, instead of ending this process.
pub fn interruption() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGBREAK] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// No signal ends a process here.
pub fn that_ended(_status: ExitStatus) -> Option<i32> {
    None
}

impl Caught {
    /// A child is of our console and gets what is sent by itself.
    pub fn pass_on(self, _pid: u32) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_signals_of_a_console_can_be_caught() {
        catch().unwrap().pass_on(0).unwrap();
    }
}
