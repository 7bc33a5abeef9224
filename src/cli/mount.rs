//! `holofs mount`: the foreground part that starts a daemon and tells what it says, and the daemon itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::fuse::Session;
use crate::observe::{Observer, Tally};
use crate::space::relocated::Relocated;
use crate::space::{Live, MountState, RestoredState, Space};
use crate::store::{BlobSource, Store};
use crate::sys::mount::{self, MountId, Mountpoint};
use crate::sys::process::Process;
use crate::sys::sandbox::Cage;
use crate::tree::{Index, Made};
use crate::vfs::{Vfs, View};

use super::SpaceArgs;
use super::context::{Context, say_waiting};
use super::daemon;
use super::exit_code::CannotMount;

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Serve from this process until unmounted
    #[arg(long)]
    pub foreground: bool,
    /// Allow no change; a little faster, since nothing is ever asked twice
    #[arg(long)]
    pub read_only: bool,
    /// Let other users in; the kernel checks permissions
    #[arg(long)]
    pub allow_other: bool,
    /// Drop what was written to the space before
    #[arg(long)]
    pub fresh: bool,
    /// This process is the background part (internal)
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// What a mount reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountReport {
    /// The mountpoint: the space.
    pub path: PathBuf,
    /// The space's label.
    pub label: String,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The blueprint.
    pub blueprint: String,
    /// The daemon.
    pub pid: u32,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// How it was mounted.
    pub rung: String,
    /// Why not in a better way; empty if it was the best.
    pub reason: String,
    /// Entries of the catalog's tree.
    pub entries: u64,
    /// `opened`, or `compiled` where the catalog was seen for the first time (or its index was damaged).
    pub index: String,
}

