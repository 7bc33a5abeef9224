//! Unmounts: only the recorded mount, only in this namespace, and without waiting for other namespaces.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::chain;
use crate::space::inventory;
use crate::space::lease::{self, Lease};
use crate::space::{MountState, Space, SpaceError, Wait};
use crate::sys::errno::Errno;
use crate::sys::fs::disk;
use crate::sys::mount::namespace;
use crate::sys::process::Process;
use crate::sys::process::daemon::users_of as process_users;
use crate::sys::process::signals;

use super::clear;
use super::context::Context;
use super::decide::AtRoot;
use super::detach::unmount_ours;
use super::error::{Busy, NotAmong, NotFound, SessionError, Tried as _};
use super::kept::{is_wanted_elsewhere, is_wanted_here};
use super::mounters::Mounters;
use super::request::SpaceName;
use super::snapshot;
use super::start::{Deadline, Start};
use super::written;

/// How long a daemon may run after its mount is gone before open files are reported.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a process without work may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// How long a sync of written data may take: a slow disk may have to write gigabytes.
const WRITING: Duration = Duration::from_secs(300);
/// How long a busy mount is retried before its users are searched for: the search takes as long as our own process needs to leave
/// the mount.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How long the daemon's process that reads ahead may take to leave the mount.
const QUIET: Duration = Duration::from_secs(2);
/// The longest pause between checks for the daemon.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// After this time, checks whether a copy of the mount in another namespace keeps the daemon running.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// How long a command that enters its own namespace may take to drop its unused mounts.
const ENTERING: Duration = Duration::from_millis(500);
/// How long the mount's own server may hold RCC's lock while it writes RCC's marks.
const MARKING: Duration = Duration::from_millis(500);
/// How long a command may wait at its end for another command that starts or ends.
const END_WAIT: Duration = Duration::from_secs(10);

/// How to unmount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Unmount even if it is in use: open files stay readable for a while.
    pub lazy: bool,
    /// Like `lazy`, and end the server.
    pub force: bool,
}

/// The mounted space with that name, for any base.
pub fn find(context: &Context, name: &SpaceName) -> Result<Space, SessionError> {
    let space = mounted_space(context, name)?;
    space.ok_or_else(|| {
        let (space, controller) = (&name.space, &name.controller);
        NotAmong::spaces(format!("Space {space:?} of controller {controller:?} is not mounted")).into()
    })
}

/// The space with that name that is mounted (or whose mount is dead), for any base.
fn mounted_space(context: &Context, name: &SpaceName) -> Result<Option<Space>, SessionError> {
    for dir in written::state_dirs(context, name)? {
        let Some(state) = MountState::read_in(&dir)? else { continue };
        let Some(base) = state.mountpoint.parent() else { continue };
        return Ok(Some(context.space(base, name)));
    }
    // A server can be killed between its mount and the record.
    let found = inventory::find(&context.home, &name.controller, &name.space)?;
    Ok(found.into_iter().map(|known| known.space).find(snapshot::is_dead))
}

