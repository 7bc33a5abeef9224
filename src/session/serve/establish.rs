//! Assembles the parts of a mount: for a new one, and for one whose server died.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::chain;
use crate::fs::fuse::{Io, PASSTHROUGH, Session, Telemetry};
use crate::fs::upper::{self, Access, Upper};
use crate::fs::vfs::{Vfs, View, shared_counts};
use crate::remote::line::Line;
use crate::session::claim::Claim;
use crate::session::context::Context;
use crate::session::detach;
use crate::session::error::{CannotMount, SessionError, Tried as _};
use crate::session::kept::kept_here;
use crate::session::method::{self, Method, Mounter, Refusal};
use crate::session::mounters::{Attached, Mounters};
use crate::session::report::{MountReport, description_of};
use crate::session::request::{MountRequest, ProfileAt};
use crate::session::starter::Starter;
use crate::session::supervise::{Held, Server, Standing};
use crate::session::supply::Supplied;
use crate::session::written::view;
use crate::space::relocated::Relocated;
use crate::space::{Live, MountOptions, MountState, Restarts, Space, files};
use crate::store::index::Index;
use crate::store::observe::{Observer, Tally};
use crate::store::{BlobSource, RawStore, Store};
use crate::sys::fs::counts::Counts;
use crate::sys::fs::dir;
use crate::sys::fs::owned::OwnedDir;
use crate::sys::mount::{self, MountId, Mountpoint, namespace};
use crate::sys::process::Process;
use crate::sys::process::signals;
use crate::sys::process::this_process::descriptor_share;

/// The fallback if a mount cannot outlive its server.
const TAKEOVER: &str = "takeover";

/// The maximum number of written files kept open, and the divisor of the descriptor limit for them: the store takes a quarter, and
/// current reads and writes need some.
const OPEN_FILES: (u64, u64) = (512, 8);
/// The mode of a read-only mount, in reports.
pub(super) const READ_ONLY: &str = "read-only";

/// Everything that a live mount holds; dropping it releases the claim on the space.
pub struct Mounted {
    /// The space.
    pub(super) space: Space,
    /// Its catalog.
    pub(super) index: Arc<Index>,
    pub(super) relocated: Arc<Relocated>,
    pub(super) store: Arc<Store>,
    /// The connection to the fetcher, for a remote catalog.
    pub(super) line: Option<Arc<Line>>,
    pub(super) upper: Arc<Upper>,
    pub(super) report: MountReport,
    /// The directory under the mount is empty.
    pub(super) blank: bool,
    /// This server made the mount.
    pub(super) is_new: bool,
    pub(super) id: MountId,
    /// The device of its requests.
    pub(super) device: OwnedFd,
    undo: Undo,
    /// Also held by the supervisor, which keeps it for later servers.
    _live: Option<Live>,
}

impl Mounted {
    /// From now on, failures do not unmount it.
    pub(super) fn is_served(&mut self) {
        self.undo.is_armed = false;
    }
}

/// Unmounts again if anything fails before the mount is served: a mount without a server never answers.
struct Undo {
    mounters: Mounters,
    root: PathBuf,
    id: MountId,
    is_armed: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.is_armed
            && let Err(error) = detach::detach_own(&self.mounters, &self.root, self.id)
        {
            log::error!("{}: the mount is dead", chain(&error));
        }
    }
}

/// What outlives a server: the device, and the kernel's reference counts.
type Kept = (OwnedFd, File);

/// The stores that a space is served from.
struct Ground {
    relocated: Arc<Relocated>,
    store: Arc<Store>,
    line: Option<Arc<Line>>,
    upper: Arc<Upper>,
    vfs: Vfs,
}

impl Ground {
    /// Opens them; `access` is the access to the written state, if writing is possible.
    fn open(
        context: &Context,
        request: &MountRequest,
        (space, index, catalog): (&Space, &Arc<Index>, &Path),
        view: View,
        access: Access,
        telemetry: &Telemetry,
    ) -> Result<Ground, SessionError> {
        let observer = Arc::clone(&telemetry.tally) as Arc<dyn Observer>;
        let log = space.state_dir.below(files::LOG);
        let Supplied { store, line } = context.store_of(catalog, Some(&log), Arc::clone(&observer))?;
        let source = Arc::clone(&store) as Arc<dyn BlobSource>;
        let label = space.label.as_bytes();
        let relocated = Relocated::new(&space.state_dir, index, label, source, Arc::clone(&observer));
        let relocated = Arc::new(relocated.with_paranoia(context.paranoid));
        let access = if request.read_only { Access::ReadOnly } else { access };
        let lost = || SessionError::State("The entries of the catalog cannot be read".into());
        let upper = open_upper(space, index, access, observer);
        let upper = upper.map_err(|error| if index.is_lost() { lost() } else { error })?;
        let (shown, patched) = (Arc::clone(index), Arc::clone(&relocated));
        let vfs =
            Vfs::with_upper(shown, patched, Arc::clone(&upper), view_for(request, view), !request.read_only);
        Ok(Ground { relocated, store, line, upper, vfs })
    }
}

