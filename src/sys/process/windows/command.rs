//! Runs a command in our place: a console sends its signals to all of its processes.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use signal_hook::consts::SIGINT;

/// SIGBREAK in C: Ctrl-Break.
const SIGBREAK: i32 = 21;

/// Proof that signals no longer end this process.
pub struct Caught(());

/// From now on Ctrl-C and Ctrl-Break do not end this process.
pub fn catch() -> io::Result<Caught> {
    for signal in [SIGINT, SIGBREAK] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(Caught(()))
}

impl Caught {
    /// A child shares our console and gets its signals directly.
    pub fn pass_on(&self, _pid: u32) -> io::Result<()> {
        Ok(())
    }
}

/// There is no inherited signal state to restore.
pub fn as_found(_command: &mut Command) {}

/// Waits until `child` has exited.
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    child.wait()
}

/// No signal ends a process here.
pub fn that_ended(_status: ExitStatus) -> Option<i32> {
    None
}

/// No signal ends a process here.
pub fn die_of(_signal: i32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_signals_of_a_console_can_be_caught() {
        catch().unwrap().pass_on(0).unwrap();
    }
}
