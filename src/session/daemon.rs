//! The background process of a mount: how it is started, and how it detaches.
//!
//! The foreground process starts this program again as `serve`, with pipes for stdin and stdout. It sends the request, and receives
//! one answer: the report once the mount answers, after which the daemon detaches from the terminal, or the error.

use std::io::{BufRead as _, Read, Write};
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::space::files;
use crate::sys::process::daemon;
use crate::sys::process::fork;

use super::background::leave_terminal;
use super::context::Context;
use super::error::{CannotMount, DaemonFailed};
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
    let order = Order { request: request.clone(), given: context.given.clone() };
    supervise::run(Terminal::Left, order, work).context("Cannot supervise the server of a mount")
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
        let answered = answer(&Answer::Mounted(Box::new(report.clone())));
        match &starter {
            Some(starter) => starter.has_answered(answered.is_ok()),
            None => answered?,
        }
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
