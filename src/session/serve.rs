//! The process of a mount: takes the space, mounts it, serves it, and does what can wait in the background.
//!
//! It asks nothing of its own mount, ever: a thread that waits for an answer which a killed server took along could not end, nor
//! could the process with its locks. What must go through the mount is done by processes of their own.

mod reaper;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::fs::fuse::awake::{Awake, KEEP_AWAKE, KeepAwake};
use crate::fs::fuse::priming::Recorder;
use crate::fs::fuse::{Io, PASSTHROUGH, Session, Watch};
use crate::fs::upper::{self, Access, Upper};
use crate::fs::vfs::{Vfs, View};
use crate::rcc::catalog::Catalog;
use crate::remote::line::Line;
use crate::space::relocated::Relocated;
use crate::space::{Live, MountOptions, MountState, RestoredState, Space, files};
use crate::store::index::Index;
use crate::store::observe::{Counter, Observer, Tally};
use crate::store::{BlobSource, RawStore, Store};
use crate::sys::fs::dir;
use crate::sys::mount::{self, MountId, Mountpoint, namespace};
use crate::sys::process::Process;
use crate::sys::process::sandbox::Cage;
use crate::sys::process::this_process::descriptor_share;
use crate::sys::process::{latency, limits};

use super::appear::{MountReport, told_of};
use super::claim::Claim;
use super::context::Context;
use super::daemon::{self, Starter};
use super::error::CannotMount;
use super::method::{self, Method, Mounter, Refusal};
use super::mounters::{Attached, Mounters};
use super::prefetch::Prefetch;
use super::request::{MountRequest, ProfileAt};
use super::supply::{self, Supplied};
use super::unmount;

/// How many written files are kept open at most, and one in how many of the descriptors that this process may have: the store takes
/// a quarter, and those who read or write right now need some.
const OPEN_FILES: (u64, u64) = (512, 8);
/// So much of a file is asked for at once, in bytes, where root allows it: large files in a quarter of the requests, small ones as before.
const READ_AHEAD: u32 = 512 << 10;
/// A mount that ends earlier, and brought nothing into the raw store, leaves that as it is: to look through it takes the disk from the
/// program that starts.
const UPKEEP_AFTER: Duration = Duration::from_secs(3);
/// The mode of a mount that allows no change, as reports name it.
const READ_ONLY: &str = "read-only";

/// Everything a live mount holds; dropping it ends the mount's claim to the space.
pub struct Mounted {
    /// The space.
    pub space: Space,
    /// Its catalog.
    pub index: Arc<Index>,
    relocated: Arc<Relocated>,
    store: Arc<Store>,
    /// The line to what the store lacks, if the catalog is a remote one.
    line: Option<Arc<Line>>,
    upper: Arc<Upper>,
    report: MountReport,
    /// The directory under the mount is empty.
    blank: bool,
    id: MountId,
    undo: Undo,
    _live: Live,
}

/// Limits of the shell must not end a process that serves others later: it raises its own, or does not begin.
fn raise_limits(request: &MountRequest) -> Result<(), CannotMount> {
    limits::raise().map_err(|why| CannotMount {
        what: format!("space {:?}", request.space.space),
        refused: vec![Refusal::new(Method::Fuse(Mounter::Direct), &why)],
    })
}

/// Takes the mount away again if anything fails before it is served: a mount that nobody serves answers nothing, for ever.
struct Undo {
    mounters: Mounters,
    root: PathBuf,
    id: MountId,
    is_armed: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.is_armed
            && let Err(error) = unmount::detach_own(&self.mounters, &self.root, self.id)
        {
            log::error!("{error:#}: the mount is dead");
        }
    }
}

