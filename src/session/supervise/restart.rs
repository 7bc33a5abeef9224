//! The supervisor's side of a restart: it starts a successor, and ends the server once the successor can take over; otherwise the
//! server records the refusal.

use std::io;
use std::time::Instant;

use crate::sys::process::{Process, program};

use super::messages::{Asked, Legacy};
use super::successor::{Decision, Successor, ended};
use super::{Child, Program, Supervisor, ask};

impl Supervisor {
    /// Starts the installed program as a successor of `child`, unless one is being started.
    pub(super) fn prepare_successor(&mut self, child: &Child) {
        if self.ending || self.successor.is_some() || self.stopping.is_some() || !child.serves {
            return log::info!("A restart is ignored: this mount starts, ends, or is being restarted");
        }
        match self.start_successor() {
            Ok(Some(successor)) => self.successor = Some(successor),
            Ok(None) => refuse(child, "only its server knows its open files".to_owned()),
            Err(error) => refuse(child, format!("cannot start the installed program: {error}")),
        }
    }

    /// `None` if the mount cannot be taken over.
    fn start_successor(&self) -> io::Result<Option<Successor>> {
        let Some((standing, Some((device, counts)))) = &self.mount else { return Ok(None) };
        let installed = program(None, None)?;
        let legacy = Legacy {
            order: self.order.clone(),
            standing: standing.clone(),
            supervisor: Process::current(),
            deaths: self.deaths,
        };
        Successor::start(&installed, &legacy, device, counts).map(Some)
    }

    /// Acts on the decision of the successor.
    pub(super) fn hear_successor(&mut self, child: &Child) -> io::Result<()> {
        let Some(successor) = self.successor.take_if(|_| self.stopping.is_none()) else { return Ok(()) };
        match successor.decision()? {
            Decision::Open => self.successor = Some(successor),
            Decision::Fits => {
                self.successor = Some(successor);
                self.stopping = Some(Instant::now());
                ask(child, &Asked::Stop);
            }
            Decision::Unfit(why) => {
                successor.dismiss();
                refuse(child, why);
            }
        }
        Ok(())
    }

    /// True if the server has ended for its successor. Otherwise its successor is dropped.
    pub(super) fn has_made_room(&mut self) -> bool {
        if self.stopping.take().is_some() {
            return true;
        }
        if let Some(successor) = self.successor.take() {
            successor.dismiss();
            self.refused = Some("the server died meanwhile".to_owned());
        }
        false
    }

    /// A program that ended before it served is not started again.
    pub(super) fn drop_untried(&mut self, status: std::process::ExitStatus) {
        if let Some(program) = self.program.take_if(|program| !program.is_tried) {
            let why = ended(&program.path, status);
            log::error!("The former program serves again: {why}");
            self.refused = Some(why);
        }
    }

    /// The successor, or the next process of the program that serves; `None`: a fork of this process is to serve.
    pub(super) fn start_program(&mut self) -> Option<Child> {
        let (successor, requested) = match (self.successor.take(), &self.program) {
            (Some(successor), _) => (successor, true),
            (None, None) => return None,
            (None, Some(_)) => match self.start_successor() {
                Ok(successor) => (successor?, false),
                Err(error) => {
                    log::error!("Cannot start the installed program: {error}");
                    return None;
                }
            },
        };
        let (process, link, path) = successor.begin(requested);
        if requested {
            self.program = Some(Program { path, is_tried: false });
        }
        Some(Child { process, link: Some(link), serves: false })
    }
}

/// Lets the server record that a restart was refused.
fn refuse(child: &Child, why: String) {
    log::warn!("A restart is refused: {why}");
    ask(child, &Asked::Stays(why));
}
