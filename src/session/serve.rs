//! The process of a mount: claims the space, mounts it, serves it, and does background work.
//!
//! It never accesses its own mount: a thread waiting for an answer from a killed server could not end, nor could the process with its
//! locks. Work that must go through the mount is done by separate processes.

mod asked;
mod copying;
mod establish;
pub mod prefetch;
mod quiet;
mod reaper;
mod rest;

pub use establish::threads;
use establish::{Mounted, READ_ONLY, passed_through};
use prefetch::Prefetch;
use quiet::Quiet;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::chain;
use crate::fs::fuse::awake::{Awake, KEEP_AWAKE, KeepAwake};
use crate::fs::fuse::gate::Gate;
use crate::fs::fuse::{Io, Session, Telemetry};
use crate::rcc::catalog::Catalog;
use crate::space::{Lock, RestoredState, Space, Wait};
use crate::store::Store;
use crate::store::index::Index;
use crate::store::observe::{Counter, Observer, Tally};
use crate::sys::mount;
use crate::sys::process::sandbox::Sandbox;
use crate::sys::process::{daemon, latency, limits, signals};

use super::background;
use super::claim::Claim;
use super::context::Context;
use super::error::{CannotMount, SessionError, Tried as _};
use super::method::{Method, Mounter, Refusal};
use super::report::MountReport;
use super::request::{MountRequest, Order};
use super::restart;
use super::starter::Starter;
use super::supervise::{self, Held, Legacy, Server};
use super::supply;

/// The readahead size in bytes, if root allows setting it: large files take a quarter of the requests, small ones as many as before.
const READ_AHEAD: u32 = 512 << 10;
/// A mount that ends earlier, and added nothing to the raw store, does no upkeep of it: scanning it would slow down the disk for the
/// program that starts.
const UPKEEP_AFTER: Duration = Duration::from_secs(3);

/// Prepares the process for a long life. Limits of the shell must not end it: it raises its own limits, or refuses to start.
fn prepare(request: &MountRequest) -> Result<(), CannotMount> {
    daemon::return_memory_at_once();
    limits::raise().map_err(|why| CannotMount {
        what: format!("space {:?}", request.space.space),
        refused: vec![Refusal::new(Method::Fuse(Mounter::Direct), &why)],
    })
}

/// Mounts, and serves until unmounted. `ready` is called once the mount answers; then the process detaches.
pub fn serve(
    context: &Context,
    request: &MountRequest,
    server: &Server<'_>,
    starter: Option<&Arc<Starter>>,
    ready: impl FnOnce(&MountReport, &Space) -> Result<(), SessionError>,
) -> Result<(), SessionError> {
    prepare(request)?;
    let mut claim = Claim::take(context, request)?;
    claim.live.sign_for(server.supervisor())?;
    let telemetry = telemetry_of(request, server);
    let (mounted, session) = establish::mount(context, request, claim, telemetry.clone(), server, starter)?;
    let mut serving = Serving::begin(context, request, mounted, session, telemetry)?;
    serving.obey(context, server, request)?;
    serving.wait_for_sandbox(context)?;
    server.serving()?;
    ready(&serving.mounted.report, &serving.mounted.space)?;
    if request.within {
        reaper::outlive(&serving.mounted.space, server)
            .tried("Cannot keep serving what a command leaves behind")?;
    }
    // Not earlier: the process that reads ahead inherits our stdio, and a program that reads our output to the end would wait for
    // it.
    if let Err(error) = serving.prefetch.start(context, &serving.mounted, &serving.quiet) {
        log::warn!("Prefetching failed: {}", chain(&error));
    }
    serving.rest(context);
    serving.until_unmounted()
}

