//! `holofs mount`: the foreground part that starts a daemon and tells what it says, and the daemon itself.
//!
//! Where nothing can be mounted the space is materialized, unless `--mode` says otherwise: see [`super::ladder`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::fuse::Session;
use crate::observe::{Observer, Tally};
use crate::space::relocated::Relocated;
use crate::space::{Live, MountState, RestoredState, Space};
use crate::store::BlobSource;
use crate::sys::mount::{self, MountId, Mountpoint};
use crate::sys::process::Process;
use crate::tree::{Index, Made};
use crate::vfs::{Vfs, View};

use super::SpaceArgs;
use super::context::{Context, say_waiting};
use super::daemon::{self, Launched};
use super::exit_code::{CANNOT_MOUNT, CannotMount};
use super::ladder::{self, Climbed, Mode, Refusal, Rung};

/// How long a server may take to see that its mount is gone, when its process ends anyway.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);

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
    /// How the space appears
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    /// Refuse unless the space is at this path (internal)
    #[arg(long, hide = true)]
    pub at: Option<PathBuf>,
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
    /// The daemon; none if the space is plain files.
    pub pid: Option<u32>,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// How it was mounted.
    pub rung: Rung,
    /// Why not in a better way; empty if it was the best.
    pub reasons: Vec<Refusal>,
    /// Entries of the catalog's tree.
    pub entries: u64,
    /// `opened`, or `compiled` where the catalog was seen for the first time (or its index was damaged).
    pub index: String,
}

