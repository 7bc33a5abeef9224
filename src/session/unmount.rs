//! Takes a mounted space away and waits until its daemon is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::space::{MountState, Space};
use crate::sys::errno::Errno;
use crate::sys::mount::{self, MountId};
use crate::sys::process::Process;
use crate::sys::process::daemon::users_of as process_users;
use crate::sys::process::signals;

use super::context::Context;
use super::error::{Busy, NotFound};
use super::mounters::Mounters;
use super::request::SpaceName;

/// How long a daemon may go on after a lazy unmount before we tell that files are still open.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a process may take to end that has nothing to do any more.
const ENDING: Duration = Duration::from_secs(2);
/// How long it may take to make what was written durable: a slow disk may have gigabytes to take.
const WRITING: Duration = Duration::from_secs(300);

/// How long the daemon's primer may take to leave the mount alone.
const QUIET: Duration = Duration::from_secs(2);

/// How long to wait at most before the daemon is looked for again.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

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
    let Ok(dirs) = std::fs::read_dir(context.home.spaces_dir()) else { return Ok(None) };
    let names = dirs.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for dir in names.filter(|dir| dir.starts_with(label.as_str())) {
        let Some(state) = MountState::read_in(&context.home.spaces_dir().below(dir))? else { continue };
        let Some(base) = state.mountpoint.parent() else { continue };
        return Ok(Some(context.space(base, name)));
    }
    Ok(None)
}

/// Unmounts `space` and waits for its daemon.
pub fn unmount(context: &Context, space: &Space, lazy: bool) -> anyhow::Result<()> {
    let daemon = space.mount_state()?.map(|state| state.process).filter(Process::is_alive);
    if let Some(daemon) = &daemon {
        signals::ask_for_quiet(daemon.pid);
    }
    match unmount_when_quiet(&context.mounters(), &space.root, lazy, daemon.as_ref()) {
        Ok(()) => {}
        Err(error) if is_busy(&error) => return Err(busy(&space.root).into()),
        Err(error) => return Err(error).with_context(|| format!("Cannot unmount {}", space.root.display())),
    }
    let started = Instant::now();
    // Somebody may have mounted it again by now: that is another holder.
    let mut pause = Duration::from_micros(100);
    let is_it = |holder| daemon.as_ref().is_none_or(|daemon| *daemon == holder);
    while let Some(holder) = space.live_holder().filter(|holder| is_it(*holder)) {
        if started.elapsed() > if lazy { PATIENCE } else { WRITING } {
            return Err(still_served(&space.root, holder, lazy).into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    // Its files are closed after its locks are free: whoever unmounts the disk next would find it busy.
    let ending = Instant::now();
    while daemon.as_ref().is_some_and(|daemon| !daemon.has_ended()) && ending.elapsed() < ENDING {
        std::thread::sleep(LONGEST_PAUSE / 10);
    }
    // A daemon that was killed could not do this itself.
    if space.mount_state()?.is_some_and(|state| !state.process.is_alive()) {
        space.clear_mount_state()?;
    }
    Ok(())
}

/// The daemon's own work in the mount ends in a moment; anybody else's is busy.
fn unmount_when_quiet(
    mounters: &Mounters,
    root: &Path,
    lazy: bool,
    daemon: Option<&Process>,
) -> std::io::Result<()> {
    let started = Instant::now();
    loop {
        let outcome = unmount_path(mounters, root, lazy);
        let busy = outcome.as_ref().is_err_and(is_busy);
        let daemon = daemon.map(|daemon| daemon.pid);
        let others =
            || process_users(root).into_iter().any(|user| daemon.is_none() || user.parent() != daemon);
        if !busy || started.elapsed() > QUIET || others() {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_busy(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.0)
}

fn unmount_path(mounters: &Mounters, root: &Path, lazy: bool) -> std::io::Result<()> {
    match mount::unmount(root, lazy) {
        // Nothing is mounted there: somebody else was faster.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, lazy, error)
        }
        other => other,
    }
}

/// Takes whatever is mounted at `root` out of the tree.
pub fn detach(mounters: &Mounters, root: &Path) -> anyhow::Result<()> {
    unmount_path(mounters, root, true).with_context(|| format!("Cannot unmount {}", root.display()))
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