/// Mounts, and serves until unmounted. `ready` is told once the mount answers; after it this process is alone.
pub fn serve(
    context: &Context,
    request: &MountRequest,
    starter: Option<&Arc<Starter>>,
    ready: impl FnOnce(&MountReport, &Space) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    crate::sys::process::signals::expect_quiet().context("Cannot handle signals")?;
    raise_limits(request)?;
    let claim = Claim::take(context, request)?;
    let serving = Serving::begin(context, request, claim, starter)?;
    daemon::harden();
    let quiet = Arc::clone(&serving.quiet);
    daemon::on_signals(context, serving.mounted.space.root.clone(), serving.mounted.id, quiet)?;
    if !request.keep {
        reaper::start(context, &serving.mounted.space, &serving.stop)?;
    }
    ready(&serving.mounted.report, &serving.mounted.space)?;
    if request.within {
        reaper::outlive(&serving.mounted.space).context("Cannot stay for what a command leaves behind")?;
    }
    // Not before: the process that reads ahead has our stdio, and whoever reads that to its end would wait for it.
    if let Err(error) = serving.prefetch.start(context, &serving.mounted, &serving.quiet) {
        log::warn!("Nothing is read ahead: {error:#}");
    }
    serving.until_unmounted()
}

/// A mount that this process serves.
struct Serving {
    mounted: Mounted,
    tally: Arc<Tally>,
    prefetch: Prefetch,
    /// No more relocating.
    stop: Arc<AtomicBool>,
    /// No more use of the mount itself.
    quiet: Arc<AtomicBool>,
    server: JoinHandle<std::io::Result<()>>,
    filler: JoinHandle<()>,
}

impl Serving {
    /// Mounts and serves.
    fn begin(
        context: &Context,
        request: &MountRequest,
        claim: Claim,
        starter: Option<&Arc<Starter>>,
    ) -> anyhow::Result<Serving> {
        let tally = Arc::new(Tally::logging());
        let recorder = Arc::new(Recorder::default());
        let awake = keep_awake(request.keep_awake, &tally);
        let watch = Watch {
            tally: Arc::clone(&tally),
            recorder: Arc::clone(&recorder),
            awake: awake.clone(),
            ..Watch::default()
        };
        let (mounted, session) = establish(context, request, claim, watch, starter)?;
        let prefetch = Prefetch::new(context, request, &mounted, recorder);
        let cage = daemon::cage(&context.home, &mounted.space);
        let handed_over = match mounted.report.io {
            Some(Io::Passthrough) => passed_through(&mounted.store, &mounted.relocated),
            _ => Vec::new(),
        };
        let confined = Cage { handed_over, ..cage.clone() };
        let (caged, is_caged) = std::sync::mpsc::channel();
        let serve = move || {
            daemon::confine(&confined);
            drop(caged);
            session.run()
        };
        let server = std::thread::Builder::new().name("serve".into()).spawn(serve)?;
        if let Some(awake) = awake {
            let cage = cage.clone();
            awake.start(move || daemon::confine(&cage))?;
        }
        if let Err(error) = mount::set_read_ahead(&mounted.space.root, READ_AHEAD) {
            log::debug!("The kernel keeps its own read-ahead: {error}");
        }
        log::info!("Mounted {} on {}", mounted.report.blueprint, mounted.report.path.display());
        let stop = Arc::new(AtomicBool::new(false));
        let quiet = Arc::new(AtomicBool::new(false));
        fetch_ahead(context, &mounted, cage.clone())?;
        let filler = spawn_background(&mounted, &tally, &stop, cage)?;
        // Nobody is told of a mount that is served outside of the sandbox, nor does the log of it get lost.
        let _disconnected: Result<(), _> = is_caged.recv();
        Ok(Serving { mounted, tally, prefetch, stop, quiet, server, filler })
    }

