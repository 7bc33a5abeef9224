//! The background process of a mount: how it is started, and how it behaves once it is alone.
//!
//! The foreground process starts itself again with `--daemon` and a pipe as stdout. The daemon prints its report into the
//! pipe once the mount answers, then lets go of the terminal; if it fails before, its errors are on our stderr and its exit
//! code becomes ours.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::rcc::home::Home;
use crate::space::Space;
use crate::sys::mount::MountId;
use crate::sys::process::daemon;
use crate::sys::process::fork;
use crate::sys::process::sandbox::{self, Cage, Closed};
use crate::sys::process::signals::{self, Signal};

use super::context::Context;
use super::exit_code::{self, CannotMount};
use super::mount::{MountArgs, MountReport};

/// After SIGTERM, open files are served for this long.
const GRACE: Duration = Duration::from_secs(10);

/// What became of a daemon that was started.
pub enum Launched {
    /// Its mount answers.
    Mounted(Box<MountReport>),
    /// Nothing can be mounted here.
    Refused(CannotMount),
    /// It said why on stderr, and this is its code.
    Failed(ExitCode),
}

/// This program, to be started again; never under the name of the mount(8) helper.
pub fn this_program() -> anyhow::Result<Command> {
    let (first, path) = (std::env::args_os().next(), std::env::var_os("PATH"));
    let program = crate::sys::process::program(first.as_deref(), path.as_deref());
    let program = program.context("Cannot find the program itself")?;
    let mut command = Command::new(&program);
    if program.file_name().is_some_and(|name| name == "mount.holofs") {
        command.arg0("holofs");
    }
    Ok(command)
}

/// Starts the daemon and waits until its mount answers, or it fails.
pub fn launch(context: &Context, args: &MountArgs) -> anyhow::Result<Launched> {
    let mut child = this_program()?
        .args(["mount", "--daemon", "--json"])
        .args(context.is_paranoid().then_some("--paranoid"))
        .args(args.read_only.then_some("--read-only"))
        .args(args.allow_other.then_some("--allow-other"))
        .args(args.uid.map(|uid| format!("--uid={uid}")))
        .args(args.gid.map(|gid| format!("--gid={gid}")))
        .args(args.no_exec.then_some("--noexec"))
        .args(args.fresh.then_some("--fresh"))
        .args(["--io", args.io.name(), "--keep-awake", args.keep_awake.name()])
        .arg(joined("--profile=", args.profile.as_os_str())) // in one piece: a value may begin with a dash
        .arg(joined("--controller=", args.space.controller.as_ref()))
        .args(["--", &args.catalog, &args.space.space])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("Cannot start the background process")?;
    let mut told = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut told).context("Cannot hear the background process")?;
    }
    understand(&told, || child.wait())
}

/// As [`launch`], by a copy of this process, which must have one thread, and ends with it. In a namespace of our own a program
/// that is started has nothing of what makes it possible to mount there.
pub fn launch_copy(context: &Context, args: &MountArgs) -> anyhow::Result<Launched> {
    let args = MountArgs { daemon: true, within: true, ..args.clone() };
    let (mut pipe, report) = std::io::pipe().context("Cannot make a pipe")?;
    let serve = move || {
        daemon::speak_into(report)?;
        super::mount::background(&context.for_program(), &args)
    };
    let copy = fork::spawn(move || serve().unwrap_or_else(|error| exit_code::tell(&error)).into())
        .context("Cannot start the background process")?;
    let mut told = String::new();
    pipe.read_to_string(&mut told).context("Cannot hear the background process")?;
    understand(&told, || copy.wait())
}

/// What the background process said, and how it ended if it did.
fn understand(told: &str, end: impl FnOnce() -> std::io::Result<ExitStatus>) -> anyhow::Result<Launched> {
    if let Ok(report) = serde_json::from_str(told) {
        return Ok(Launched::Mounted(Box::new(report)));
    }
    let status = end().context("Cannot wait for the background process")?;
    if let Ok(refused) = serde_json::from_str(told) {
        return Ok(Launched::Refused(refused));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
    let code = code.with_context(|| format!("The mount ended before it answered ({status})"))?;
    Ok(Launched::Failed(ExitCode::from(code)))
}

/// An option and its value as one argument.
fn joined(option: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(value);
    argument
}

/// Becomes independent of who started us: no inherited descriptor, a session of our own.
pub fn enter() -> anyhow::Result<()> {
    daemon::close_inherited().context("Cannot close inherited descriptors")?;
    daemon::new_session().context("Cannot start a session")
}

/// As [`enter`], for a copy of this process: what it needs is open already, and what it has to say goes to our stderr.
pub fn alone() -> std::io::Result<()> {
    daemon::redirect_stdio(&daemon::stderr()?)?;
    daemon::new_group()
}

/// What the daemon of a mount touches while it serves: the hololib, the raw store, the space's state, and the devices of
/// FUSE, of redirected stdio and of SQLite's random numbers.
pub fn cage(home: &Home, space: &Space) -> Cage {
    let device = |name: &str| Path::new("/dev").join(name);
    let hololib = home.library().parent().map_or_else(|| home.library(), Path::to_owned);
    Cage {
        read: vec![hololib, device("urandom")],
        write: vec![home.raw_dir().into(), space.state_dir.clone().into(), device("fuse"), device("null")],
        handed_over: Vec::new(),
    }
}

/// Closes the cage around this thread and those it starts; what the kernel does not give is told in one line.
pub fn confine(cage: &Cage) {
    tell(&cage.close());
}

/// No core file and no tracer for a process that only serves.
pub fn harden() {
    tell(&sandbox::harden_process());
}

fn tell(closed: &Closed) {
    match closed.is_complete() {
        true => log::debug!("The sandbox around {:?} is complete", std::thread::current().name()),
        false => log::warn!("The sandbox is not complete: {}", closed.missing.join("; ")),
    }
}

/// The report is out: stdio goes to the log, and no directory is kept busy.
pub fn leave_terminal(log: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let file = file.with_context(|| format!("Cannot open the log {}", log.display()))?;
    std::env::set_current_dir("/").context("Cannot change to /")?;
    // Last: with it, whoever started us goes on.
    daemon::redirect_stdio(&file).context("Cannot redirect stdio")
}

/// SIGTERM and SIGINT take the mount out of the tree and give open files a grace; a second one ends at once. SIGHUP is for
/// terminals, and we have none. SIGUSR1 sets `quiet`.
pub fn on_signals(root: PathBuf, id: MountId, quiet: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut asked = false;
    signals::handle(move |signal| match signal {
        Signal::Hangup => {}
        Signal::Quiet => quiet.store(true, Ordering::Relaxed),
        Signal::Terminate if asked => std::process::exit(0),
        Signal::Terminate => {
            asked = true;
            log::info!("Unmounting {} on a signal", root.display());
            match super::unmount::detach_own(&root, id) {
                Ok(true) => exit_after_grace(),
                Ok(false) => {
                    log::error!("{} is not ours to unmount: another mount lies on it", root.display());
                    std::process::exit(0);
                }
                Err(error) => log::error!("Cannot unmount {}: {error:#}", root.display()),
            }
        }
    })
    .context("Cannot handle signals")
}

fn exit_after_grace() {
    let wait = || {
        std::thread::sleep(GRACE);
        log::warn!("Files are still open after {} s: ending anyway", GRACE.as_secs());
        std::process::exit(0);
    };
    if let Err(error) = std::thread::Builder::new().name("grace".into()).spawn(wait) {
        log::error!("Cannot start a thread: {error}");
    }
}
