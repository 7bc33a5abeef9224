//! The background process of a mount: how it is started, and how it detaches.
//!
//! The foreground process starts this program again as `serve`, with pipes for stdin and stdout. It sends the request, and receives
//! one answer: the report once the mount answers, after which the daemon detaches from the terminal, or the error.

use std::io::{BufRead as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::rcc::home::Home;
use crate::space::{Space, files};
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;
use crate::sys::mount::MountId;
use crate::sys::process::daemon;
use crate::sys::process::fork;
use crate::sys::process::sandbox::{self, Cage, Closed};

use super::context::Context;
use super::error::{CannotMount, DaemonFailed};
use super::report::MountReport;
use super::request::{MountRequest, Order};
use super::serve::{serve, take_over};
use super::supervise::{self, Asked, Server, Terminal};

/// How long open files are served after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// The answer of a daemon to its starter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The mount answers.
    Mounted(Box<MountReport>),
    /// Nothing can be mounted here.
    Refused(CannotMount),
    /// Something else failed.
    Failed(DaemonFailed),
}

/// A mount that answers, or why nothing can be mounted here; all other failures are errors.
pub type Launched = Result<MountReport, CannotMount>;

/// Starts the daemon and waits until its mount answers or it fails.
pub fn launch(context: &Context, request: &MountRequest) -> anyhow::Result<Launched> {
    let mut child = context
        .this_program()?
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("Cannot start the background process")?;
    let order = Order { request: request.clone(), given: context.given.clone() };
    let order = serde_json::to_vec(&order)?;
    let mut said = String::new();
    if let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) {
        // A child that has already ended reports through its status.
        let sent = to.write_all(&order).and_then(|()| to.write_all(b"\n"));
        log::trace!("The request was sent: {sent:?}");
        let heard = from.read_to_string(&mut said);
        // Not earlier: the daemon gives up when this pipe closes.
        drop(to);
        heard.context("Cannot hear the background process")?;
    }
    understand(&said, || child.wait())
}

/// Like [`launch`], but with a fork of this process, which must have one thread; it stays for what a command leaves behind. In our
/// own namespace, an executed program would lack the privileges to mount.
pub fn launch_copy(context: &Context, request: &MountRequest) -> anyhow::Result<Launched> {
    let request = MountRequest { within: true, ..request.clone() };
    let (mut pipe, report) = std::io::pipe().context("Cannot make a pipe")?;
    let serve = || {
        daemon::speak_into(report)?;
        run(context, &request, false)
    };
    let code = || serve().unwrap_or_else(|error| i32::from(context.front.exit_code(&error)));
    let copy = fork::spawn(code).context("Cannot start the background process")?;
    let mut said = String::new();
    pipe.read_to_string(&mut said).context("Cannot hear the background process")?;
    understand(&said, || copy.wait())
}

/// The answer of the background process, or how it ended if there is none.
fn understand(said: &str, end: impl FnOnce() -> std::io::Result<ExitStatus>) -> anyhow::Result<Launched> {
    match serde_json::from_str(said) {
        Ok(Answer::Mounted(report)) => return Ok(Ok(*report)),
        Ok(Answer::Refused(refused)) => {
            end().context("Cannot wait for the background process")?;
            return Ok(Err(refused));
        }
        Ok(Answer::Failed(why)) => {
            end().context("Cannot wait for the background process")?;
            return Err(why.into());
        }
        Err(error) => log::debug!("The background process answered {said:?}: {error}"),
    }
    let status = end().context("Cannot wait for the background process")?;
    anyhow::bail!("The mount ended before it answered ({status})")
}

/// The background process itself; returns its exit code. The server answers on stdout, once. If `watched`, stdin closes when the
/// starter ends.
pub fn run(context: &Context, request: &MountRequest, watched: bool) -> anyhow::Result<i32> {
    let work = |server: &Server<'_>| {
        let served = match server.held() {
            Some(held) => take_over(context, request, server, held),
            None => begin(context, request, server, watched),
        };
        let Err(error) = served else { return 0 };
        log::error!("{error:#}");
        i32::from(context.front.exit_code(&error))
    };
    supervise::run(Terminal::Left, work).context("Cannot supervise the server of a mount")
}

/// Begins as the first server.
fn begin(
    context: &Context,
    request: &MountRequest,
    server: &Server<'_>,
    watched: bool,
) -> anyhow::Result<()> {
    let starter = watched.then(|| Starter::watch(context)).transpose()?;
    let outcome = serve(context, request, server, starter.as_ref(), |report, space| {
        starter.iter().for_each(|starter| starter.has_answered());
        answer(&Answer::Mounted(Box::new(report.clone())))?;
        leave_terminal(&space.state_dir.below(files::LOG))
    });
    let Err(error) = outcome else { return Ok(()) };
    let why = match error.downcast::<CannotMount>() {
        Ok(refused) => Answer::Refused(refused),
        Err(error) => {
            log::debug!("The mount failed: {error:#}");
            Answer::Failed(DaemonFailed::of(&error))
        }
    };
    answer(&why)
}

fn answer(answer: &Answer) -> anyhow::Result<()> {
    let text = serde_json::to_vec(answer)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).context("Cannot answer who started this process")
}

/// Reads what [`launch`] sent.
pub fn order() -> anyhow::Result<Order> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("Cannot read what to mount")?;
    serde_json::from_str(&line).context("Cannot understand what to mount")
}