    /// Serves until somebody unmounts it.
    fn until_unmounted(mut self) -> anyhow::Result<()> {
        self.mounted.undo.is_armed = false;
        let served = self.server.join().map_err(|_| anyhow::anyhow!("The server thread panicked"))?;
        self.stop.store(true, Ordering::Relaxed);
        self.quiet.store(true, Ordering::Relaxed);
        self.filler.thread().unpark();
        if self.filler.join().is_err() {
            log::error!("The relocation thread panicked");
        }
        self.prefetch.save();
        // What was written is on disk before anybody is told that the mount is gone.
        let synced = if self.mounted.report.mode == READ_ONLY { Ok(()) } else { self.mounted.upper.sync() };
        self.mounted.space.clear_mount_state()?;
        log::info!("Unmounted {}: {:?}", self.mounted.report.path.display(), self.tally.counts());
        synced?;
        served.context("Serving the mount failed")
    }
}

/// Mounts the claimed space; the session is ready to run.
fn establish(
    context: &Context,
    request: &MountRequest,
    claim: Claim,
    watch: Watch,
    starter: Option<&Arc<Starter>>,
) -> anyhow::Result<(Mounted, Session)> {
    let Claim { space, index, made, catalog, lock, live } = claim;
    let observer = Arc::clone(&watch.tally) as Arc<dyn Observer>;
    let log = space.state_dir.join(files::LOG);
    let Supplied { store, line } = context.store_of(&catalog, Some(&log), Arc::clone(&observer))?;
    let source = Arc::clone(&store) as Arc<dyn BlobSource>;
    let label = space.label.as_bytes();
    let relocated = Relocated::new(&space.state_dir, &index, label, source, Arc::clone(&observer));
    let relocated = Arc::new(relocated.with_paranoia(context.paranoid));
    let upper = open_upper(&space, &index, request, observer)?;
    let (shown, patched) = (Arc::clone(&index), Arc::clone(&relocated));
    let vfs = Vfs::with_upper(shown, patched, Arc::clone(&upper), view_for(request), !request.read_only);
    let blank = std::fs::read_dir(&space.root).map_or(true, |mut entries| entries.next().is_none());
    let attached = attach_for(context, &space, request, starter)?;
    let Attached { device, id, mounter, reasons } = attached;
    let undo = Undo { mounters: context.mounters(), root: space.root.clone(), id, is_armed: true };
    if request.profile != ProfileAt::Off {
        watch.recorder.note(index.len());
    }
    let passed = match request.io.unwrap_or(Io::NoOpen) {
        Io::NoOpen => Vec::new(),
        Io::Passthrough => passed_through(&store, &relocated),
    };
    let tally = Arc::clone(&watch.tally);
    let session = Session::start(Arc::new(vfs), device, threads(), watch, &passed)?;
    let method = Method::Fuse(mounter);
    let report = MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: Some(std::process::id()),
        mode: if request.read_only { READ_ONLY } else { "read-write" }.to_owned(),
        io: Some(session.io()),
        io_reason: tally.fallbacks().remove(PASSTHROUGH).map(|fallback| fallback.reason),
        method,
        reasons,
        entries: index.len(),
        index: told_of(&made),
    };
    let recorded = space.set_mount_state(&state_of(request, &report, &index, session.io(), &space));
    if let Err(error) = recorded {
        let gone = super::unmount::detach_own(&context.mounters(), &space.root, id);
        log::debug!("{} is unmounted, since nothing can be noted of it: {gone:?}", space.root.display());
        return Err(error.into());
    }
    drop(lock);
    Ok((
        Mounted { space, index, relocated, store, line, upper, report, blank, id, undo, _live: live },
        session,
    ))
}

/// Has what runs read first fetched before it is asked for, if the catalog is a remote one.
fn fetch_ahead(context: &Context, mounted: &Mounted, cage: Cage) -> anyhow::Result<()> {
    let Some(line) = mounted.line.clone() else { return Ok(()) };
    let wanted = supply::ahead(context, &mounted.report.catalog, &mounted.index);
    if wanted.is_empty() {
        return Ok(());
    }
    let store = Arc::clone(&mounted.store);
    let work = move || {
        daemon::confine(&cage);
        let came = line.prefetch(&wanted, &store);
        log::info!("{came} of {} contents were fetched ahead", wanted.len());
    };
    std::thread::Builder::new().name("ahead".into()).spawn(work).map(drop).context("Cannot start a thread")
}

