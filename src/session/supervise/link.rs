//! The connection between a supervisor and its server: whole messages, some with descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::mount::connection;
use crate::sys::process::{daemon, mailbox};

/// One end of the connection.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Creates both ends.
    pub fn pair() -> io::Result<(Link, Link)> {
        connection::pair().map(|(one, other)| (Link(one), Link(other)))
    }

    /// The end that this process was started with, as its stdin.
    pub fn of_stdin() -> io::Result<Link> {
        let link = io::stdin().as_fd().try_clone_to_owned()?;
        daemon::leave_stdin()?; // programs that this process starts must not get it
        Ok(Link(link))
    }

    /// Sends a message.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        connection::send_with(&self.0, &serde_json::to_vec(message)?, descriptors)
    }

    /// Waits for a message; `None` once the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((message, descriptors)) = connection::receive(&self.0)? else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&message)?, descriptors)))
    }

    /// True if there is something to receive, or the other end is closed.
    pub fn is_readable(&self) -> bool {
        mailbox::is_readable(&self.0)
    }
}

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.0
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
