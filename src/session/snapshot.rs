//! Determines the current state of a space, under the start lock.

use crate::error::chain;
use crate::fs::fuse::Io;
use crate::space::lease::{self, User};
use crate::space::{MountState, Space, SpaceError};
use crate::store::index::Index;
use crate::sys::fs::disk;
use crate::sys::mount::{self, namespace};
use crate::sys::process::Process;

use super::context::Context;
use super::decide::{AtRoot, Live, Snapshot};
use super::method::{Method, Mode, Mounter};
use super::plain;
use super::request::MountRequest;

/// A space with its state.
pub struct Found {
    /// The input of the decision.
    pub snapshot: Snapshot,
    /// The holder of the claim.
    pub holder: Option<Process>,
    /// The holder is in another PID namespace, where its number is valid, so that /proc does not show where its mount is.
    pub hidden: bool,
    /// The recorded state of the mount.
    pub state: Option<MountState>,
    /// Other namespaces with the mount, if it is not here.
    pub elsewhere: Vec<namespace::Elsewhere>,
    /// The users of the space.
    pub users: Vec<User>,
}

/// Inspects `space`, for a request for the catalog of `index`.
pub fn look(
    context: &Context,
    space: &Space,
    index: &Index,
    request: &MountRequest,
) -> anyhow::Result<Found> {
    let holder = space.live_holder();
    space.check_claim()?;
    let held = holder.is_some() || Space::may_be_live_in(&space.state_dir);
    let recorded = match space.mount_state() {
        // A power cut can leave it empty. The space has no server, so the state is not needed.
        Err(error @ SpaceError::BadState { .. }) if !held => {
            log::warn!("{}", chain(&error));
            None
        }
        recorded => recorded?,
    };
    let device = recorded.as_ref().map(|state| state.device);
    let at_root = at_root(space, device);
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
        converted: is_converted(space, state, index),
        differs: differs(state, request),
    });
    let converted = !held && !request.fresh && space.has_upper() && other_environment(space, index);
    let may_hide = !held && !request.fresh && request.mode != Mode::Materialize && !space.has_upper();
    let files = may_hide && at_root == AtRoot::Nothing && plain::has_changes(&context.home, space, index)?;
    let users = lease::users(&space.state_dir);
    let used =
        !held && !users.is_empty() && (request.fresh || lease::is_other(&users, &index.id().to_string()));
    let snapshot = Snapshot { held, live, at_root, converted, files, used };
    Ok(Found { snapshot, holder, hidden, state, elsewhere, users })
}

/// Where else the recorded mount is. Processes of this program that enter a namespace, such as those that read ahead, hold a copy for a
/// moment: they do not count, except for the holder.
pub fn elsewhere(state: &MountState) -> Vec<namespace::Elsewhere> {
    let holder = state.process.pid;
    let mut found = namespace::elsewhere(state.device, holder);
    found.retain(|there| there.pid == holder || !Process::with_id(there.pid).is_of_this_program());
    found
}

/// What is mounted at the space, whose recorded mount has `device`.
pub fn at_root(space: &Space, device: Option<u64>) -> AtRoot {
    let answers = |path| match disk::usage(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => false,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => false,
        _ => true,
    };
    match mount::seen(&space.root) {
        Ok(seen) if !seen.is_root => AtRoot::Nothing,
        Ok(_) if !answers(&space.root) => AtRoot::Dead,
        Ok(seen) if Some(seen.device) == device => AtRoot::Ours,
        Ok(_) => AtRoot::Foreign,
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => AtRoot::Dead,
        Err(_) => AtRoot::Nothing,
    }
}

/// True if RCC has put another environment into the live mount.
fn is_converted(space: &Space, state: &MountState, index: &Index) -> bool {
    space.meta_state() != state.meta && other_environment(space, index)
}

/// True if RCC's `.meta`, which is not ours, names another environment than that of `index`.
fn other_environment(space: &Space, index: &Index) -> bool {
    let ours = space.restored_state().ok().flatten();
    let current = space.meta_state();
    if current.is_none() || ours.is_some_and(|ours| Some(ours.meta) == current) {
        return false;
    }
    space.old_meta().is_some_and(|meta| meta.catalog.header.blueprint != index.blueprint())
}

/// True if the directory below the mount of `state` has files of another environment.
pub fn hides_another(space: &Space, state: &MountState) -> bool {
    space.old_meta().is_some_and(|meta| meta.catalog.header.blueprint != state.blueprint)
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
            .then(|| "--allow-other, but no other user is let in".to_owned()),
        (request.no_exec && !live.no_exec).then(|| "--noexec, but programs run in it".to_owned()),
        owner("--uid", request.uid, live.uid),
        owner("--gid", request.gid, live.gid),
    ];
    found.into_iter().flatten().next()
}

fn owner(option: &str, wanted: Option<u32>, live: Option<u32>) -> Option<String> {
    let wanted = wanted.filter(|_| wanted != live)?;
    let live = live.map_or_else(|| "that of who mounted it".to_owned(), |id| id.to_string());
    Some(format!("{option} {wanted}, but it is {live}"))
}