/// What is told about the mount to other commands.
fn state_of(
    request: &MountRequest,
    report: &MountReport,
    index: &Index,
    io: Io,
    space: &Space,
) -> MountState {
    MountState {
        process: Process::current(),
        catalog: index.id().to_string(),
        catalog_path: report.catalog.clone(),
        mountpoint: space.root.clone(),
        mode: report.mode.clone(),
        rung: report.method.name().to_owned(),
        reason: method::told(&report.reasons),
        device: mount::seen(&space.root).map(|seen| seen.device).unwrap_or_default(),
        namespace: namespace::current(),
        kept_in: request.keep.then(unmount::kept_here).into_iter().collect(),
        controller: space.controller().to_owned(),
        space: space.name().to_owned(),
        blueprint: index.blueprint().to_owned(),
        options: options_of(request, io),
        meta: space.meta_state(),
    }
}

/// Mounts, unless nobody waits for it any more.
fn attach_for(
    context: &Context,
    space: &Space,
    request: &MountRequest,
    starter: Option<&Arc<Starter>>,
) -> anyhow::Result<Attached> {
    let mount = || {
        let attached = attach(context, space, request)?;
        let id = attached.id;
        anyhow::Ok((attached, id))
    };
    match starter {
        Some(starter) => starter.mount(space, mount),
        None => mount().map(|(attached, _)| attached),
    }
}

/// What later requests are compared with.
fn options_of(request: &MountRequest, io: Io) -> MountOptions {
    let MountRequest { allow_other, uid, gid, no_exec, .. } = *request;
    MountOptions { io: io.name().to_owned(), allow_other, uid, gid, no_exec }
}

/// What keeps processors awake for requests, where that helps.
fn keep_awake(when: KeepAwake, tally: &Arc<Tally>) -> Option<Arc<Awake>> {
    let error = match when.claim() {
        Ok(claim) => return Some(Arc::new(Awake::new(claim?, Arc::clone(tally) as Arc<dyn Observer>))),
        Err(error) => error,
    };
    let reason = format!("Cannot open {}: {error}", latency::DEVICE);
    match when {
        KeepAwake::Always => tally.fallback(KEEP_AWAKE, &reason),
        _ => log::debug!("{reason}"), // it is only for who may
    }
    None
}

/// Where the files are that the kernel may read by itself.
fn passed_through(store: &Store, relocated: &Relocated) -> Vec<PathBuf> {
    if let Err(error) = dir::ensure_private(relocated.dir()) {
        log::debug!("Cannot make {}: {error}", relocated.dir().display()); // told by who needs it
    }
    let raw = store.raw().map(RawStore::path);
    raw.into_iter().chain([relocated.dir()]).map(Path::to_owned).collect()
}

/// What was written to the space before, or nothing with `--fresh`.
fn open_upper(
    space: &Space,
    index: &Index,
    request: &MountRequest,
    observer: Arc<dyn Observer>,
) -> anyhow::Result<Arc<Upper>> {
    if request.fresh {
        upper::reset(&space.state_dir)?;
    }
    let access = if request.read_only { Access::ReadOnly } else { Access::Writable };
    let (most, part) = OPEN_FILES;
    let descriptors = descriptor_share(part, most);
    let options = upper::Options { access, descriptors };
    let upper = Upper::open(&space.state_dir, &index.id(), &options, observer)?;
    upper.check_tree(|ino| index.node(ino).map(|node| node.parent))?;
    Ok(Arc::new(upper))
}

