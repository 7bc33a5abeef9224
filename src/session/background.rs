//! What a process in the background does first: it leaves its terminal, and enters a sandbox.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::path::Path;

use super::error::{SessionError, Tried as _};
use crate::rcc::home::Home;
use crate::space::Space;
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;
use crate::sys::process::sandbox::{self, Closed, Sandbox};
use crate::sys::process::{daemon, this_process};

/// Detaches from the starter: closes inherited descriptors, and starts a new session.
pub fn enter() -> Result<(), SessionError> {
    daemon::close_inherited().tried("Cannot close inherited descriptors")?;
    daemon::new_session().tried("Cannot start a session")
}

/// Like [`enter`], for a fork of a process with one thread, as if it were a program started as `holofs WORD` with these pipes.
pub fn enter_as(word: &str, stdin: PipeReader, stdout: PipeWriter) -> Result<(), SessionError> {
    daemon::keep_only(stdin, stdout).tried("Cannot close inherited descriptors")?;
    daemon::new_session().tried("Cannot start a session")?;
    if let Err(error) = this_process::show_as(word) {
        log::debug!("This process is shown with the arguments of its starter: {error}");
    }
    Ok(())
}

/// Like [`enter`], for a fork that leaves with its parent: its descriptors are open already, and its output goes to our stderr.
pub fn alone() -> std::io::Result<()> {
    daemon::redirect_stdio(&daemon::stderr()?)?;
    daemon::new_group()
}

/// The paths that the daemon uses while it serves: the hololib, the raw store, the space's state, and the devices for FUSE,
/// redirected stdio and SQLite's random numbers.
pub fn sandbox(home: &Home, space: &Space) -> Sandbox {
    let device = |name: &str| Path::new("/dev").join(name);
    let hololib = home.library().parent().map_or_else(|| home.library(), Path::to_owned);
    Sandbox {
        read: vec![hololib, device("urandom")],
        write: vec![home.raw_dir().into(), space.state_dir.clone().into(), device("fuse"), device("null")],
        handed_over: Vec::new(),
    }
}

/// Sandboxes this thread and the threads it starts; logs in one line what the kernel does not support.
pub fn confine(sandbox: &Sandbox) {
    tell(&sandbox.close());
}

/// Disables core files and tracing for a process that only serves.
pub fn harden() {
    tell(&sandbox::harden_process());
}

fn tell(closed: &Closed) {
    match closed.is_complete() {
        true => log::debug!("The sandbox around {:?} is complete", std::thread::current().name()),
        false => log::warn!("The sandbox is not complete: {}", closed.missing.join("; ")),
    }
}

/// Keeps no directory busy; returns the log, for what is printed from now on.
pub fn leave_dir_for(log: &Place) -> Result<File, SessionError> {
    let file = log.in_dir(OwnedDir::open_to_append);
    let file = file.tried_with(|| format!("Cannot open the log {}", log.display()))?;
    daemon::leave_dir().tried("Cannot change to /")?;
    Ok(file)
}