/// Unmounts `space` completely: written data is on disk when this returns.
pub fn unmount(context: &Context, space: &Space, manner: Manner) -> Result<(), SessionError> {
    let deadline = Deadline::of(context.wait);
    let start = Start::take(context, space, &deadline)?;
    let eager = !manner.lazy && !manner.force;
    let Some(state) = space.mount_state()? else {
        if snapshot::is_dead(space) {
            refuse_used(space, None, eager)?;
            return clear::clear(context, space, &start);
        }
        return Err(NotFound(format!("{} is not mounted", space.root.display())).into());
    };
    refuse_used(space, Some(&state), eager)?;
    let _lock = match space.lock(deadline.left(), &|waiting| context.front.waiting(waiting)) {
        // RCC cannot change the space either.
        Err(SpaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => None,
        taken => Some(taken?),
    };
    let mut patience = if eager { WRITING } else { PATIENCE };
    match snapshot::at_root(space, &state) {
        AtRoot::Ours | AtRoot::Dead => take_away(context, space, &state, !eager)?,
        AtRoot::Foreign if eager => {
            let root = space.root.display();
            return Err(Busy(format!("Another mount is on top of {root}; HoloFS does not remove it")).into());
        }
        AtRoot::Nothing if eager => {
            refuse_elsewhere(space, &state)?;
            // It was unmounted by others: open files keep its daemon alive.
            patience = PATIENCE;
        }
        AtRoot::Foreign | AtRoot::Nothing => {}
    }
    // Only the holder of our lock is signalled, whatever the state says.
    if manner.force && space.live_holder() == Some(state.process) {
        signals::terminate(state.process.pid, || space.live_holder() == Some(state.process));
    }
    finish(context, space, &state, patience)
}

/// Refuses to unmount while a command has a lease, unless forced; and even then, if the command would see files of another catalog.
fn refuse_used(space: &Space, state: Option<&MountState>, eager: bool) -> Result<(), SessionError> {
    let users = lease::users(&space.state_dir);
    let what = match eager {
        _ if users.is_empty() => return Ok(()),
        true => "end it, or use --lazy",
        false if snapshot::hides_another(space, state) => {
            "it would see the files below the mount, which are of another catalog; end it"
        }
        false => return Ok(()),
    };
    Err(Busy(format!("{} is in use by {}; {what}", space.root.display(), lease::described(&users))).into())
}

/// Refuses a mount in another namespace, which has to be unmounted there.
fn refuse_elsewhere(space: &Space, state: &MountState) -> Result<(), SessionError> {
    if space.hidden_holder(state).is_some() {
        let (root, holder) = (space.root.display(), state.process);
        return Err(Busy(format!(
            "{root} is not mounted here, but by {holder} of another PID namespace; unmount it there"
        ))
        .into());
    }
    let there = snapshot::elsewhere(state);
    let Some(first) = there.first().filter(|_| state.process.is_alive()) else { return Ok(()) };
    let root = space.root.display();
    Err(Busy(format!(
        "{root} is not mounted here, but in the mount namespace of process {}; unmount it there, or use --force",
        first.pid
    ))
    .into())
}

/// Releases `lease`; the last user of a mount without `keep` unmounts it. If files are still in use, the daemon unmounts it later.
pub fn leave(context: &Context, space: &Space, lease: Option<Lease>) -> Result<(), SessionError> {
    let bound = match context.wait {
        Wait::For(bound) => bound.min(END_WAIT),
        Wait::Forever | Wait::Not => END_WAIT,
    };
    let _start = Start::take(context, space, &Deadline::of(Wait::For(bound)))?;
    drop(lease);
    let Some(state) = space.mount_state()? else { return Ok(()) };
    if is_wanted_here(space, &state) || snapshot::at_root(space, &state) != AtRoot::Ours {
        return Ok(());
    }
    // RCC is using it: the daemon unmounts it later.
    let Ok(_lock) = space.lock(Wait::For(MARKING), &|_| {}) else { return Ok(()) };
    match take_away(context, space, &state, false) {
        Err(error) if error.find::<Busy>().is_some() => {
            log::info!("{}", chain(&error));
            let users: Vec<String> = process_users(&space.root).iter().map(ToString::to_string).collect();
            let (root, users) = (space.root.display(), users.join(", "));
            context.front.note(&format!("{root} stays mounted until {users} ends"));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => finish(context, space, &state, WRITING),
    }
}

/// Unmounts the recorded mount in this mount namespace.
fn take_away(context: &Context, space: &Space, state: &MountState, lazy: bool) -> Result<(), SessionError> {
    // The state alone does not justify a signal: the process must hold our lock.
    let daemon = space.live_holder().filter(|holder| *holder == state.process);
    if let Some(daemon) = &daemon {
        signals::ask_for_quiet(daemon.pid, || space.live_holder().as_ref() == Some(daemon));
    }
    let root = &space.root;
    match unmount_when_quiet(&context.mounters(), root, state, lazy, daemon.as_ref()) {
        Ok(()) => Ok(()),
        Err(error) if is_busy(&error) => Err(busy(root).into()),
        Err(error) => Err(error).tried_with(|| format!("Cannot unmount {}", root.display())),
    }
}

/// After the unmount: waits until written data is on disk, and for nothing else.
fn finish(
    context: &Context,
    space: &Space,
    state: &MountState,
    patience: Duration,
) -> Result<(), SessionError> {
    let daemon = state.process;
    if space.hidden_holder(state).is_some() {
        return served_on(context, space, &format!("{daemon} of another PID namespace"));
    }
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut look_at = LOOK_AROUND;
    // It may have been mounted again: then the holder is another one.
    while space.live_holder() == Some(daemon) {
        if started.elapsed() > look_at {
            // A HoloFS command that enters its own namespace drops its copy soon.
            let entering =
                |pid: u32| started.elapsed() < ENTERING && Process::with_id(pid).is_of_this_program();
            match namespace::elsewhere(state.device, &state.source, daemon.pid).first() {
                Some(there) if !entering(there.pid) => {
                    return served_on(context, space, &format!("process {}", there.pid));
                }
                Some(_) => look_at = started.elapsed() + LOOK_AROUND,
                None if is_wanted_elsewhere(space)? => {
                    return served_on(context, space, "a command that is not visible here");
                }
                None => look_at = Duration::MAX,
            }
        }
        if started.elapsed() > patience {
            return Err(still_served(&space.root, daemon, patience == PATIENCE).into());
        }
        daemon.wait_for_end(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    // Its files are closed after its locks are released: without this wait, unmounting the disk next could fail as busy.
    let ending = Instant::now();
    while !daemon.has_ended() && ending.elapsed() < ENDING {
        daemon.wait_for_end(LONGEST_PAUSE / 10);
    }
    // A killed daemon could not do this itself.
    if space.mount_state()?.is_some_and(|state| !state.process.is_alive()) {
        space.clear_mount_state()?;
    }
    Ok(())
}

/// A copy of the mount remains in another namespace. Data written here is on disk.
fn served_on(context: &Context, space: &Space, whose: &str) -> Result<(), SessionError> {
    disk::sync(&space.state_dir).tried_with(|| format!("Cannot sync {}", space.state_dir.display()))?;
    context.front.note(&format!(
        "{} is unmounted here; a copy of the mount in the namespace of {whose} is served until it is unmounted",
        space.root.display()
    ));
    Ok(())
}

/// The daemon's own use of the mount ends soon; any other use makes it busy.
fn unmount_when_quiet(
    mounters: &Mounters,
    root: &Path,
    state: &MountState,
    lazy: bool,
    daemon: Option<&Process>,
) -> std::io::Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let outcome = unmount_ours(mounters, root, state, lazy);
        let busy = outcome.as_ref().is_err_and(is_busy);
        let daemon = daemon.map(|daemon| daemon.pid);
        let ours = |user: &Process| daemon.is_some_and(|daemon| user.descends_from(daemon));
        let others = || process_users(root).into_iter().any(|user| !ours(&user));
        if !busy || started.elapsed() > QUIET || (started.elapsed() > BRIEFLY && others()) {
            return outcome;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_busy(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.0)
}

/// The error if the mount is gone but its daemon is not.
fn still_served(root: &Path, daemon: Process, lazy: bool) -> Busy {
    let why = if lazy {
        "still serves files that are open: end the programs that have them open, or it"
    } else {
        "still makes durable what was written: the disk is slow or stuck"
    };
    let root = root.display();
    Busy(format!(
        "{root} is unmounted, but its daemon, {daemon}, {why}; until then it cannot be mounted again"
    ))
}

fn busy(root: &Path) -> Busy {
    let users: Vec<String> = process_users(root).into_iter().map(|user| user.to_string()).collect();
    let who = if users.is_empty() { "a process of another user".to_owned() } else { users.join(", ") };
    Busy(format!("{} is in use by {who}; end it, or use --lazy", root.display()))
}
