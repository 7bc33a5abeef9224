//! What stands in for signals as messages where mounts cannot be served: there are none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// SIGTERM or SIGINT: end.
    Terminate,
    /// SIGUSR1: leave the mount alone.
    Quiet,
    /// SIGUSR2: go on with the program that is installed now.
    Renew,
    /// SIGCHLD: a process that was started here has ended.
    Ended,
}

/// What came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The signals.
    pub letters: Vec<Letter>,
    /// There is something to receive, or the other end is closed.
    pub readable: bool,
}

/// Where signals would arrive.
#[derive(Debug)]
pub enum Mailbox {}

impl Mailbox {
    /// Is refused.
    pub fn open() -> io::Result<Mailbox> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Never called.
    pub fn wait(&self, _from: Option<BorrowedFd<'_>>, _most: Option<Duration>) -> io::Result<Mail> {
        match *self {}
    }
}

/// There is nothing to undo.
pub fn close() {}

/// Nothing is known of it.
pub fn is_readable(_fd: impl AsFd) -> bool {
    false
}

/// Nothing is known of it.
pub fn is_whole(_fd: impl AsFd) -> bool {
    true
}
