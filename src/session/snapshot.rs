//! Determines the current state of a space, under the start lock.

use std::path::Path;

use crate::error::chain;
use crate::fs::fuse::{self, Io};
use crate::space::lease::{self, User};
use crate::space::{MountState, Space, SpaceError};
use crate::store::index::Head;
use crate::store::observe::Unread;
use crate::sys::fs::disk;
use crate::sys::mount::{self, namespace};
use crate::sys::process::Process;

use super::context::Context;
use super::decide::{AtRoot, Live, Snapshot};
use super::error::SessionError;
use super::method::{Method, Mode, Mounter};
use super::plain;
use super::request::MountRequest;

/// A space with its state.
pub struct Found {
    /// The input of the decision.
    pub snapshot: Snapshot,
    /// The holder of the claim.
    pub holder: Option<Process>,
    /// The holder is in another PID namespace, so its number is not valid here, and /proc does not show where its mount is.
    pub hidden: bool,
    /// The recorded state of the mount.
    pub state: Option<MountState>,
    /// Other namespaces with the mount, if it is not here.
    pub elsewhere: Vec<namespace::Elsewhere>,
    /// The users of the space.
    pub users: Vec<User>,
    /// The reads that failed so far in the mount that is visible.
    pub unread: Option<Unread>,
}

/// Inspects `space`, for a request for `catalog`.
pub fn look(
    context: &Context,
    space: &Space,
    catalog: &Head,
    request: &MountRequest,
) -> Result<Found, SessionError> {
    space.check_claim()?;
    let recorded = space.mount_state();
    let holder = space.live_holder_by(recorded.as_ref().ok().and_then(Option::as_ref));
    let held = holder.is_some() || Space::may_be_live_in(&space.state_dir);
    let recorded = match recorded {
        // A power cut can leave it empty. The space has no server, so the state is not needed.
        Err(error @ SpaceError::BadState { .. }) if !held => {
            log::warn!("{}", chain(&error));
            None
        }
        recorded => recorded?,
    };
    let mut unread = None;
    // A command needs the number of failed reads anyway, so requesting it also checks whether the mount answers.
    let at_root = at_root_if(space, recorded.as_ref(), |root| match fuse::unread(root) {
        Ok(answer) => {
            unread = Some(answer);
            Ok(Answer::OfHoloFs)
        }
        Err(error) if says_dead(&error) => Err(error),
        Err(_) => usage(root),
    });
    let unseen = recorded.as_ref().filter(|_| holder.is_none()).and_then(|state| space.hidden_holder(state));
    let hidden = unseen.is_some();
    let holder = holder.or(unseen);
    let state = recorded.filter(|state| holder == Some(state.process));
    let elsewhere = match &state {
        Some(state) if at_root != AtRoot::Ours => elsewhere(state),
        _ => Vec::new(),
    };
    let live = state.as_ref().map(|state| Live {
        catalog: state.catalog.clone(),
        method: Method::try_from(state.method.clone()).unwrap_or(Method::Fuse(Mounter::Direct)),
        elsewhere: hidden || !elsewhere.is_empty(),
        converted: is_converted(space, state, catalog),
        differs: differs(state, request),
    });
    let was_converted =
        || other_environment(space, catalog) || is_another(space.converted_to(), catalog.blueprint());
    let converted = !held && !request.fresh && space.has_upper() && was_converted();
    let may_hide = !held && !request.fresh && request.mode != Mode::Materialize && !space.has_upper();
    let files = may_hide
        && at_root == AtRoot::Nothing
        && plain::has_changes(context, space, (&request.catalog, catalog))?;
    let users = lease::users(&space.state_dir);
    let used =
        !held && !users.is_empty() && (request.fresh || lease::is_other(&users, &catalog.id().to_string()));
    let snapshot = Snapshot { held, live, at_root, converted, files, used };
    Ok(Found { snapshot, holder, hidden, state, elsewhere, users, unread })
}

/// Where else the recorded mount is. Processes of this program that enter a namespace, such as those that read ahead, hold a copy for a
/// moment: they do not count, except for the holder.
pub fn elsewhere(state: &MountState) -> Vec<namespace::Elsewhere> {
    let holder = state.process.pid;
    let mut found = namespace::elsewhere(state.device, &state.source, holder);
    found.retain(|there| there.pid == holder || !Process::with_id(there.pid).is_of_this_program());
    found
}