/// The counters of a mount that can outlive its server. `None` with passthrough, where only the server knows the open files, and
/// if the memory cannot be shared, which is reported.
fn counters_of(request: &MountRequest, index: &Index, telemetry: &Telemetry) -> Option<Counts> {
    if request.io == Some(Io::Passthrough) {
        return None;
    }
    let counts = shared_counts(index.len());
    let warn = |error| {
        let why =
            format!("No memory can be shared with another server: {error}; the mount ends with this one");
        telemetry.tally.fallback(TAKEOVER, &why);
    };
    counts.map_err(warn).ok()
}

/// Mounts the claimed space; the session is ready to run.
pub fn mount(
    context: &Context,
    request: &MountRequest,
    claim: Claim,
    telemetry: Telemetry,
    server: &Server<'_>,
    starter: Option<&Arc<Starter>>,
) -> Result<(Mounted, Session), SessionError> {
    let Claim { space, index, made, view, catalog, lock, live } = claim;
    let log = space.state_dir.below(files::LOG).in_dir(OwnedDir::open_to_append).ok();
    server.claimed(live.share()?, log.as_ref()).tried("Cannot reach the supervisor")?;
    if request.fresh {
        upper::reset(&space.state_dir)?;
    }
    let counts = counters_of(request, &index, &telemetry);
    let access = if counts.is_some() { Access::Outliving } else { Access::Writable };
    let ground = Ground::open(context, request, (&space, &index, &catalog), view, access, &telemetry)?;
    let blank = std::fs::read_dir(&space.root).map_or(true, |mut entries| entries.next().is_none());
    if !blank {
        space.record_hidden()?;
    }
    let Attached { device, id, mounter, reasons } = attach_for(context, &space, request, starter)?;
    let undo = Undo { mounters: context.mounters(), root: space.root.clone(), id, is_armed: true };
    if request.profile != ProfileAt::Off {
        telemetry.recorder.note(index.len());
    }
    let tally = Arc::clone(&telemetry.tally);
    let Ground { relocated, store, line, upper, vfs } = ground;
    let passed = wanted_passed(request, &store, &relocated);
    let ours = device.try_clone().tried("Cannot keep the device")?;
    let (session, kept) = first_session(vfs, device, counts, telemetry, &passed)?;
    let report = MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: Some(server.supervisor().pid),
        mode: if request.read_only { READ_ONLY } else { "read-write" }.to_owned(),
        io: Some(session.io()),
        io_reason: tally.fallbacks().remove(PASSTHROUGH).map(|fallback| fallback.reason),
        method: Method::Fuse(mounter),
        reasons,
        entries: index.len(),
        index: description_of(&made),
    };
    let mounted = Mounted {
        relocated,
        store,
        line,
        upper,
        blank,
        id,
        device: ours,
        undo,
        space,
        index,
        report,
        is_new: true,
        _live: Some(live),
    };
    mounted.tell(request, server, &session, kept.as_ref())?;
    drop(lock);
    Ok((mounted, session))
}

/// Answers the kernel's first request; with `counts`, so that another process can take the connection over.
fn first_session(
    vfs: Vfs,
    device: OwnedFd,
    counts: Option<Counts>,
    telemetry: Telemetry,
    passed: &[PathBuf],
) -> std::io::Result<(Session, Option<Kept>)> {
    let Some(counts) = counts else {
        return Ok((Session::start(Arc::new(vfs), device, threads(), telemetry, passed)?, None));
    };
    let kept = (device.try_clone()?, counts.file().try_clone()?);
    let vfs = Arc::new(vfs.counting_in(counts));
    Ok((Session::start_for_takeover(vfs, device, threads(), telemetry)?, Some(kept)))
}

