//! Obtains a space for a command: decides under the start lock, and executes the decision.

use std::path::Path;
use std::time::Duration;

use crate::fs::fuse::Io;
use crate::space::lease::{self, Lease};
use crate::space::{Space, files};
use crate::store::index::{Head, Made};
use crate::store::observe::Unread;
use crate::sys::fs::beneath::{Dir, OpenError};
use crate::sys::mount::{self, Mountpoint, copies, namespace};

use super::context::Context;
use super::daemon;
use super::decide::{AtRoot, Decision, Until, Why, decide};
use super::error::{Busy, CannotMount, SessionError, Tried as _};
use super::foreign;
use super::kept::kept_here;
use super::left::{LOOK_EVERY, PASSING};
use super::method::{Method, Mode, Mounter, Refusal};
use super::plain::CHANGED;
use super::report::{MountReport, description_of, report_of};
use super::request::{MountRequest, SpaceName};
use super::snapshot::{self, Found};
use super::start::{Deadline, Start};

/// How long a command waits for the end of a server that is no longer reachable.
const LEAVING: Duration = Duration::from_secs(10);

/// A mounted space, ready to be used.
pub struct Obtained {
    /// The report.
    pub report: MountReport,
    /// Our lease; `None` for a mount that is kept without a user.
    pub lease: Option<Lease>,
    /// The reads that failed in the mount before, if they are known.
    pub unread: Option<Unread>,
}

/// The outcome of a request: a mount, or why nothing can be mounted here.
pub type Outcome = Result<Obtained, CannotMount>;

/// Obtains the space for `request`; with `command`, with a lease for it.
pub fn obtain(
    context: &Context,
    request: &MountRequest,
    command: Option<&str>,
) -> Result<Outcome, SessionError> {
    let (catalog, made, _) = context.head(&request.catalog)?;
    obtain_by(context, request, (&catalog, &made), command, &daemon::launch)
}