/// Mounts at the space, by the best mounter that works.
fn attach(context: &Context, space: &Space, request: &MountRequest) -> anyhow::Result<Attached> {
    crate::sys::fs::shared::ensure_dir(&space.root, false)
        .with_context(|| format!("Cannot make the mountpoint {}", space.root.display()))?;
    let point = Mountpoint::open(&space.root)
        .with_context(|| format!("Cannot open the mountpoint {}", space.root.display()))?;
    let options = mount::Options {
        read_only: request.read_only,
        allow_other: request.allow_other || request.uid.or(request.gid).is_some(),
        no_exec: request.no_exec,
    };
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

/// What can wait until the mount answers: the marks of use that RCC wants to find, then the relocated files. At low priority.
fn spawn_background(
    mounted: &Mounted,
    tally: &Arc<Tally>,
    stop: &Arc<AtomicBool>,
    cage: Cage,
) -> anyhow::Result<JoinHandle<()>> {
    let (relocated, index) = (Arc::clone(&mounted.relocated), Arc::clone(&mounted.index));
    let (space, catalog, blank) = (mounted.space.clone(), mounted.report.catalog.clone(), mounted.blank);
    let (store, tally, stop) = (Arc::clone(&mounted.store), Arc::clone(tally), Arc::clone(stop));
    let work = move || {
        crate::sys::process::daemon::lower_priority();
        leave_marks(&space, &catalog, &index, blank);
        crate::sys::process::daemon::release_memory();
        daemon::confine(&cage);
        relocated.fill(&index, &stop);
        if !ends_within(UPKEEP_AFTER, &stop) || tally.get(Counter::BlobsIngested) > 0 {
            bound_raw_store(&store);
        }
    };
    std::thread::Builder::new().name("background".into()).spawn(work).context("Cannot start a thread")
}

/// Waits: true as soon as the mount ends, which unparks this thread; false if that takes longer.
fn ends_within(time: Duration, stop: &AtomicBool) -> bool {
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) && started.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(started.elapsed()));
    }
    stop.load(Ordering::Relaxed)
}

/// Counts what the raw store holds, so that it stays within its limit, and takes away what dead processes left in it.
fn bound_raw_store(store: &Store) {
    let Some(raw) = store.raw() else { return };
    match raw.seed().and_then(|_| raw.gc()) {
        Ok(upkeep) => log::debug!("Raw store {}: {upkeep:?}", raw.path().display()),
        Err(error) => log::warn!("Cannot tidy the raw store {}: {error}", raw.path().display()),
    }
}

/// Tells RCC what is in the space. `.meta` describes what stands in the directory when nothing is mounted: it is written only
/// if that is nothing, since RCC takes files for clean by what `.meta` says of them.
fn leave_marks(space: &Space, catalog_path: &Path, index: &Index, blank: bool) {
    let current =
        RestoredState { catalog: index.id().to_string(), meta: space.meta_state().unwrap_or_default() };
    let known = space.restored_state().ok().flatten().is_some_and(|state| state == current);
    if blank && !known {
        let written = Catalog::read(catalog_path).map_err(anyhow::Error::from).and_then(|(catalog, id)| {
            space.write_meta(&catalog)?;
            let meta = space.meta_state().unwrap_or_default();
            Ok(space.set_restored_state(&RestoredState { catalog: id.to_string(), meta })?)
        });
        if let Err(error) = written {
            log::warn!("RCC will not list {}: {error:#}", space.root.display());
        }
    }
    space.journal_use(catalog_path, index.blueprint());
    space.mark_used(catalog_path, index.blueprint());
}

/// Owned by who mounts, directories as RCC makes them.
pub fn view() -> View {
    let owner = crate::sys::process::daemon::owner();
    View { uid: owner.uid, gid: owner.gid, dir_mode: 0o750 & !owner.umask }
}

/// As [`view`], for whom it is mounted.
fn view_for(request: &MountRequest) -> View {
    let own = view();
    View { uid: request.uid.unwrap_or(own.uid), gid: request.gid.unwrap_or(own.gid), ..own }
}

/// Two threads keep a cold reader busy; more only compete with it.
pub fn threads() -> usize {
    2
}
