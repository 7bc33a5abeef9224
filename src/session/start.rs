//! The start lock: held while a command looks at a space, decides, and starts or joins it or takes it away.
//!
//! `<state>/start` is held by flock; the kernel frees it with the process. Whoever holds it may wait for RCC's lock of the space and
//! for the claim, never the other way round.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use crate::space::{Space, Wait, files};
use crate::sys::fs::lock;

use super::context::Context;
use super::error::Busy;

/// How often a lock that is held is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// How long a command may wait, from its beginning on.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Instant,
    wait: Wait,
}

impl Deadline {
    /// From now on.
    pub fn of(wait: Wait) -> Deadline {
        Deadline { started: Instant::now(), wait }
    }

    /// True if it is over.
    pub fn is_over(&self) -> bool {
        match self.wait {
            Wait::Forever => false,
            Wait::For(bound) => self.started.elapsed() >= bound,
            Wait::Not => true,
        }
    }

    /// What is left of it.
    pub fn left(&self) -> Wait {
        match self.wait {
            Wait::For(bound) => Wait::For(bound.saturating_sub(self.started.elapsed())),
            other => other,
        }
    }

    /// Since when it runs.
    pub fn waited(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The lock; dropping it frees it, also for copies of this process that were made meanwhile.
#[derive(Debug)]
pub struct Start(File);

impl Start {
    /// Takes the lock, until `deadline`.
    pub fn take(context: &Context, space: &Space, deadline: &Deadline) -> anyhow::Result<Start> {
        let mut told = false;
        loop {
            if let Some(start) = Start::attempt(space)? {
                return Ok(start);
            }
            let root = space.root.display();
            if deadline.is_over() {
                return Err(Busy(format!("{root} is being started or ended by another command")).into());
            }
            if !told && deadline.waited() > Duration::from_millis(500) {
                told = true;
                context.front.note(&format!("Waiting for another command that starts or ends {root}"));
            }
            std::thread::sleep(RETRY_EVERY);
        }
    }

    /// Takes the lock if it is free.
    pub fn attempt(space: &Space) -> io::Result<Option<Start>> {
        let place = space.state_dir.below(files::START);
        let file = match lock::open_own(&place) {
            // What was mounted before the disk turned read-only can still be taken away.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => lock::look_at(&place)?,
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => Ok(lock::is_still_own(&file, &place)?.then_some(Start(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            log::debug!("The start lock is freed with its descriptor: {error}");
        }
    }
}
