//! The successor of a server: the installed program, started by the supervisor to take a mount over from a running one.
//!
//! ```text
//! supervisor                         successor                            server
//!     ── Legacy, descriptors ──────────▶ understands it? the state?          serves
//!     ◀──────────── Fits, or Unfit ──
//!     ── Stop ───────────────────────────────────────────────────────────▶ ends
//!     ── Begin ────────────────────────▶ takes over, serves
//! ```
//! Nothing stops before the successor has shown that it understands everything. If it dies before it serves, a fork of the
//! supervisor, which is the previous program, takes over. Later servers of the mount are started from the same path.
//!
//! Supervisor and successor are of different versions: a message of [`messages`](super::messages) may get new fields and new variants,
//! but none may change its meaning.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::chain;
use crate::sys::process::fork::{self, Forked};

use super::link::Link;
use super::messages::{Asked, Legacy, ServerMessage};
use super::server::{Held, Server};
use crate::session::error::SessionError;

/// The hidden command of the program that makes it a successor.
pub const COMMAND: &str = "succeed";
/// How long a successor may take to decide.
const DECIDING: Duration = Duration::from_secs(30);
/// The interval at which a successor is checked that has closed the connection but not ended.
const ENDING: Duration = Duration::from_millis(1);
/// The exit code of a successor that cannot be executed.
const NOT_EXECUTED: i32 = 126;

/// A successor, as the supervisor sees it.
pub(super) struct Successor {
    process: Forked,
    link: Link,
    program: PathBuf,
    started: Instant,
}

/// What a successor has decided.
pub(super) enum Decision {
    /// Nothing yet.
    Open,
    /// It can take over.
    Fits,
    /// It cannot.
    Unfit(String),
}

impl Successor {
    /// Starts `program`.
    pub(super) fn start(
        program: &Path,
        legacy: &Legacy,
        device: &OwnedFd,
        counts: &File,
    ) -> io::Result<Successor> {
        let (ours, theirs) = Link::pair()?;
        let mut command = Command::new(program);
        command.arg(COMMAND).stdin(OwnedFd::from(theirs));
        let process = fork::spawn(|| {
            let error = fork::become_program(&mut command);
            log::error!("Cannot execute {}: {error}", program.display());
            log::logger().flush();
            NOT_EXECUTED
        })?;
        drop(command);
        let successor =
            Successor { process, link: ours, program: program.to_owned(), started: Instant::now() };
        match hand_over(&successor.link, legacy, &[device.as_fd(), counts.as_fd()]) {
            Ok(()) => Ok(successor),
            Err(error) => {
                successor.dismiss();
                Err(error)
            }
        }
    }

    /// The connection to it.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// What it has decided so far. Does not wait.
    pub(super) fn decision(&self) -> io::Result<Decision> {
        let program = self.program.display();
        if self.link.is_readable() {
            return Ok(match self.link.receive() {
                Ok(Some((ServerMessage::Fits, _))) => Decision::Fits,
                Ok(Some((ServerMessage::Unfit(why), _))) => Decision::Unfit(format!("{program}: {why}")),
                Ok(Some((other, _))) => Decision::Unfit(format!("{program} sent {other:?}")),
                Ok(None) if let Some(status) = self.process.try_wait()? => {
                    Decision::Unfit(ended(&self.program, status))
                }
                Ok(None) if self.started.elapsed() < DECIDING => {
                    std::thread::sleep(ENDING); // its status says more
                    Decision::Open
                }
                Ok(None) => Decision::Unfit(format!("{program} has closed the connection")),
                Err(error) => Decision::Unfit(format!("Invalid message of {program}: {error}")),
            });
        }
        if let Some(status) = self.process.try_wait()? {
            return Ok(Decision::Unfit(ended(&self.program, status)));
        }
        let is_late = self.started.elapsed() > DECIDING;
        Ok(if is_late { Decision::Unfit(format!("{program} does not answer")) } else { Decision::Open })
    }

    /// Ends it; it does not serve.
    pub(super) fn dismiss(self) {
        self.process.kill(true);
        if let Err(error) = self.process.wait() {
            log::debug!("Cannot wait for a successor: {error}");
        }
    }

    /// Lets it serve.
    pub(super) fn begin(self, requested: bool) -> (Forked, Link, PathBuf) {
        if let Err(error) = self.link.send(&Asked::Begin { requested }, &[]) {
            log::debug!("The successor cannot be reached: {error}"); // it has ended, which is noticed
        }
        (self.process, self.link, self.program)
    }
}

/// Sends the legacy. A process that has already ended reports through its status.
fn hand_over(link: &Link, legacy: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    match link.send(legacy, descriptors) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}

/// How a successor ended that did not serve.
pub(super) fn ended(program: &Path, status: ExitStatus) -> String {
    format!("{} ended ({status}) before it served", program.display())
}

/// Becomes a server in a process started by [`Successor::start`]: `check` decides from the legacy whether it can take over, and
/// `serve` takes over.
pub fn succeed<T>(
    check: impl FnOnce(&Legacy) -> Result<T, SessionError>,
    serve: impl FnOnce(T, &Legacy, &Server<'_>, Held<'_>) -> Result<(), SessionError>,
) -> Result<(), SessionError> {
    let link = Link::of_stdin()?;
    let (legacy, descriptors) = match link.receive::<Legacy>() {
        Ok(Some(received)) => received,
        Ok(None) => return Ok(()),
        Err(error) => {
            return Ok(link.send(
                &ServerMessage::Unfit(format!("it does not understand the supervisor: {error}")),
                &[],
            )?);
        }
    };
    let mut descriptors = descriptors.into_iter();
    let (Some(device), Some(counts)) = (descriptors.next(), descriptors.next().map(File::from)) else {
        return Ok(link.send(&ServerMessage::Unfit("the device is missing".to_owned()), &[])?);
    };
    let checked = match check(&legacy) {
        Ok(checked) => checked,
        Err(error) => return Ok(link.send(&ServerMessage::Unfit(chain(&error).to_string()), &[])?),
    };
    link.send(&ServerMessage::Fits, &[])?;
    let Some((Asked::Begin { requested }, _)) = link.receive()? else { return Ok(()) };
    let held =
        Held { standing: &legacy.standing, device: device.as_fd(), counts: &counts, deaths: legacy.deaths };
    let server = Server::new(link, legacy.supervisor, Some(held)).requested(requested);
    serve(checked, &legacy, &server, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_for_a_process_that_has_ended_is_no_error() {
        let (ours, theirs) = Link::pair().unwrap();
        drop(theirs);
        hand_over(&ours, &"legacy", &[]).unwrap();
        assert!(ours.is_readable());
        assert!(ours.receive::<String>().unwrap().is_none());
    }
}
