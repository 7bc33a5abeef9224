//! The start lock: held while a command inspects a space, decides, and starts, joins or unmounts it.
//!
//! `<state>/start` is locked with flock; the kernel releases it with the process. Its holder may wait for RCC's lock of the space and
//! for the claim, never the other way round.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use crate::space::{Space, Wait, files};
use crate::sys::fs::lock;

use super::context::Context;
use super::error::{Busy, SessionError};

/// The interval of retries while a lock is held.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// How long a command may wait, counted from its start.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Instant,
    wait: Wait,
}

impl Deadline {
    /// A deadline that starts now.
    pub fn of(wait: Wait) -> Deadline {
        Deadline { started: Instant::now(), wait }
    }

    /// True if it has passed.
    pub fn is_over(&self) -> bool {
        match self.wait {
            Wait::Forever => false,
            Wait::For(bound) => self.started.elapsed() >= bound,
            Wait::Not => true,
        }
    }

    /// The remaining time.
    pub fn left(&self) -> Wait {
        match self.wait {
            Wait::For(bound) => Wait::For(bound.saturating_sub(self.started.elapsed())),
            other => other,
        }
    }

    /// The time since its start.
    pub fn waited(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The lock; dropping it releases it, also for forks of this process made meanwhile.
#[derive(Debug)]
pub struct Start(File);

impl Start {
    /// Takes the lock, until `deadline`.
    pub fn take(context: &Context, space: &Space, deadline: &Deadline) -> Result<Start, SessionError> {
        let mut is_reported = false;
        loop {
            if let Some(start) = Start::attempt(space)? {
                return Ok(start);
            }
            let root = space.root.display();
            if deadline.is_over() {
                return Err(Busy(format!("{root} is being started or ended by another command")).into());
            }
            if !is_reported && deadline.waited() > Duration::from_millis(500) {
                is_reported = true;
                context.front.note(&format!("Waiting for another command that starts or ends {root}"));
            }
            std::thread::sleep(RETRY_EVERY);
        }
    }

    /// Takes the lock if it is free.
    pub fn attempt(space: &Space) -> io::Result<Option<Start>> {
        let place = space.state_dir.below(files::START);
        let file = match lock::open_own(&place) {
            // A mount can be unmounted even if the disk has become read-only since.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => lock::look_at(&place)?,
            opened => opened?,
        };
        let file = lock::closed_last(file);
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