impl Mounted {
    /// Reports to other commands and to the supervisor.
    fn tell(
        &self,
        request: &MountRequest,
        server: &Server<'_>,
        session: &Session,
        kept: Option<&Kept>,
    ) -> Result<(), SessionError> {
        let Mounted { space, index, report, id, .. } = self;
        let process = server.supervisor();
        space.set_mount_state(&state_of(request, report, index, session.io(), process, space, *id))?;
        let standing = Standing {
            handshake: kept.map(|_| session.handshake().clone()),
            id: *id,
            catalog: index.id().to_string(),
            report: report.clone(),
        };
        let passed = kept.map(|(device, counts)| (device.as_fd(), counts));
        server.standing(standing, passed).tried("Cannot reach the supervisor")?;
        signals::leave_to_supervisor().tried("Cannot handle signals")
    }
}

/// Checks that [`take_over`] will understand everything of the mount, while another process serves it.
pub fn check(context: &Context, request: &MountRequest, standing: &Standing) -> Result<(), SessionError> {
    let handshake = standing.handshake.as_ref().tried("It cannot be taken over")?;
    Session::check_terms(handshake).tried("The kernel would have to be asked again")?;
    let index = known_index(context, request, &standing.catalog)?;
    let space = context.space(index.base(), &request.space);
    let (ours, known) = (&space.root, &standing.report.path);
    if ours != known {
        return Err(SessionError::State(
            format!("It would serve {}, not {}", ours.display(), known.display()).into(),
        ));
    }
    let state = space.mount_state()?.tried("The mount has no record")?;
    if state.catalog != standing.catalog {
        return Err(SessionError::State("The record of the mount is of another catalog".into()));
    }
    let observer = Arc::new(Tally::new()) as Arc<dyn Observer>;
    open_upper(&space, &index, Access::ReadOnly, observer).map(drop)
}

/// Takes over the mount that the supervisor holds. Earlier changes are kept, even if the request had `fresh`.
pub fn take_over(
    context: &Context,
    request: &MountRequest,
    held: Held<'_>,
    telemetry: Telemetry,
) -> Result<(Mounted, Session), SessionError> {
    let Standing { handshake, id, catalog, report } = held.standing.clone();
    let handshake = handshake.tried("It cannot be taken over")?;
    let index = Arc::new(known_index(context, request, &catalog)?);
    let space = context.space(index.base(), &request.space);
    let counts = Counts::of(held.counts.try_clone()?).tried("Cannot map the counters")?;
    let ground = Ground::open(
        context,
        request,
        (&space, &index, &report.catalog),
        view(),
        Access::TakenOver,
        &telemetry,
    )?;
    let Ground { relocated, store, line, upper, vfs } = ground;
    let device = held.device.try_clone_to_owned().tried("Cannot use the device")?;
    let ours = device.try_clone().tried("Cannot keep the device")?;
    let vfs = Arc::new(vfs.counting_in(counts));
    let session = Session::take_over(vfs, device, threads(), telemetry, handshake)
        .tried_with(|| format!("Cannot take over {}", space.root.display()))?;
    let undo = Undo { mounters: context.mounters(), root: space.root.clone(), id, is_armed: false };
    let mounted = Mounted {
        relocated,
        store,
        line,
        upper,
        id,
        device: ours,
        undo,
        space,
        index,
        report,
        blank: false,
        is_new: false,
        _live: None,
    };
    Ok((mounted, session))
}

/// The Index of the mounted catalog, which may have been removed since.
fn known_index(context: &Context, request: &MountRequest, catalog: &str) -> Result<Index, SessionError> {
    let id = catalog.parse().tried_with(|| format!("{catalog:?} is not a catalog id"))?;
    context.index_of(&request.catalog, &id)
}

/// The directories of files that the kernel should read by itself.
fn wanted_passed(request: &MountRequest, store: &Store, relocated: &Relocated) -> Vec<PathBuf> {
    match request.io.unwrap_or(Io::NoOpen) {
        Io::NoOpen => Vec::new(),
        Io::Passthrough => passed_through(store, relocated),
    }
}

/// The source of the mount; empty, which matches each, if it cannot be read.
fn source_of(id: MountId) -> String {
    namespace::source_of(id).unwrap_or_else(|error| {
        log::debug!("The source of the mount is unknown: {error}");
        String::new()
    })
}

