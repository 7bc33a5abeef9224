//! Restarting a mount: the installed program serves it from now on, instead of the one that served it until now. Nothing is
//! unmounted, and programs only wait for a moment.
//!
//! The command sends a signal to the supervisor, see [`supervise`](super::supervise), and waits for the record in `mount.json`,
//! which the server that serves afterwards writes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::chain;
use crate::space::{MountState, Space, inventory};
use crate::sys::process::{Process, daemon, is_root, program, signals};

use super::context::Context;
use super::error::{Busy, NotFound, SessionError};
use super::request::SpaceName;
use super::start::Start;
use super::unmount;

/// How long a restart may take: the successor may need time to read what was written, and the disk may be slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval at which the record is checked.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long a command may take to start or end the space before a server gives up recording.
const RECORDING: Duration = Duration::from_secs(20);

/// The outcome for one mount.
#[derive(Debug, Serialize)]
pub struct Restarted {
    /// The space.
    pub space: String,
    /// Its controller.
    pub controller: String,
    /// Where it is mounted.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// The version that served before.
    pub from: String,
    /// The version that serves now.
    pub to: String,
    /// How long the command waited, in milliseconds.
    pub took_ms: u64,
    /// Why the previous program still serves; `None` if it does not.
    pub refused: Option<String>,
}

/// The outcome for all mounts.
#[derive(Debug, Serialize)]
pub struct AllRestarted {
    /// The mounts of this home.
    pub spaces: Vec<Restarted>,
    /// The number of supervisors of other homes and users that were signalled too; only root signals them.
    pub others: usize,
}

/// Restarts the mount of one space.
pub fn one(context: &Context, name: &SpaceName) -> Result<Restarted, SessionError> {
    let restarted = restart(&unmount::find(context, name)?)?;
    match &restarted.refused {
        None => Ok(restarted),
        Some(why) => {
            let path = restarted.path.display();
            Err(Busy(format!("{path} is still served by the former program: {why}")).into())
        }
    }
}

/// Restarts every mount of this home, and for root also those of other homes and users that run the installed program.
pub fn all(context: &Context) -> Result<AllRestarted, SessionError> {
    let mut restarted = Vec::new();
    let mut known = Vec::new();
    for found in inventory::known(&context.home)? {
        let Some(state) = found.space.mount_state()? else { continue };
        if found.space.live_holder() != Some(state.process) {
            continue; // it is dead: the next mount repairs it
        }
        known.push(state.process.pid);
        restarted.push(match restart(&found.space) {
            Ok(outcome) => outcome,
            Err(error) => refused(&state, Instant::now(), chain(&error).to_string()),
        });
    }
    let others = if is_root() { ask_others(&known) } else { 0 };
    Ok(AllRestarted { spaces: restarted, others })
}

fn restart(space: &Space) -> Result<Restarted, SessionError> {
    let root = space.root.display();
    let nothing = || NotFound(format!("{root} is not mounted"));
    let state = space.mount_state()?.ok_or_else(nothing)?;
    // The state alone does not justify a signal: the process must hold our lock.
    if space.live_holder() != Some(state.process) {
        return Err(NotFound(format!("{root} has no server any more; mount it again")).into());
    }
    let Some(before) = state.restarts.clone() else {
        let version = if state.version.is_empty() { "an older version" } else { &state.version };
        return Err(Busy(format!(
            "{root} was mounted by {version}, which cannot be replaced while it serves; unmount it and mount it again"
        ))
        .into());
    };
    let started = Instant::now();
    signals::ask_for_restart(state.process.pid, || space.live_holder() == Some(state.process))?;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = space.mount_state()?.filter(|now| now.process == state.process).ok_or_else(nothing)?;
        if let Some(after) = now.restarts.clone().filter(|after| after.count != before.count) {
            let took_ms = millis(started);
            return Ok(match after.refused {
                Some(why) => refused(&state, started, why),
                None => Restarted {
                    to: now.version,
                    refused: None,
                    took_ms,
                    ..refused(&state, started, String::new())
                },
            });
        }
        if space.live_holder() != Some(state.process) {
            return Err(NotFound(format!("{root} was unmounted meanwhile")).into());
        }
        if started.elapsed() > PATIENCE {
            return Err(Busy(format!(
                "{root} was not restarted within {} s; see its log",
                PATIENCE.as_secs()
            ))
            .into());
        }
    }
}

fn refused(state: &MountState, started: Instant, why: String) -> Restarted {
    Restarted {
        space: state.space.clone(),
        controller: state.controller.clone(),
        path: state.mountpoint.clone(),
        from: state.version.clone(),
        to: state.version.clone(),
        took_ms: millis(started),
        refused: Some(why),
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Signals the supervisors of other homes, without waiting for them.
fn ask_others(known: &[u32]) -> usize {
    let Ok(program) = program(None, None) else { return 0 };
    let others = daemon::supervisors_of(&program).into_iter().filter(|pid| !known.contains(pid));
    let still = |pid| daemon::is_supervisor_of(pid, &program);
    others.filter(|&pid| signals::ask_for_restart(pid, || still(pid)).is_ok()).count()
}

/// Records the outcome of a restart of the mount of `supervisor`, for the command that waits: done by this program, or refused.
pub fn record(space: &Space, supervisor: Process, outcome: Result<(), String>) {
    let written = try_record(space, supervisor, outcome);
    if let Err(error) = written {
        log::warn!("The restart of {} is not recorded: {}", space.root.display(), chain(&error));
    }
}

fn try_record(space: &Space, supervisor: Process, outcome: Result<(), String>) -> Result<(), SessionError> {
    let started = Instant::now();
    // Others change the record only while they hold this lock.
    let _start = loop {
        match Start::attempt(space)? {
            Some(start) => break start,
            None if started.elapsed() > RECORDING => {
                return Err(SessionError::State("another command starts or ends it".into()));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    let Some(mut state) = space.mount_state()?.filter(|state| state.process == supervisor) else {
        return Ok(()); // it was unmounted meanwhile
    };
    let mut restarts = state.restarts.take().unwrap_or_default();
    restarts.count += 1;
    if outcome.is_ok() {
        env!("CARGO_PKG_VERSION").clone_into(&mut state.version);
    }
    restarts.refused = outcome.err();
    state.restarts = Some(restarts);
    space.set_mount_state(&state)?;
    Ok(())
}