/// Mounts, in the background unless told otherwise.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    if args.daemon {
        return main_of_daemon(context, args);
    }
    if let Some(at) = &args.at {
        refuse_elsewhere(context, args, at)?;
    }
    let outcome = match args.foreground && args.mode != Mode::Materialize {
        true => in_foreground(context, args)?,
        false => appear(context, args)?.map(Some),
    };
    match outcome {
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(report)) => {
            ladder::tell(report.rung, &report.reasons);
            context.report(&report, |report| report.path.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// A catalog decides where its spaces are: whoever names another place is told.
fn refuse_elsewhere(context: &Context, args: &MountArgs, at: &Path) -> anyhow::Result<()> {
    let (index, _, _) = context.index(&args.catalog)?;
    let root = context.space(index.base(), &args.space).root;
    anyhow::ensure!(root == at, "Space {:?} of this catalog is at {}", args.space.space, root.display());
    Ok(())
}

/// The background process: that nothing can be mounted is for who started it to deal with.
fn main_of_daemon(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    daemon::enter()?;
    let Err(error) = serve(context, args) else { return Ok(ExitCode::SUCCESS) };
    let refused = error.downcast::<CannotMount>()?;
    context.report(&refused, ToString::to_string)?;
    Ok(ExitCode::from(CANNOT_MOUNT))
}

/// Serves from this process until unmounted; a report is left to be told only if the space was materialized.
fn in_foreground(
    context: &Context,
    args: &MountArgs,
) -> anyhow::Result<Result<Option<MountReport>, ExitCode>> {
    let Err(error) = serve(context, args) else { return Ok(Ok(None)) };
    let refused = error.downcast::<CannotMount>()?;
    without_mount(context, args, refused).map(|report| Ok(Some(report)))
}

/// Makes the space appear, by the highest rung that holds; the code is of a daemon that failed and said why.
fn appear(context: &Context, args: &MountArgs) -> anyhow::Result<Result<MountReport, ExitCode>> {
    if args.mode == Mode::Materialize {
        return materialized(context, args, Vec::new()).map(Ok);
    }
    match daemon::launch(args)? {
        Launched::Mounted(report) => Ok(Ok(*report)),
        Launched::Refused(refused) => without_mount(context, args, refused).map(Ok),
        Launched::Failed(code) => Ok(Err(code)),
    }
}

/// The last rung, if it is allowed.
fn without_mount(context: &Context, args: &MountArgs, refused: CannotMount) -> anyhow::Result<MountReport> {
    if args.mode == Mode::Mount {
        return Err(refused.into());
    }
    materialized(context, args, refused.refused)
}

/// Lays the space out as files.
pub fn materialized(
    context: &Context,
    args: &MountArgs,
    reasons: Vec<Refusal>,
) -> anyhow::Result<MountReport> {
    let (index, made, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    // What was written to a mounted space is in its upper, which plain files would neither show nor hold.
    if space.state_dir.join("state.db").exists() && !args.fresh {
        let refused = reasons;
        let what = format!(
            "{} (what was written to it shows in a mount only; --fresh leaves it out)",
            space.root.display()
        );
        return Err(CannotMount { what, refused }.into());
    }
    super::materialize::quietly(context, &args.catalog, &args.space)
        .with_context(|| format!("Cannot materialize (nor mount: {})", ladder::told(&reasons)))?;
    Ok(MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: None,
        mode: "read-write".to_owned(),
        rung: Rung::Materialize,
        reasons,
        entries: index.len(),
        index: told_of(&made),
    })
}

fn told_of(made: &Made) -> String {
    if *made == Made::Opened { "opened" } else { "compiled" }.to_owned()
}

/// Everything a live mount holds; dropping it ends the mount's claim to the space.
struct Mounted {
    space: Space,
    index: Arc<Index>,
    relocated: Arc<Relocated>,
    report: MountReport,
    /// The directory under the mount is empty.
    blank: bool,
    id: MountId,
    _live: Live,
}

/// Mounts and serves until unmounted.
fn serve(context: &Context, args: &MountArgs) -> anyhow::Result<()> {
    let serving = Serving::begin(context, args, None)?;
    daemon::on_signals(serving.mounted.space.root.clone(), serving.mounted.id)?;
    if !args.daemon {
        ladder::tell(serving.report().rung, &serving.report().reasons);
    }
    context.report(serving.report(), |report| report.path.display().to_string())?;
    if args.daemon {
        daemon::leave_terminal(&serving.mounted.space.state_dir.join("log"))?;
    }
    serving.until_unmounted()
}

/// A mount that this process serves.
pub struct Serving {
    mounted: Mounted,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    server: JoinHandle<std::io::Result<()>>,
    filler: JoinHandle<()>,
}

impl Serving {
    /// Mounts and serves. With `inside`, this process is in a mount namespace of its own because of these refusals, so that
    /// only mount(2) is tried.
    pub fn begin(
        context: &Context,
        args: &MountArgs,
        inside: Option<Vec<Refusal>>,
    ) -> anyhow::Result<Serving> {
        let tally = Arc::new(Tally::logging());
        let (mounted, session) = establish(context, args, &tally, inside)?;
        let server = std::thread::Builder::new().name("serve".into()).spawn(move || session.run())?;
        std::fs::metadata(&mounted.space.root)
            .with_context(|| format!("The mount at {} does not answer", mounted.space.root.display()))?;
        log::info!("Mounted {} on {}", mounted.report.blueprint, mounted.report.path.display());
        let stop = Arc::new(AtomicBool::new(false));
        let filler = spawn_background(&mounted, &stop)?;
        Ok(Serving { mounted, tally, stop, server, filler })
    }

    /// What there is to tell.
    pub fn report(&self) -> &MountReport {
        &self.mounted.report
    }

    /// Serves until somebody unmounts it.
    fn until_unmounted(self) -> anyhow::Result<()> {
        let served = self.server.join().map_err(|_| anyhow::anyhow!("The server thread panicked"))?;
        self.stop.store(true, Ordering::Relaxed);
        if self.filler.join().is_err() {
            log::error!("The relocation thread panicked");
        }
        self.mounted.space.clear_mount_state()?;
        log::info!("Unmounted {}: {:?}", self.mounted.report.path.display(), self.tally.counts());
        served.context("Serving the mount failed")
    }

    /// Takes the mount away. Whoever still has files of it open loses them with this process.
    pub fn end(self) -> anyhow::Result<()> {
        mount::unmount(&self.mounted.space.root, true)
            .with_context(|| format!("Cannot unmount {}", self.mounted.space.root.display()))?;
        let started = std::time::Instant::now();
        while !self.server.is_finished() {
            if started.elapsed() > LAST_WORDS {
                log::warn!("Files of {} are still open", self.mounted.report.path.display());
                return Ok(self.mounted.space.clear_mount_state()?);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.until_unmounted()
    }
}

/// Takes the space, and mounts it; the session is ready to run.
fn establish(
    context: &Context,
    args: &MountArgs,
    tally: &Arc<Tally>,
    inside: Option<Vec<Refusal>>,
) -> anyhow::Result<(Mounted, Session)> {
    let (index, made, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let lock = space.lock(context.wait, &say_waiting)?;
    let live = space.go_live()?;
    clear_dead_mount(&space)?;
    let observer: Arc<dyn Observer> = Arc::clone(tally) as Arc<dyn Observer>;
    let index = Arc::new(index);
    let source: Arc<dyn BlobSource> = context.store(Arc::clone(&observer))?;
    let label = space.label.as_bytes();
    let relocated = Arc::new(Relocated::new(&space.state_dir, &index, label, source, Arc::clone(&observer)));
    let vfs = Vfs::read_only(Arc::clone(&index), Arc::clone(&relocated), view());
    let blank = std::fs::read_dir(&space.root).map_or(true, |mut entries| entries.next().is_none());
    let Climbed { device, id, rung, reasons } = attach(&space, args, inside)?;
    let session = Session::start(Arc::new(vfs), device, threads())?;
    let mode = if args.read_only { "read-only" } else { "read-write" }.to_owned();
    let report = MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog: catalog.clone(),
        blueprint: index.blueprint().to_owned(),
        pid: Some(std::process::id()),
        mode: mode.clone(),
        rung,
        reasons: reasons.clone(),
        entries: index.len(),
        index: told_of(&made),
    };
    space.set_mount_state(&MountState {
        process: Process::current(),
        catalog: index.id().to_string(),
        catalog_path: catalog,
        mountpoint: space.root.clone(),
        mode,
        rung: rung.name().to_owned(),
        reason: ladder::told(&reasons),
    })?;
    drop(lock);
    Ok((Mounted { space, index, relocated, report, blank, id, _live: live }, session))
}

/// Mounts at the space, by the highest rung of the ladder that holds.
fn attach(space: &Space, args: &MountArgs, inside: Option<Vec<Refusal>>) -> anyhow::Result<Climbed> {
    crate::sys::shared::ensure_dir(&space.root, false)
        .with_context(|| format!("Cannot make the mountpoint {}", space.root.display()))?;
    let point = Mountpoint::open(&space.root)
        .with_context(|| format!("Cannot open the mountpoint {}", space.root.display()))?;
    let options = mount::Options { read_only: args.read_only, allow_other: args.allow_other };
    let what = space.root.display().to_string();
    match inside {
        None => ladder::climb(&point, options).map_err(|refused| CannotMount { what, refused }.into()),
        Some(reasons) => {
            let (device, id) =
                mount::mount_fuse(&point, options).with_context(|| format!("Cannot mount {what}"))?;
            Ok(Climbed { device, id, rung: Rung::Namespace, reasons })
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
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let (relocated, index) = (Arc::clone(&mounted.relocated), Arc::clone(&mounted.index));
    let (space, catalog, blank) = (mounted.space.clone(), mounted.report.catalog.clone(), mounted.blank);
    let stop = Arc::clone(stop);
    let work = move || {
        crate::sys::daemon::lower_priority();
        leave_marks(&space, &catalog, &index, blank);
        relocated.fill(&index, &stop);
    };
    std::thread::Builder::new().name("background".into()).spawn(work).context("Cannot start a thread")
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
    let owner = crate::sys::daemon::owner();
    View { uid: owner.uid, gid: owner.gid, dir_mode: 0o750 & !owner.umask }
}

/// Two threads keep a cold reader busy; more only compete with it.
pub fn threads() -> usize {
    2
}
