//! The background process of a mount: how it is started, and how it detaches.
//!
//! The foreground process forks, which is faster than to start a program, or starts this program again as `serve` and sends it the request.
//! Either way the new process has only pipes for stdin and stdout, and gives one answer, which is one line: the report once the mount
//! answers, after which the daemon detaches from the terminal while the foreground process continues, or the error.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::chain;
use crate::space::files;
use crate::sys::process::daemon;
use crate::sys::process::fork;

use super::background::{self, leave_dir_for};
use super::context::Context;
use super::error::{CannotMount, DaemonFailed, SessionError, Tried as _};
use super::report::MountReport;
use super::request::{MountRequest, Order};
use super::serve::{serve, take_over};
use super::starter::Starter;
use super::supervise::{self, Server, Terminal};

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

/// The command of the background process.
const COMMAND: &str = "serve";
/// The capacity for the answer makes one read enough for all of it: each read may have to wait for the scheduler.
const ANSWER: usize = 4096;

/// Starts the daemon and waits until its mount answers or it fails.
pub fn launch(context: &Context, request: &MountRequest) -> Result<Launched, SessionError> {
    // A fork has the variables that this process was started with, and all of its memory for as long as the mount lives.
    match context.process.replaced.is_empty() && fork::is_cheap() {
        true => launch_fork(context, request),
        false => launch_program(context, request),
    }
}

/// Forks the daemon.
fn launch_fork(context: &Context, request: &MountRequest) -> Result<Launched, SessionError> {
    let context = &context.unopened();
    let pipe = || std::io::pipe().tried("Cannot create a pipe");
    let ((stdin, to), (from, stdout)) = (pipe()?, pipe()?);
    // Otherwise the fork would write it too.
    std::io::stdout().flush().tried("Cannot write to stdout")?;
    let serve = || {
        background::enter_as(COMMAND, stdin, stdout)?;
        run(context, request, true)
    };
    let code = || {
        serve().unwrap_or_else(|error| {
            log::error!("{}", chain(&error));
            i32::from(context.front.exit_code(&error))
        })
    };
    let copy = fork::spawn_free(code).tried("Cannot start the background process")?;
    let said = hear(from);
    // Not earlier: the daemon gives up when this pipe closes.
    drop(to);
    understand(&said?, || copy.wait())
}

/// Starts the daemon as a program.
fn launch_program(context: &Context, request: &MountRequest) -> Result<Launched, SessionError> {
    let mut child = context
        .this_program()?
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .tried("Cannot start the background process")?;
    let order = Order { request: request.clone(), given: context.given.clone() };
    let order = serde_json::to_vec(&order)?;
    let mut said = String::new();
    if let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) {
        // A child that has already ended reports through its status.
        let sent = to.write_all(&order).and_then(|()| to.write_all(b"\n"));
        log::trace!("The request was sent: {sent:?}");
        let heard = hear(from);
        // Not earlier: the daemon gives up when this pipe closes.
        drop(to);
        said = heard?;
    }
    understand(&said, || child.wait())
}

/// Like [`launch`], but with a fork of this process, which must have one thread; it keeps serving the processes that a command
/// leaves behind. A program executed in our own namespace would lack the privileges to mount.
pub fn launch_copy(context: &Context, request: &MountRequest) -> Result<Launched, SessionError> {
    let request = MountRequest { within: true, ..request.clone() };
    let (pipe, report) = std::io::pipe().tried("Cannot create a pipe")?;
    let serve = || {
        daemon::speak_into(report)?;
        run(context, &request, false)
    };
    let code = || serve().unwrap_or_else(|error| i32::from(context.front.exit_code(&error)));
    let copy = fork::spawn(code).tried("Cannot start the background process")?;
    understand(&hear(pipe)?, || copy.wait())
}

/// Reads the answer of the background process; empty if it ends without one.
fn hear(from: impl Read) -> Result<String, SessionError> {
    let mut said = String::new();
    let heard = BufReader::with_capacity(ANSWER, from).read_line(&mut said);
    heard.tried("Cannot read the answer of the background process")?;
    Ok(said)
}

/// The answer of the background process, or how it ended if there is none.
fn understand(
    said: &str,
    end: impl FnOnce() -> std::io::Result<ExitStatus>,
) -> Result<Launched, SessionError> {
    match serde_json::from_str(said) {
        Ok(Answer::Mounted(report)) => return Ok(Ok(*report)),
        Ok(Answer::Refused(refused)) => {
            end().tried("Cannot wait for the background process")?;
            return Ok(Err(refused));
        }
        Ok(Answer::Failed(why)) => {
            end().tried("Cannot wait for the background process")?;
            return Err(why.into());
        }
        Err(error) => log::debug!("The background process answered {said:?}: {error}"),
    }
    let status = end().tried("Cannot wait for the background process")?;
    Err(SessionError::State(format!("The mount ended before it answered ({status})").into()))
}

/// The background process itself; returns its exit code. The server answers on stdout, once. If `watched`, stdin closes when the
/// starter ends.
pub fn run(context: &Context, request: &MountRequest, watched: bool) -> Result<i32, SessionError> {
    let work = |server: &Server<'_>| {
        let served = match server.held() {
            Some(held) => take_over(context, request, server, held),
            None => begin(context, request, server, watched),
        };
        let Err(error) = served else { return 0 };
        log::error!("{}", chain(&error));
        i32::from(context.front.exit_code(&error))
    };
    let order = Order { request: request.clone(), given: context.given.clone() };
    supervise::run(Terminal::Left, order, work).tried("Cannot supervise the server of a mount")
}

/// Begins as the first server.
fn begin(
    context: &Context,
    request: &MountRequest,
    server: &Server<'_>,
    watched: bool,
) -> Result<(), SessionError> {
    let starter = watched.then(|| Starter::watch(context)).transpose()?;
    let outcome = serve(context, request, server, starter.as_ref(), |report, space| {
        // Here errors can be reported.
        let log = leave_dir_for(&space.state_dir.below(files::LOG))?;
        let mounted = Answer::Mounted(Box::new(report.clone()));
        match &starter {
            Some(starter) => starter.answer(|| answer(&mounted)),
            None => answer(&mounted)?,
        }
        daemon::redirect_stdio(&log).tried("Cannot redirect stdio")
    });
    let Err(error) = outcome else { return Ok(()) };
    let why = match error.find::<CannotMount>() {
        Some(refused) => Answer::Refused(refused.clone()),
        None => {
            log::debug!("The mount failed: {}", chain(&error));
            Answer::Failed(DaemonFailed::of(&error))
        }
    };
    answer(&why)
}

fn answer(answer: &Answer) -> Result<(), SessionError> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).tried("Cannot answer the process that started this one")
}

/// Reads what [`launch`] sent.
pub fn order() -> Result<Order, SessionError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).tried("Cannot read the mount request")?;
    serde_json::from_str(&line).tried("Cannot parse the mount request")
}
