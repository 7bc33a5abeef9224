//! Stubs for forks on platforms where mounts cannot be served: every call is refused.

use std::io;
use std::process::{Command, ExitStatus};

/// A fork: there is none.
pub enum Forked {}

/// Always refused.
pub fn spawn(_work: impl FnOnce() -> i32) -> io::Result<Forked> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Always refused.
pub fn spawn_free(_work: impl FnOnce() -> i32) -> io::Result<Forked> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Never true.
pub fn is_cheap() -> bool {
    false
}

impl Forked {
    /// Never called.
    pub fn pid(&self) -> u32 {
        match *self {}
    }

    /// Never called.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }

    /// Never called.
    pub fn kill(&self, _hard: bool) {
        match *self {}
    }

    /// Never called.
    pub fn wait(self) -> io::Result<ExitStatus> {
        match self {}
    }
}

/// Always fails.
pub fn become_program(_command: &mut Command) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Always fails.
pub fn outlive_parent() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