/// Continues to serve a mount whose server died, until unmounted. Nothing here may access the mount: no server would answer.
pub fn take_over(
    context: &Context,
    request: &MountRequest,
    server: &Server<'_>,
    held: Held<'_>,
) -> Result<(), SessionError> {
    signals::leave_to_supervisor().tried("Cannot handle signals")?;
    prepare(request)?;
    let telemetry = Telemetry { deaths: held.deaths, ..telemetry_of(request, server) };
    let (mounted, session) = establish::take_over(context, request, held, telemetry.clone())?;
    let mut serving = Serving::begin(context, request, mounted, session, telemetry)?;
    serving.obey(context, server, request)?;
    serving.wait_for_sandbox(context)?;
    server.serving()?;
    if server.is_requested() {
        let (space, supervisor) = (serving.mounted.space.clone(), server.supervisor());
        let record = move || restart::record(&space, supervisor, Ok(()));
        std::thread::Builder::new().name("record".into()).spawn(record).map(drop)?;
    }
    serving.rest(context);
    serving.until_unmounted()
}

/// Becomes the server of a mount that another version of the program has served, in a process started by its supervisor.
pub fn succeed(context_of: impl FnOnce(&Order) -> Result<Context, SessionError>) -> Result<(), SessionError> {
    let check = |legacy: &Legacy| {
        let context = context_of(&legacy.order)?;
        establish::check(&context, &legacy.order.request, &legacy.standing)?;
        Ok(context)
    };
    supervise::succeed(check, |context, legacy, server, held| {
        take_over(&context, &legacy.order.request, server, held)
    })
}

/// The measurements of this mount.
fn telemetry_of(request: &MountRequest, server: &Server<'_>) -> Telemetry {
    let tally = Arc::new(Tally::logging());
    let awake = keep_awake(request.keep_awake, &tally);
    Telemetry { tally, awake, progress: Some(server.progress()), ..Telemetry::default() }
}

/// A mount that this process serves.
struct Serving {
    mounted: Mounted,
    tally: Arc<Tally>,
    prefetch: Prefetch,
    /// Stops relocating.
    stop: Arc<AtomicBool>,
    /// Stops all use of the mount itself.
    quiet: Quiet,
    gate: Arc<Gate>,
    server: JoinHandle<std::io::Result<()>>,
    /// Disconnected once the server is in the sandbox.
    is_sandboxed: Receiver<()>,
    awake: Option<Arc<Awake>>,
    sandbox: Sandbox,
    /// Started once the mount has answered.
    filler: Option<JoinHandle<()>>,
}

