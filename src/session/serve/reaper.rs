//! Takes a mount away that nobody keeps, once nobody uses it: what a command left behind, or one that was killed.
//!
//! It asks nothing of the mount itself, and waits for no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::session::context::Context;
use crate::session::mounters::Mounters;
use crate::session::start::Start;
use crate::session::supervise::Server;
use crate::session::unmount::{is_wanted_here, unmount_ours};
use crate::space::{Space, Wait};

/// How often it is looked whether somebody uses the mount.
const EVERY: Duration = Duration::from_secs(1);

/// Starts looking, until `stop`.
pub fn start(context: &Context, space: &Space, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let (mounters, space, stop) = (context.mounters(), space.clone(), Arc::clone(stop));
    let work = move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(EVERY);
            if let Err(error) = look(&mounters, &space) {
                log::debug!("{} stays for now: {error:#}", space.root.display());
            }
        }
    };
    std::thread::Builder::new().name("reaper".into()).spawn(work).map(drop).context("Cannot start a thread")
}

/// Lets the supervisor, a copy of the process that runs a command, stay for what the command leaves behind. Not before the start lock is free:
/// as a copy it has the lock too, and were the other one killed before, nobody would free it.
pub fn outlive(space: &Space, server: &Server<'_>) -> std::io::Result<()> {
    while Start::attempt(space)?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.outlives()
}

fn look(mounters: &Mounters, space: &Space) -> anyhow::Result<()> {
    let Some(_start) = Start::attempt(space)? else { return Ok(()) };
    let Some(state) = space.mount_state()? else { return Ok(()) };
    if is_wanted_here(space, &state) {
        return Ok(());
    }
    let _lock = space.lock(Wait::Not, &|_| {})?;
    Ok(unmount_ours(mounters, &space.root, state.device, false)?)
}
