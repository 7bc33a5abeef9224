//! Takes a mount away: only the one that is recorded, only here, and without waiting for anybody else's namespace.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::space::lease::{self, Lease};
use crate::space::{MountState, Space, SpaceError, Wait};
use crate::sys::errno::Errno;
use crate::sys::fs::disk;
use crate::sys::fs::place::Place;
use crate::sys::mount::{self, MountId, namespace};
use crate::sys::process::Process;
use crate::sys::process::daemon::users_of as process_users;
use crate::sys::process::signals;

use super::context::Context;
use super::decide::AtRoot;
use super::error::{Busy, NotFound};
use super::mounters::Mounters;
use super::request::SpaceName;
use super::snapshot;
use super::start::{Deadline, Start};

/// How long a daemon may go on after its mount is gone before we tell that files are still open.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a process may take to end that has nothing to do any more.
const ENDING: Duration = Duration::from_secs(2);
/// How long it may take to make what was written durable: a slow disk may have gigabytes to take.
const WRITING: Duration = Duration::from_secs(300);
/// How long the daemon's own process that reads ahead may take to leave the mount alone.
const QUIET: Duration = Duration::from_secs(2);
/// How long to wait at most before the daemon is looked for again.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// A daemon that goes on for this long may be kept by a copy of its mount in another namespace.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// How long a command that enters a namespace of its own may take to drop what it does not use there.
const ENTERING: Duration = Duration::from_millis(500);
/// How long the end of a command may wait for another one that starts or ends.
const END_WAIT: Duration = Duration::from_secs(10);

/// How to take a mount away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Even if it is in use: open files stay readable for a while.
    pub lazy: bool,
    /// As `lazy`, and its server ends.
    pub force: bool,
}

/// The mounted space of that name, whatever base its catalog has.
pub fn find(context: &Context, name: &SpaceName) -> anyhow::Result<Space> {
    let space = mounted_space(context, name)?;
    space.ok_or_else(|| {
        NotFound(format!("Space {:?} of controller {:?} is not mounted", name.space, name.controller)).into()
    })
}

/// The space of that name that is mounted (or whose mount died), whatever base its catalog has.
fn mounted_space(context: &Context, name: &SpaceName) -> anyhow::Result<Option<Space>> {
    let label = context.home.label(&name.controller, &name.space);
    let spaces = context.home.spaces_dir();
    let dirs = spaces.entries().with_context(|| format!("Cannot list {}", spaces.display()))?;
    let is_of_it =
        |dir: &Place| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(label.as_str()));
    for dir in dirs.iter().filter(|dir| is_of_it(dir)) {
        let Some(state) = MountState::read_in(dir)? else { continue };
        let Some(base) = state.mountpoint.parent() else { continue };
        return Ok(Some(context.space(base, name)));
    }
    Ok(None)
}