impl Serving {
    /// Starts serving, in a sandbox that it enters meanwhile.
    fn begin(
        context: &Context,
        request: &MountRequest,
        mounted: Mounted,
        session: Session,
        telemetry: Telemetry,
    ) -> Result<Serving, SessionError> {
        let Telemetry { tally, recorder, awake, gate, .. } = telemetry;
        let prefetch = Prefetch::new(context, request, &mounted, recorder);
        let mut sandbox = background::sandbox(&context.home, &mounted.space);
        sandbox.write.extend(supply::writes(context, &mounted.report.catalog));
        let handed_over = match mounted.report.io {
            Some(Io::Passthrough) => passed_through(&mounted.store, &mounted.relocated),
            _ => Vec::new(),
        };
        let confined = Sandbox { handed_over, ..sandbox.clone() };
        let (sandboxed, is_sandboxed) = channel();
        let serve = move || {
            background::confine(&confined);
            drop(sandboxed);
            session.run()
        };
        let server = std::thread::Builder::new().name("serve".into()).spawn(serve)?;
        if mounted.is_new {
            if let Err(error) = mount::set_read_ahead(&mounted.space.root, READ_AHEAD) {
                log::debug!("The kernel keeps its own read-ahead: {error}");
            }
            log::info!("Mounted {} on {}", mounted.report.blueprint, mounted.report.path.display());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let quiet = Quiet::default();
        let filler = None;
        Ok(Serving {
            mounted,
            tally,
            prefetch,
            stop,
            quiet,
            gate,
            server,
            is_sandboxed,
            awake,
            sandbox,
            filler,
        })
    }

    /// From now on handles requests of the supervisor, and ends a mount that is no longer used.
    fn obey(
        &self,
        context: &Context,
        server: &Server<'_>,
        request: &MountRequest,
    ) -> Result<(), SessionError> {
        let Mounted { space, id, .. } = &self.mounted;
        asked::on_asked(context, server, space.clone(), *id, self.quiet.clone(), Arc::clone(&self.gate))?;
        let device = self.mounted.device.try_clone().tried("Cannot keep the device")?;
        copying::start(space, *id, device, establish::options_for(request))?;
        if !request.keep {
            reaper::start(context, space, &self.stop)?;
        }
        Ok(())
    }

    /// Waits until the server is in the sandbox: only then is the report sent, so that it follows all log lines about the sandbox.
    fn wait_for_sandbox(&self, context: &Context) -> Result<(), SessionError> {
        let _disconnected: Result<(), _> = self.is_sandboxed.recv();
        background::harden();
        fetch_ahead(context, &self.mounted, self.sandbox.clone())
    }

    /// Starts what nobody waits for: before the answer, it would only take time from it.
    fn rest(&mut self, context: &Context) {
        if let Some(awake) = self.awake.take() {
            let sandbox = self.sandbox.clone();
            if let Err(error) = awake.start(move || background::confine(&sandbox)) {
                log::warn!("Processors are not kept awake: {error}");
            }
        }
        match spawn_background(&self.mounted, &self.tally, &self.stop, self.sandbox.clone()) {
            Ok(filler) => self.filler = Some(filler),
            Err(error) => log::warn!("Nothing is relocated ahead: {}", chain(&error)),
        }
        if let Err(error) =
            rest::start(context, &self.mounted, &self.tally, &self.quiet, self.sandbox.clone())
        {
            log::warn!("The rest of the environment is not fetched: {}", chain(&error));
        }
    }

    /// Serves until unmounted.
    fn until_unmounted(mut self) -> Result<(), SessionError> {
        self.mounted.is_served();
        let served =
            self.server.join().map_err(|_| SessionError::State("The server thread panicked".into()))?;
        self.stop.store(true, Ordering::Relaxed);
        self.quiet.request();
        self.prefetch.end();
        if let Some(filler) = self.filler {
            filler.thread().unpark();
            if filler.join().is_err() {
                log::error!("The relocation thread panicked");
            }
        }
        self.prefetch.save();
        // Written data is durable before the unmount is reported.
        let synced = if self.mounted.report.mode == READ_ONLY { Ok(()) } else { self.mounted.upper.sync() };
        self.mounted.space.clear_mount_state()?;
        log::info!("Unmounted {}: {:?}", self.mounted.report.path.display(), self.tally.counts());
        synced?;
        served.tried("Serving the mount failed")
    }
}

/// For a remote catalog, fetches ahead what runs read first.
fn fetch_ahead(context: &Context, mounted: &Mounted, sandbox: Sandbox) -> Result<(), SessionError> {
    let Some(line) = mounted.line.clone() else { return Ok(()) };
    let wanted = supply::ahead(context, &mounted.report.catalog, &mounted.index);
    if wanted.is_empty() {
        return Ok(());
    }
    let store = Arc::clone(&mounted.store);
    let work = move || {
        background::confine(&sandbox);
        let came = line.prefetch(&wanted, &store);
        daemon::release_memory();
        log::info!("{came} of {} pieces were fetched ahead", wanted.len());
    };
    std::thread::Builder::new().name("ahead".into()).spawn(work).map(drop).tried("Cannot start a thread")
}

/// Keeps processors awake for requests, where that helps.
fn keep_awake(when: KeepAwake, tally: &Arc<Tally>) -> Option<Arc<Awake>> {
    let error = match when.claim() {
        Ok(claim) => return Some(Arc::new(Awake::new(claim?, Arc::clone(tally) as Arc<dyn Observer>))),
        Err(error) => error,
    };
    let reason = format!("Cannot open {}: {error}", latency::DEVICE);
    match when {
        KeepAwake::Always => tally.fallback(KEEP_AWAKE, &reason),
        _ => log::debug!("{reason}"), // only privileged users get it
    }
    None
}

/// Low-priority work after the mount answers: the usage marks that RCC expects, then the relocated files.
fn spawn_background(
    mounted: &Mounted,
    tally: &Arc<Tally>,
    stop: &Arc<AtomicBool>,
    sandbox: Sandbox,
) -> Result<JoinHandle<()>, SessionError> {
    let (relocated, index) = (Arc::clone(&mounted.relocated), Arc::clone(&mounted.index));
    let (space, catalog, blank) = (mounted.space.clone(), mounted.report.catalog.clone(), mounted.blank);
    let (store, tally, stop) = (Arc::clone(&mounted.store), Arc::clone(tally), Arc::clone(stop));
    let is_new = mounted.is_new;
    let work = move || {
        daemon::lower_priority();
        if is_new {
            leave_marks(&space, &catalog, &index, blank, &stop);
        }
        daemon::release_memory();
        background::confine(&sandbox);
        // Entries that were not used yet: later, the disk may not have them any more.
        index.complete();
        relocated.fill(&index, &stop);
        if !ends_within(UPKEEP_AFTER, &stop) || tally.get(Counter::BlobsIngested) > 0 {
            bound_raw_store(&store);
        }
    };
    std::thread::Builder::new().name("background".into()).spawn(work).tried("Cannot start a thread")
}

/// Waits: true as soon as the mount ends, which unparks this thread; false after the timeout.
fn ends_within(time: Duration, stop: &AtomicBool) -> bool {
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) && started.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(started.elapsed()));
    }
    stop.load(Ordering::Relaxed)
}