/// Like [`obtain`], for a caller that already knows the catalog; `launch` starts the server.
pub fn obtain_by(
    context: &Context,
    request: &MountRequest,
    (catalog, made): (&Head, &Made),
    command: Option<&str>,
    launch: &dyn Fn(&Context, &MountRequest) -> Result<daemon::Launched, SessionError>,
) -> Result<Outcome, SessionError> {
    let space = context.space(catalog.base(), &request.space);
    request.check_place(&space)?;
    foreign::refuse(&context.home, &space.base)?;
    let wanted = catalog.id().to_string();
    let deadline = Deadline::of(context.wait);
    let mut is_reported = false;
    loop {
        let start = Start::take(context, &space, &deadline)?;
        let found = snapshot::look(context, &space, catalog, request)?;
        let decision = decide(&found.snapshot, &wanted);
        log::debug!("{}: {decision:?}", space.root.display());
        match decision {
            Decision::Join => return join(&space, catalog, request, command, found).map(Ok),
            Decision::Attach => match attach(&space, &found) {
                Ok(()) => return join(&space, catalog, request, command, found).map(Ok),
                Err(refused) if deadline.is_over() || deadline.waited() > PASSING => return Err(refused),
                // The other namespace may be about to end: a process that is exiting gives no access to it.
                Err(_) => {
                    drop(start);
                    std::thread::sleep(LOOK_EVERY);
                }
            },
            Decision::Start | Decision::Repair => {
                let context = context.with_wait(deadline.left());
                return started(&space, (catalog, made), launch(&context, request)?, command, &wanted);
            }
            // If the mode allows it, use the files instead of a mount.
            Decision::Refuse(Why::Files) if request.mode == Mode::Auto => {
                let refused = vec![Refusal::new(Method::Fuse(Mounter::Direct), CHANGED)];
                return Ok(Err(CannotMount { what: space.root.display().to_string(), refused }));
            }
            Decision::Refuse(why) => return Err(refusal(&space, &found, &why).into()),
            Decision::Wait(until) => {
                drop(start);
                let long = until == Until::Gone && deadline.waited() > LEAVING;
                if deadline.is_over() || long {
                    return Err(gave_up(&space, &found, until).into());
                }
                if !is_reported && deadline.waited() > Duration::from_millis(500) {
                    is_reported = true;
                    context.front.note(&format!("Waiting: {}", gave_up(&space, &found, until)));
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

/// How the files of a space are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repairs {
    /// Not at all, if they are of the requested catalog.
    Nothing,
    /// Repaired as RCC would do.
    AsRcc,
    /// Repaired to match the catalog exactly.
    All,
}

impl Repairs {
    /// The repairs of `materialize`.
    pub fn of(fresh: bool) -> Repairs {
        if fresh { Repairs::All } else { Repairs::AsRcc }
    }
}

/// Takes the start lock of a space to be laid out as files, after waiting for the end of a server whose mount is gone.
pub fn ready_for_files(
    context: &Context,
    space: &Space,
    catalog: &Head,
    repairs: Repairs,
) -> Result<Start, SessionError> {
    let name = SpaceName { space: space.name().to_owned(), controller: space.controller().to_owned() };
    let request = MountRequest::new("", &name, Mode::Materialize);
    let deadline = Deadline::of(context.wait);
    loop {
        let start = Start::take(context, space, &deadline)?;
        let found = snapshot::look(context, space, catalog, &request)?;
        let is_elsewhere = found.hidden || !found.elsewhere.is_empty();
        let leaving = found.snapshot.held && found.snapshot.at_root != AtRoot::Ours && !is_elsewhere;
        if !leaving {
            refuse_other_files(space, catalog, repairs)?;
            return Ok(start);
        }
        drop(start);
        if deadline.is_over() || deadline.waited() > LEAVING {
            return Err(gave_up(space, &found, Until::Gone).into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Refuses to replace files in use with those of another catalog, or to drop changes to them.
fn refuse_other_files(space: &Space, catalog: &Head, repairs: Repairs) -> Result<(), SessionError> {
    let users = lease::users(&space.state_dir);
    let wanted = catalog.id().to_string();
    let same = space.restored_state()?.is_none_or(|state| state.catalog == wanted)
        && !lease::is_other(&users, &wanted);
    if users.is_empty() || (same && repairs == Repairs::Nothing) {
        return Ok(());
    }
    let (root, users) = (space.root.display(), lease::described(&users));
    let why = if same { "and would change below it" } else { "with another catalog" };
    Err(Busy(format!("{root} is in use by {users} {why}")).into())
}

/// Takes the start lock of a space that this process will serve itself.
pub fn ready_to_serve(context: &Context, request: &MountRequest) -> Result<Start, SessionError> {
    let (catalog, _, _) = context.head(&request.catalog)?;
    let space = context.space(catalog.base(), &request.space);
    let start = Start::take(context, &space, &Deadline::of(context.wait))?;
    let found = snapshot::look(context, &space, &catalog, request)?;
    match decide(&found.snapshot, &catalog.id().to_string()) {
        Decision::Start | Decision::Repair => Ok(start),
        Decision::Refuse(why) => Err(refusal(&space, &found, &why).into()),
        Decision::Wait(until) => Err(gave_up(&space, &found, until).into()),
        Decision::Join | Decision::Attach => {
            Err(Busy(format!("{} is mounted by {} already", space.root.display(), holder(&found))).into())
        }
    }
}

/// The result for a mount that was started for us.
fn started(
    space: &Space,
    (catalog, made): (&Head, &Made),
    launched: daemon::Launched,
    command: Option<&str>,
    wanted: &str,
) -> Result<Outcome, SessionError> {
    let report = match launched {
        // The index for the server was compiled here.
        Ok(report) if *made != Made::Opened => MountReport { index: description_of(made), ..report },
        Ok(report) => report,
        Err(refused) => return Ok(Err(refused)),
    };
    let lease = lease(space, command, wanted)?;
    if lease.is_none() && report.io == Some(Io::NoOpen) {
        open_some_file(&report.path, catalog.some_file());
    }
    Ok(Ok(Obtained { report, lease, unread: Some(Unread::default()) }))
}

/// Opens a file of a new mount. Until the first OPEN is answered, the kernel sends a RELEASE for every file that a program creates. The
/// server itself must not access its mount.
fn open_some_file(root: &Path, path: &Path) {
    if path.as_os_str().is_empty() {
        return;
    }
    let opened = Dir::open(root).map_err(OpenError::from);
    if let Err(error) = opened.and_then(|root| root.open_file(path)) {
        log::debug!("Cannot open {}, which only costs requests: {error}", path.display());
    }
}

fn lease(space: &Space, command: Option<&str>, catalog: &str) -> Result<Option<Lease>, SessionError> {
    let taken = command.map(|command| Lease::take(space, command, catalog)).transpose();
    taken.tried_with(|| format!("Cannot record the use of {}", space.root.display()))
}

/// Uses the existing mount; if the request has `keep`, it is kept from now on.
fn join(
    space: &Space,
    catalog: &Head,
    request: &MountRequest,
    command: Option<&str>,
    found: Found,
) -> Result<Obtained, SessionError> {
    let mut state = found.state.tried_with(|| format!("{} has no record", space.root.display()))?;
    let lease = lease(space, command, &catalog.id().to_string())?;
    if request.keep && !state.kept_in.contains(&kept_here()) {
        state.kept_in.push(kept_here());
        space.set_mount_state(&state)?;
    }
    Ok(Obtained { report: report_of(space, catalog, &state), lease, unread: found.unread })
}

/// Attaches the mount in this mount namespace, from the first namespace that allows it.
fn attach(space: &Space, found: &Found) -> Result<(), SessionError> {
    let mut why = None;
    for there in &found.elsewhere {
        match namespace::copy_of(there).and_then(|copy| put(space, &copy)) {
            Ok(()) => {
                log::info!(
                    "{} is attached here from the namespace of process {}",
                    space.root.display(),
                    there.pid
                );
                return Ok(());
            }
            Err(error) => why = Some(error),
        }
    }
    // The server itself can provide a copy, even to a command that cannot see it in /proc.
    match copies::request(&space.state_dir.below(files::CONTROL)).and_then(|copy| put(space, &copy)) {
        Ok(()) => {
            log::info!("{} is attached here by its server", space.root.display());
            return Ok(());
        }
        Err(error) => why = Some(why.unwrap_or(error)),
    }
    let why = why.map(|why| format!(", and cannot be attached here: {why}")).unwrap_or_default();
    Err(Busy(format!(
        "{} is mounted in another mount namespace, {}{why}",
        space.root.display(),
        where_it_is(found)
    ))
    .into())
}

fn put(space: &Space, copy: &std::os::fd::OwnedFd) -> std::io::Result<()> {
    crate::sys::fs::shared::ensure_dir(&space.root, false)?;
    mount::mount_copy(copy, &Mountpoint::open(&space.root)?)
}

fn where_it_is(found: &Found) -> String {
    let holder = holder(found);
    let number = found.state.as_ref().and_then(|state| state.namespace);
    number.map_or_else(|| holder.clone(), |number| format!("mnt:[{number}] of {holder}"))
}

fn holder(found: &Found) -> String {
    match found.holder {
        None => "an unidentified process".to_owned(),
        Some(holder) if found.hidden => format!("{holder} of another PID namespace"),
        Some(holder) => holder.to_string(),
    }
}

fn refusal(space: &Space, found: &Found, why: &Why) -> Busy {
    let (root, holder) = (space.root.display(), holder(found));
    Busy(match why {
        Why::OtherCatalog => format!("{root} is in use by {holder} with another catalog; unmount it first"),
        Why::Converted => format!(
            "RCC has put another environment into {root}; `holofs unmount` it and use --fresh or `holofs reset`, or another space"
        ),
        Why::Option(option) => {
            format!("{root} is mounted by {holder} and cannot be changed: {option}; unmount it first")
        }
        Why::Files => format!(
            "{root}: {}; `holofs diff` lists the changes, `holofs reset` drops it, --fresh mounts over it, --mode materialize uses it",
            CHANGED
        ),
        Why::Used => format!(
            "{root} is in use by {}, whose tree this would replace; its server has ended",
            lease::described(&found.users)
        ),
        Why::Foreign => format!("Something else is mounted at {root}; unmount it first"),
    })
}

fn gave_up(space: &Space, found: &Found, until: Until) -> Busy {
    let (root, holder) = (space.root.display(), holder(found));
    Busy(match until {
        Until::Started => format!("{root} is in use by {holder}, which starts or changes it"),
        Until::Gone => format!(
            "{root} is unmounted, but {holder} still serves files that are open or writes to the disk"
        ),
        Until::Private => {
            format!("{root} is in use by {holder} in another mount namespace, {}", where_it_is(found))
        }
    })
}
