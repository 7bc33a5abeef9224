//! Unmounts a mount without `keep` once it is unused: after background processes of a command end, or a command was killed.
//!
//! It does not access the mount itself, and waits for no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::chain;
use crate::session::context::Context;
use crate::session::detach::unmount_ours;
use crate::session::error::{SessionError, Tried as _};
use crate::session::kept::is_wanted_here;
use crate::session::mounters::Mounters;
use crate::session::start::Start;
use crate::session::supervise::Server;
use crate::space::{MountState, Space, Wait};

/// The interval of checks for users of the mount.
const EVERY: Duration = Duration::from_secs(1);
/// How many times, and at what interval, a check tries to take the start lock: a command that waits for the end of the mount
/// takes it briefly, again and again.
const TRIES: (u32, Duration) = (40, Duration::from_millis(5));

/// Starts checking, until `stop`. The mount has been recorded.
pub fn start(context: &Context, space: &Space, stop: &Arc<AtomicBool>) -> Result<(), SessionError> {
    let recorded = space.mount_state()?.tried("The mount has no record")?;
    let (mounters, space, stop) = (context.mounters(), space.clone(), Arc::clone(stop));
    let work = move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(EVERY);
            if let Err(error) = look(&mounters, &space, &recorded) {
                log::debug!("{} is kept for now: {}", space.root.display(), chain(&error));
            }
        }
    };
    std::thread::Builder::new().name("reaper".into()).spawn(work).map(drop).tried("Cannot start a thread")
}

/// Lets the supervisor, a fork of the process that runs a command, keep running for the processes that the command leaves behind.
/// Waits until the start lock is free: the fork shares it, and if the other process is killed first, it would never be released.
pub fn outlive(space: &Space, server: &Server<'_>) -> std::io::Result<()> {
    while Start::attempt(space)?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.outlives()
}

fn look(mounters: &Mounters, space: &Space, recorded: &MountState) -> Result<(), SessionError> {
    if space.mount_state()?.is_none() {
        // The state of the space was deleted, as by a job that removes its home: no command will find the mount again.
        return Ok(unmount_ours(mounters, &space.root, recorded, false)?);
    }
    let Some(_start) = start_lock(space)? else { return Ok(()) };
    let Some(state) = space.mount_state()? else { return Ok(()) };
    if is_wanted_here(space, &state) {
        return Ok(());
    }
    let _lock = space.lock(Wait::Not, &|_| {})?;
    Ok(unmount_ours(mounters, &space.root, &state, false)?)
}

fn start_lock(space: &Space) -> std::io::Result<Option<Start>> {
    let (tries, pause) = TRIES;
    for _ in 1..tries {
        if let Some(start) = Start::attempt(space)? {
            return Ok(Some(start));
        }
        std::thread::sleep(pause);
    }
    Start::attempt(space)
}