/// Mounts, in the background unless told otherwise.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    if args.daemon {
        daemon::enter()?;
    }
    if args.daemon || args.foreground {
        serve(context, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    match daemon::launch(args)? {
        Ok(report) => {
            context.report(&report, |report| report.path.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Everything a live mount holds; dropping it ends the mount's claim to the space.
struct Mounted {
    space: Space,
    index: Arc<Index>,
    relocated: Arc<Relocated>,
    store: Arc<Store>,
    report: MountReport,
    /// The directory under the mount is empty.
    blank: bool,
    id: MountId,
    _live: Live,
}

/// Mounts and serves until unmounted.
fn serve(context: &Context, args: &MountArgs) -> anyhow::Result<()> {
    let tally = Arc::new(Tally::logging());
    let (mounted, session) = establish(context, args, &tally)?;
    let stop = Arc::new(AtomicBool::new(false));
    // Outside of the cage: who unmounts on a signal, and who leaves RCC's marks before it goes in as well.
    daemon::on_signals(mounted.space.root.clone(), mounted.id)?;
    let cage = daemon::cage(&context.home, &mounted.space);
    let (answered, go) = mpsc::channel();
    let filler = spawn_background(&mounted, &stop, cage.clone(), go)?;
    daemon::confine(&cage);
    let server = std::thread::Builder::new().name("serve".into()).spawn(move || session.run())?;
    std::fs::metadata(&mounted.space.root)
        .with_context(|| format!("The mount at {} does not answer", mounted.space.root.display()))?;
    context.report(&mounted.report, |report| report.path.display().to_string())?;
    if args.daemon {
        daemon::leave_terminal(&mounted.space.state_dir.join("log"))?;
    }
    log::info!("Mounted {} on {}", mounted.report.blueprint, mounted.report.path.display());
    answered.send(()).context("The background thread is gone")?;
    let served = server.join().map_err(|_| anyhow::anyhow!("The server thread panicked"))?;
    stop.store(true, Ordering::Relaxed);
    if filler.join().is_err() {
        log::error!("The relocation thread panicked");
    }
    mounted.space.clear_mount_state()?;
    log::info!("Unmounted {}: {:?}", mounted.report.path.display(), tally.counts());
    served.context("Serving the mount failed")
}

/// Takes the space, and mounts it; the session is ready to run.
fn establish(context: &Context, args: &MountArgs, tally: &Arc<Tally>) -> anyhow::Result<(Mounted, Session)> {
    let (index, made, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let lock = space.lock(context.wait, &say_waiting)?;
    let live = space.go_live()?;
    clear_dead_mount(&space)?;
    let observer: Arc<dyn Observer> = Arc::clone(tally) as Arc<dyn Observer>;
    let index = Arc::new(index);
    let store = context.store(Arc::clone(&observer))?;
    let source = Arc::clone(&store) as Arc<dyn BlobSource>;
    let label = space.label.as_bytes();
    let relocated = Arc::new(Relocated::new(&space.state_dir, &index, label, source, Arc::clone(&observer)));
    let vfs = Vfs::read_only(Arc::clone(&index), Arc::clone(&relocated), view());
    let blank = std::fs::read_dir(&space.root).map_or(true, |mut entries| entries.next().is_none());
    let (session, id, rung, reason) = attach(&space, args, Arc::new(vfs))?;
    let mode = if args.read_only { "read-only" } else { "read-write" }.to_owned();
    let report = MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog: catalog.clone(),
        blueprint: index.blueprint().to_owned(),
        pid: std::process::id(),
        mode: mode.clone(),
        rung: rung.clone(),
        reason: reason.clone(),
        entries: index.len(),
        index: if made == Made::Opened { "opened" } else { "compiled" }.to_owned(),
    };
    space.set_mount_state(&MountState {
        process: Process::current(),
        catalog: index.id().to_string(),
        catalog_path: catalog,
        mountpoint: space.root.clone(),
        mode,
        rung,
        reason,
    })?;
    drop(lock);
    Ok((Mounted { space, index, relocated, store, report, blank, id, _live: live }, session))
}

/// Mounts at the space, by the highest rung of the ladder that holds.
fn attach(
    space: &Space,
    args: &MountArgs,
    vfs: Arc<Vfs>,
) -> anyhow::Result<(Session, MountId, String, String)> {
    crate::sys::shared::ensure_dir(&space.root, false)
        .with_context(|| format!("Cannot make the mountpoint {}", space.root.display()))?;
    let point = Mountpoint::open(&space.root)
        .with_context(|| format!("Cannot open the mountpoint {}", space.root.display()))?;
    let options = mount::Options { read_only: args.read_only, allow_other: args.allow_other };
    let direct = match mount::mount_fuse(&point, options) {
        Ok((device, id)) => {
            return Ok((Session::start(vfs, device, threads())?, id, "mount(2)".to_owned(), String::new()));
        }
        Err(error) => format!("mount(2): {error}"),
    };
    let helped = crate::sys::fusermount::mount(&point, options);
    match helped.and_then(|device| Ok((device, point.mounted()?))) {
        Ok((device, id)) => {
            Ok((Session::start(vfs, device, threads())?, id, "fusermount3".to_owned(), direct))
        }
        Err(error) => {
            let reasons = format!("{direct}; fusermount3: {error}");
            Err(CannotMount { what: point.path().display().to_string(), reasons }.into())
        }
    }
}

/// A mount whose daemon died answers nothing: it is taken away, so that the space can be mounted again.
fn clear_dead_mount(space: &Space) -> anyhow::Result<()> {
    match space.mount_state() {
        Ok(Some(state)) if state.process.is_alive() && state.process.pid != std::process::id() => {
            log::warn!(
                "{} says it is mounted by {}, which does not hold its lock",
                space.root.display(),
                state.process
            );
        }
        Ok(_) => {}
        Err(error) => log::warn!("{error}"),
    }
    // Attributes may still be cached; free space never is.
    let dead = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotConnected;
    while crate::sys::disk::usage(&space.root).is_err_and(|error| dead(&error)) {
        log::warn!("Taking away the dead mount at {}", space.root.display());
        super::unmount::detach(&space.root)?;
    }
    space.clear_mount_state()?;
    Ok(space.refuse_mounted()?)
}

/// What can wait until the mount answers: the marks of use that RCC wants to find, then the relocated files. At low priority.
fn spawn_background(
    mounted: &Mounted,
    stop: &Arc<AtomicBool>,
    cage: Cage,
    go: mpsc::Receiver<()>,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let (relocated, index) = (Arc::clone(&mounted.relocated), Arc::clone(&mounted.index));
    let (space, catalog, blank) = (mounted.space.clone(), mounted.report.catalog.clone(), mounted.blank);
    let (store, stop) = (Arc::clone(&mounted.store), Arc::clone(stop));
    let work = move || {
        if go.recv().is_err() {
            return; // the mount does not answer
        }
        crate::sys::daemon::lower_priority();
        leave_marks(&space, &catalog, &index, blank);
        daemon::confine(&cage);
        relocated.fill(&index, &stop);
        bound_raw_store(&store);
    };
    std::thread::Builder::new().name("background".into()).spawn(work).context("Cannot start a thread")
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
fn view() -> View {
    let owner = crate::sys::daemon::owner();
    View { uid: owner.uid, gid: owner.gid, dir_mode: 0o750 & !owner.umask }
}

/// Two threads keep a cold reader busy; more only compete with it.
fn threads() -> usize {
    2
}
