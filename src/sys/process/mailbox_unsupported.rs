//! Stubs for signals as messages on platforms where mounts cannot be served.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub use super::mail::Letter;

/// Where signals would arrive.
#[derive(Debug)]
pub enum Mailbox {}

impl Mailbox {
    /// Always refused.
    pub fn open() -> io::Result<Mailbox> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Never called.
    pub fn wait(&self, _from: &[BorrowedFd<'_>], _most: Option<Duration>) -> io::Result<Vec<Letter>> {
        match *self {}
    }
}

/// Nothing to restore.
pub fn close() {}

/// Nothing is known of it.
pub fn is_readable(_fd: impl AsFd) -> bool {
    false
}

/// Nothing is known of it.
pub fn is_whole(_fd: impl AsFd) -> bool {
    true
}