/// What is mounted at the space, whose recorded mount is that of `state`.
pub fn at_root(space: &Space, state: &MountState) -> AtRoot {
    at_root_if(space, Some(state), usage)
}

/// True if the mount at the space has no server any more.
pub fn is_dead(space: &Space) -> bool {
    at_root_if(space, None, usage) == AtRoot::Dead
}

/// The answer of a file system to a request.
enum Answer {
    /// HoloFS serves it.
    OfHoloFs,
    /// Any file system can answer this.
    OfAny,
}

fn usage(root: &Path) -> std::io::Result<Answer> {
    disk::usage(root).map(|_| Answer::OfAny)
}

/// What is mounted at the space, whose recorded mount is that of `state`, if there is one; `asked` sends it a request.
fn at_root_if(
    space: &Space,
    state: Option<&MountState>,
    asked: impl FnOnce(&Path) -> std::io::Result<Answer>,
) -> AtRoot {
    let seen = match mount::seen(&space.root) {
        Ok(seen) if !seen.is_root => return AtRoot::Nothing,
        Ok(seen) => seen,
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return AtRoot::Dead,
        Err(_) => return AtRoot::Nothing,
    };
    let answer = asked(&space.root);
    if answer.as_ref().is_err_and(says_dead) {
        return AtRoot::Dead;
    }
    // The source is looked up only if nothing else shows that the file system is one of ours: its device number may have been reused.
    let is_ours = |state: &MountState| {
        seen.device == state.device
            && (matches!(answer, Ok(Answer::OfHoloFs)) || namespace::is_of(seen.id, &state.source))
    };
    if state.is_some_and(is_ours) { AtRoot::Ours } else { AtRoot::Foreign }
}

/// True for the answer of a mount whose server is gone.
fn says_dead(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, NotConnected};
    matches!(error.kind(), NotConnected | ConnectionAborted)
}

/// True if RCC has put another environment into the live mount.
fn is_converted(space: &Space, state: &MountState, catalog: &Head) -> bool {
    space.meta_state() != state.meta && other_environment(space, catalog)
}

/// True if RCC's `.meta`, which is not ours, names another environment than `catalog`.
fn other_environment(space: &Space, catalog: &Head) -> bool {
    let ours = space.restored_state().ok().flatten();
    let current = space.meta_state();
    if current.is_none() || ours.is_some_and(|ours| Some(ours.meta) == current) {
        return false;
    }
    space.old_meta().is_some_and(|meta| meta.catalog.header.blueprint != catalog.blueprint())
}

/// True if the directory below the mount of `state` has files of another environment; without a state, files of any.
pub fn hides_another(space: &Space, state: Option<&MountState>) -> bool {
    is_another(space.hidden_blueprint(), state.map_or("", |state| &state.blueprint))
}

/// True if the recorded blueprint is known and not `wanted`, or if the record cannot be read.
fn is_another(recorded: Result<Option<String>, SpaceError>, wanted: &str) -> bool {
    match recorded {
        Ok(blueprint) => blueprint.is_some_and(|blueprint| blueprint != wanted),
        Err(error) => {
            log::warn!("{}", chain(&error));
            true
        }
    }
}

/// The option that the live mount cannot satisfy, with its current value.
fn differs(state: &MountState, request: &MountRequest) -> Option<String> {
    let live = &state.options;
    let io = request.io.map(Io::name).filter(|io| *io != live.io);
    let read_only = state.mode == "read-only";
    let found = [
        request.fresh.then(|| "--fresh would drop what is in use".to_owned()),
        (request.read_only && !read_only).then(|| format!("--read-only, but it is {}", state.mode)),
        io.map(|io| format!("--io {io}, but it is {}", live.io)),
        (request.allow_other && !live.allow_other)
            .then(|| "--allow-other, but other users have no access".to_owned()),
        (request.no_exec && !live.no_exec).then(|| "--noexec, but programs run in it".to_owned()),
        owner("--uid", request.uid, live.uid),
        owner("--gid", request.gid, live.gid),
    ];
    found.into_iter().flatten().next()
}

fn owner(option: &str, wanted: Option<u32>, live: Option<u32>) -> Option<String> {
    let wanted = wanted.filter(|_| wanted != live)?;
    let live = live.map_or_else(|| "that of the mounting user".to_owned(), |id| id.to_string());
    Some(format!("{option} {wanted}, but it is {live}"))
}