/// Tracks the starter: if it ends before it has its answer, nothing stays mounted.
#[derive(Debug, Default)]
pub struct Starter(Mutex<Stage>);

/// The progress of the start.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing is mounted yet.
    #[default]
    Claiming,
    /// It is mounted.
    Mounted(Box<Space>, MountId),
    /// The answer is on its way.
    Answered,
}

impl Starter {
    /// Watches stdin, which closes when the starter ends.
    pub fn watch(context: &Context) -> anyhow::Result<Arc<Starter>> {
        let starter = Arc::new(Starter::default());
        let (watched, mounters) = (Arc::clone(&starter), context.mounters());
        let watch = move || {
            let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            log::debug!("Who started this process is done: {ended:?}");
            match &*watched.stage() {
                Stage::Answered => return,
                Stage::Claiming => {}
                Stage::Mounted(space, id) => {
                    let gone = super::unmount::detach_own(&mounters, &space.root, *id);
                    log::debug!("{} is unmounted, since nobody waits for it: {gone:?}", space.root.display());
                    let cleared = space.clear_mount_state();
                    log::debug!("Its record is removed: {cleared:?}");
                }
            }
            daemon::end()
        };
        std::thread::Builder::new().name("starter".into()).spawn(watch).context("Cannot start a thread")?;
        Ok(starter)
    }

    /// Mounts, unless the starter has ended.
    pub fn mount<T>(
        &self,
        space: &Space,
        mount: impl FnOnce() -> anyhow::Result<(T, MountId)>,
    ) -> anyhow::Result<T> {
        let mut stage = self.stage();
        let (mounted, id) = mount()?;
        *stage = Stage::Mounted(Box::new(space.clone()), id);
        Ok(mounted)
    }

    fn has_answered(&self) {
        *self.stage() = Stage::Answered;
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Detaches from the starter: closes inherited descriptors, and starts a new session.
pub fn enter() -> anyhow::Result<()> {
    daemon::close_inherited().context("Cannot close inherited descriptors")?;
    daemon::new_session().context("Cannot start a session")
}

/// Like [`enter`], for a fork of this process: its descriptors are open already, and its output goes to our stderr.
pub fn alone() -> std::io::Result<()> {
    daemon::redirect_stdio(&daemon::stderr()?)?;
    daemon::new_group()
}

/// The paths that the daemon uses while it serves: the hololib, the raw store, the space's state, and the devices for FUSE,
/// redirected stdio and SQLite's random numbers.
pub fn cage(home: &Home, space: &Space) -> Cage {
    let device = |name: &str| Path::new("/dev").join(name);
    let hololib = home.library().parent().map_or_else(|| home.library(), Path::to_owned);
    Cage {
        read: vec![hololib, device("urandom")],
        write: vec![home.raw_dir().into(), space.state_dir.clone().into(), device("fuse"), device("null")],
        handed_over: Vec::new(),
    }
}

/// Sandboxes this thread and the threads it starts; logs in one line what the kernel does not support.
pub fn confine(cage: &Cage) {
    tell(&cage.close());
}

/// Disables core files and tracing for a process that only serves.
pub fn harden() {
    tell(&sandbox::harden_process());
}

fn tell(closed: &Closed) {
    match closed.is_complete() {
        true => log::debug!("The sandbox around {:?} is complete", std::thread::current().name()),
        false => log::warn!("The sandbox is not complete: {}", closed.missing.join("; ")),
    }
}

/// After the report was sent: redirects stdio to the log, and keeps no directory busy.
pub fn leave_terminal(log: &Place) -> anyhow::Result<()> {
    let file = log.in_dir(OwnedDir::open_to_append);
    let file = file.with_context(|| format!("Cannot open the log {}", log.display()))?;
    daemon::leave_dir().context("Cannot change to /")?;
    // Last: the starter continues when its pipe closes.
    daemon::redirect_stdio(&file).context("Cannot redirect stdio")
}

/// On a first termination request, detaches the mount and gives open files a grace period; on a second one, ends this process at
/// once.
pub fn on_asked(
    context: &Context,
    server: &Server<'_>,
    root: PathBuf,
    id: MountId,
    quiet: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mounters = context.mounters();
    let mut again = false;
    let asked = move |asked| match asked {
        Asked::Quiet => quiet.store(true, Ordering::Relaxed),
        Asked::Unmount if again => daemon::end(),
        Asked::Unmount => {
            again = true;
            log::info!("Unmounting {} on a signal", root.display());
            match super::unmount::detach_own(&mounters, &root, id) {
                Ok(true) => exit_after_grace(),
                Ok(false) => {
                    log::error!("{} is not ours to unmount: another mount lies on it", root.display());
                    daemon::end();
                }
                Err(error) => log::error!("Cannot unmount {}: {error:#}", root.display()),
            }
        }
    };
    server.on_asked(asked).context("Cannot hear the supervisor")
}

fn exit_after_grace() {
    let wait = || {
        std::thread::sleep(GRACE);
        log::warn!("Files are still open after {} s: ending anyway", GRACE.as_secs());
        daemon::end();
    };
    if let Err(error) = std::thread::Builder::new().name("grace".into()).spawn(wait) {
        log::error!("Cannot start a thread: {error}");
    }
}