/// Unmounts `space` for good: what was written is on disk when this returns.
pub fn unmount(context: &Context, space: &Space, manner: Manner) -> anyhow::Result<()> {
    let deadline = Deadline::of(context.wait);
    let _start = Start::take(context, space, &deadline)?;
    let Some(state) = space.mount_state()? else {
        return Err(NotFound(format!("{} is not mounted", space.root.display())).into());
    };
    let eager = !manner.lazy && !manner.force;
    refuse_used(space, eager)?;
    let _lock = match space.lock(deadline.left(), &|waiting| context.front.waiting(waiting)) {
        // RCC cannot change the space either.
        Err(SpaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => None,
        taken => Some(taken?),
    };
    let mut patience = if eager { WRITING } else { PATIENCE };
    match snapshot::at_root(space, Some(state.device)) {
        AtRoot::Ours | AtRoot::Dead => take_away(context, space, &state, !eager)?,
        AtRoot::Foreign if eager => {
            let root = space.root.display();
            return Err(Busy(format!("Another mount lies on {root}, which is not ours to take away")).into());
        }
        AtRoot::Nothing if eager => {
            refuse_elsewhere(space, &state)?;
            // It was unmounted by another hand: what keeps its daemon is open files.
            patience = PATIENCE;
        }
        AtRoot::Foreign | AtRoot::Nothing => {}
    }
    // Only who holds our lock gets a signal, whatever the state says.
    if manner.force && space.live_holder() == Some(state.process) {
        signals::terminate(state.process.pid);
    }
    finish(context, space, &state, patience)
}

/// While somebody has a lease, only force takes a mount away.
fn refuse_used(space: &Space, eager: bool) -> anyhow::Result<()> {
    let users = lease::users(&space.state_dir);
    if users.is_empty() || !eager {
        return Ok(());
    }
    let (root, users) = (space.root.display(), lease::told(&users));
    Err(Busy(format!("{root} is in use by {users}; end it, or use --lazy")).into())
}

/// What is mounted in another namespace is unmounted there.
fn refuse_elsewhere(space: &Space, state: &MountState) -> anyhow::Result<()> {
    let there = namespace::elsewhere(state.device, state.process.pid);
    let Some(first) = there.first().filter(|_| state.process.is_alive()) else { return Ok(()) };
    let root = space.root.display();
    Err(Busy(format!(
        "{root} is not mounted here, but in the mount namespace of process {}; unmount it there, or use --force",
        first.pid
    ))
    .into())
}

/// Lets go of `lease`; the last user of a mount that is not kept takes it away. What still uses files of it keeps it, and the
/// daemon takes it away after that.
pub fn leave(context: &Context, space: &Space, lease: Option<Lease>) -> anyhow::Result<()> {
    let bound = match context.wait {
        Wait::For(bound) => bound.min(END_WAIT),
        Wait::Forever | Wait::Not => END_WAIT,
    };
    let _start = Start::take(context, space, &Deadline::of(Wait::For(bound)))?;
    drop(lease);
    let Some(state) = space.mount_state()? else { return Ok(()) };
    if is_wanted_here(space, &state) || snapshot::at_root(space, Some(state.device)) != AtRoot::Ours {
        return Ok(());
    }
    // RCC works in it: the daemon takes it away later.
    let Ok(_lock) = space.lock(Wait::Not, &|_| {}) else { return Ok(()) };
    match take_away(context, space, &state, false) {
        Err(error) if error.is::<Busy>() => {
            log::info!("{error:#}");
            let users: Vec<String> = process_users(&space.root).iter().map(ToString::to_string).collect();
            let (root, users) = (space.root.display(), users.join(", "));
            context.front.note(&format!("{root} stays mounted until {users} is done with it"));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => finish(context, space, &state, WRITING),
    }
}

/// True if the mount in this namespace is kept, or used by somebody in it.
pub fn is_wanted_here(space: &Space, state: &MountState) -> bool {
    let here = namespace::current();
    state.kept_in.contains(&kept_here())
        || lease::users(&space.state_dir).iter().any(|user| user.namespace == here)
}

/// The number under which a mount is kept here; without /proc, where namespaces have no number, they all count as one.
pub fn kept_here() -> u64 {
    namespace::current().unwrap_or_default()
}

/// Takes the recorded mount out of this mount namespace.
fn take_away(context: &Context, space: &Space, state: &MountState, lazy: bool) -> anyhow::Result<()> {
    // What the state says is not enough to send anybody a signal: it has to be who holds our lock.
    let daemon = space.live_holder().filter(|holder| *holder == state.process);
    if let Some(daemon) = &daemon {
        signals::ask_for_quiet(daemon.pid);
    }
    let root = &space.root;
    match unmount_when_quiet(&context.mounters(), root, state.device, lazy, daemon.as_ref()) {
        Ok(()) => Ok(()),
        Err(error) if is_busy(&error) => Err(busy(root).into()),
        Err(error) => Err(error).with_context(|| format!("Cannot unmount {}", root.display())),
    }
}

/// The mount is gone from here: waits until what was written is on disk, for nobody else.
fn finish(context: &Context, space: &Space, state: &MountState, patience: Duration) -> anyhow::Result<()> {
    let daemon = state.process;
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    let mut look_at = LOOK_AROUND;
    // Somebody may have mounted it again by now: that is another holder.
    while space.live_holder() == Some(daemon) {
        if started.elapsed() > look_at {
            // A command of ours that enters a namespace of its own drops its copy in a moment.
            let entering =
                |pid: u32| started.elapsed() < ENTERING && Process::with_id(pid).is_of_this_program();
            match namespace::elsewhere(state.device, daemon.pid).first() {
                Some(there) if !entering(there.pid) => return served_on(context, space, there.pid),
                Some(_) => look_at = started.elapsed() + LOOK_AROUND,
                None => look_at = Duration::MAX,
            }
        }
        if started.elapsed() > patience {
            return Err(still_served(&space.root, daemon, patience == PATIENCE).into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    // Its files are closed after its locks are free: whoever unmounts the disk next would find it busy.
    let ending = Instant::now();
    while !daemon.has_ended() && ending.elapsed() < ENDING {
        std::thread::sleep(LONGEST_PAUSE / 10);
    }
    // A daemon that was killed could not do this itself.
    if space.mount_state()?.is_some_and(|state| !state.process.is_alive()) {
        space.clear_mount_state()?;
    }
    Ok(())
}

/// A copy of the mount lives on where it is not our business. What was written here is on disk.
fn served_on(context: &Context, space: &Space, pid: u32) -> anyhow::Result<()> {
    disk::sync(&space.state_dir)
        .with_context(|| format!("Cannot make durable what is in {}", space.state_dir.display()))?;
    context.front.note(&format!(
        "{} is unmounted here; a copy of the mount in the namespace of process {pid} is served until it goes",
        space.root.display()
    ));
    Ok(())
}

/// The daemon's own work in the mount ends in a moment; anybody else's is busy.
fn unmount_when_quiet(
    mounters: &Mounters,
    root: &Path,
    device: u64,
    lazy: bool,
    daemon: Option<&Process>,
) -> std::io::Result<()> {
    let started = Instant::now();
    loop {
        let outcome = unmount_ours(mounters, root, device, lazy);
        let busy = outcome.as_ref().is_err_and(is_busy);
        let daemon = daemon.map(|daemon| daemon.pid);
        let ours = |user: &Process| daemon.is_some_and(|daemon| user.descends_from(daemon));
        let others = || process_users(root).into_iter().any(|user| !ours(&user));
        if !busy || started.elapsed() > QUIET || others() {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_busy(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.0)
}

/// Takes the mount of `device` away if it is what is visible at `root`; nothing else.
pub fn unmount_ours(mounters: &Mounters, root: &Path, device: u64, lazy: bool) -> std::io::Result<()> {
    match mount::unmount_device(root, device, lazy) {
        // Nothing is mounted there: somebody else was faster.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, lazy, error)
        }
        other => other.map(drop),
    }
}

/// Takes whatever is mounted at `root` out of the tree.
pub fn detach(mounters: &Mounters, root: &Path) -> anyhow::Result<()> {
    let outcome = match mount::unmount(root, true) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, true, error)
        }
        other => other,
    };
    outcome.with_context(|| format!("Cannot unmount {}", root.display()))
}

/// As [`detach`], but only the mount `id`; false if it is not the one on top.
pub fn detach_own(mounters: &Mounters, root: &Path, id: MountId) -> anyhow::Result<bool> {
    match mount::detach(root, id) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            detach(mounters, root).map(|()| true)
        }
        other => other.with_context(|| format!("Cannot unmount {}", root.display())),
    }
}

/// The mount is gone, its daemon is not.
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