/// The state of the mount, for other commands.
fn state_of(
    request: &MountRequest,
    report: &MountReport,
    index: &Index,
    io: Io,
    process: Process,
    space: &Space,
    id: MountId,
) -> MountState {
    MountState {
        process,
        catalog: index.id().to_string(),
        catalog_path: report.catalog.clone(),
        mountpoint: space.root.clone(),
        mode: report.mode.clone(),
        method: report.method.name().to_owned(),
        reason: method::described(&report.reasons),
        device: mount::seen(&space.root).map(|seen| seen.device).unwrap_or_default(),
        source: source_of(id),
        namespace: namespace::current(),
        pid_namespace: namespace::of_pids(),
        kept_in: request.keep.then(kept_here).into_iter().collect(),
        controller: space.controller().to_owned(),
        space: space.name().to_owned(),
        blueprint: index.blueprint().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        restarts: Some(Restarts::default()),
        options: options_of(request, io),
        meta: space.meta_state(),
    }
}

/// Mounts, unless the starter has ended.
fn attach_for(
    context: &Context,
    space: &Space,
    request: &MountRequest,
    starter: Option<&Arc<Starter>>,
) -> Result<Attached, SessionError> {
    let mount = || {
        let attached = attach(context, space, request)?;
        let id = attached.id;
        Ok::<_, SessionError>((attached, id))
    };
    match starter {
        Some(starter) => starter.mount(space, mount),
        None => mount().map(|(attached, _)| attached),
    }
}

/// The options that later requests are compared with.
fn options_of(request: &MountRequest, io: Io) -> MountOptions {
    let MountRequest { allow_other, uid, gid, no_exec, .. } = *request;
    MountOptions { io: io.name().to_owned(), allow_other, uid, gid, no_exec }
}

/// Opens the written state of the space.
fn open_upper(
    space: &Space,
    index: &Index,
    access: Access,
    observer: Arc<dyn Observer>,
) -> Result<Arc<Upper>, SessionError> {
    let (most, part) = OPEN_FILES;
    let descriptors = descriptor_share(part, most);
    let options = upper::Options { access, descriptors };
    let upper = Upper::open(&space.state_dir, &index.id(), &options, observer)?;
    upper.check_tree(|ino| index.node(ino).map(|node| node.parent))?;
    Ok(Arc::new(upper))
}

/// How the space of `request` is mounted.
pub(super) fn options_for(request: &MountRequest) -> mount::Options {
    mount::Options {
        read_only: request.read_only,
        allow_other: request.allow_other || request.uid.or(request.gid).is_some(),
        no_exec: request.no_exec,
    }
}

/// Mounts at the space, with the best mounter that works.
fn attach(context: &Context, space: &Space, request: &MountRequest) -> Result<Attached, SessionError> {
    crate::sys::fs::shared::ensure_dir(&space.root, false)
        .tried_with(|| format!("Cannot create the mountpoint {}", space.root.display()))?;
    let point = Mountpoint::open(&space.root)
        .tried_with(|| format!("Cannot open the mountpoint {}", space.root.display()))?;
    let options = options_for(request);
    let what = space.root.display().to_string();
    if request.within {
        let (device, id) = mount::mount_fuse(&point, options).map_err(|error| {
            let refused = vec![Refusal::new(Method::Fuse(Mounter::Namespace), error)];
            CannotMount { what, refused }
        })?;
        return Ok(Attached { device, id, mounter: Mounter::Namespace, reasons: Vec::new() });
    }
    context.mounters().mount(&point, options).map_err(|refused| CannotMount { what, refused }.into())
}

/// Like `own`, with the owner in the request.
fn view_for(request: &MountRequest, own: View) -> View {
    View { uid: request.uid.unwrap_or(own.uid), gid: request.gid.unwrap_or(own.gid), ..own }
}

/// The directories of files that the kernel may read by itself.
pub(super) fn passed_through(store: &Store, relocated: &Relocated) -> Vec<PathBuf> {
    if let Err(error) = dir::ensure_private(relocated.dir()) {
        log::debug!("Cannot create {}: {error}", relocated.dir().display()); // reported where it is needed
    }
    let raw = store.raw().map(RawStore::path);
    raw.into_iter().chain([relocated.dir()]).map(Path::to_owned).collect()
}

/// Two threads saturate a cold reader; more only compete with it.
pub fn threads() -> usize {
    2
}