/// Measures the raw store, so that it stays within its limit, and removes what dead processes left in it.
fn bound_raw_store(store: &Store) {
    let Some(raw) = store.raw() else { return };
    match raw.seed().and_then(|_| raw.gc()) {
        Ok(upkeep) => log::debug!("Raw store {}: {upkeep:?}", raw.path().display()),
        Err(error) => log::warn!("Cannot clean up the raw store {}: {error}", raw.path().display()),
    }
}

/// Records for RCC what is in the space. `.meta` describes the directory when nothing is mounted: it is written only if that is
/// empty, because RCC trusts `.meta` on which files are clean; and only if RCC has not written it since the mount.
fn leave_marks(space: &Space, catalog_path: &Path, index: &Index, blank: bool, stop: &AtomicBool) {
    let lock = if blank { lock_to_mark(space, stop) } else { None };
    let (state, at_mount) = (space.meta_state(), space.mount_state().ok().flatten().and_then(|it| it.meta));
    let is_ours_to_write = lock.is_some() && state == at_mount;
    let current =
        RestoredState { catalog: index.id().to_string(), meta: state.unwrap_or_default(), is_empty: true };
    let known = space.restored_state().ok().flatten().is_some_and(|state| state == current);
    if is_ours_to_write && !known {
        let written = Catalog::read(catalog_path).map_err(SessionError::from).and_then(|(catalog, id)| {
            space.write_meta(&catalog)?;
            let meta = space.meta_state().unwrap_or_default();
            Ok(space.set_restored_state(&RestoredState { catalog: id.to_string(), meta, is_empty: true })?)
        });
        if let Err(error) = written {
            log::warn!("RCC will not list {}: {}", space.root.display(), chain(&error));
        }
    }
    drop(lock);
    space.journal_use(catalog_path, index.blueprint());
    space.mark_used(catalog_path, index.blueprint());
}

/// Takes RCC's lock of the space; `None` if RCC does not release it, or the mount ends.
fn lock_to_mark(space: &Space, stop: &AtomicBool) -> Option<Lock> {
    for _ in 0..100 {
        match space.lock(Wait::Not, &|_| {}) {
            Ok(lock) => return Some(lock),
            Err(error) => log::debug!("No .meta is written yet: {error}"),
        }
        if ends_within(Duration::from_millis(20), stop) {
            break;
        }
    }
    None
}
