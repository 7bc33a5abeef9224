//! The server's side: the messages it sends, the requests it gets, and what it takes over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::fs::fuse::progress::Progress;
use crate::sys::process::Process;
use crate::sys::process::daemon as process;

use super::link::Link;
use super::messages::{Asked, ServerMessage, Standing};

/// What the supervisor holds of a mount whose server died.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// The mount.
    pub standing: &'a Standing,
    /// The descriptor for requests.
    pub device: BorrowedFd<'a>,
    /// The kernel's reference counts.
    pub counts: &'a File,
    /// How many servers died.
    pub deaths: u64,
}

/// The server's view of itself.
#[derive(Debug)]
pub struct Server<'a> {
    link: Arc<Link>,
    supervisor: Process,
    held: Option<Held<'a>>,
    /// Another program served until now, and a command waits for the record of the restart.
    is_requested: bool,
}

impl<'a> Server<'a> {
    pub(super) fn new(link: Link, supervisor: Process, held: Option<Held<'a>>) -> Server<'a> {
        Server { link: Arc::new(link), supervisor, held, is_requested: false }
    }

    /// The supervisor, which represents the mount.
    pub fn supervisor(&self) -> Process {
        self.supervisor
    }

    pub(super) fn requested(self, is_requested: bool) -> Server<'a> {
        Server { is_requested, ..self }
    }

    /// True if a command requested that this program serves from now on.
    pub fn is_requested(&self) -> bool {
        self.is_requested
    }

    /// What to take over; `None`: a new mount is to be made.
    pub fn held(&self) -> Option<Held<'a>> {
        self.held
    }

    /// Reports that the space is claimed; `lock` is the lock file.
    pub fn claimed(&self, lock: impl AsFd, log: Option<&File>) -> io::Result<()> {
        let mut passed = vec![lock.as_fd()];
        passed.extend(log.map(AsFd::as_fd));
        self.link.send(&ServerMessage::Claimed, &passed)
    }

    /// Reports that it is mounted.
    pub fn standing(&self, standing: Standing, kept: Option<(BorrowedFd<'_>, &File)>) -> io::Result<()> {
        let passed = kept.map(|(device, counts)| vec![device, counts.as_fd()]).unwrap_or_default();
        self.link.send(&ServerMessage::Standing(Box::new(standing)), &passed)
    }

    /// Reports that it is serving.
    pub fn serving(&self) -> io::Result<()> {
        self.link.send(&ServerMessage::Serving, &[])
    }

    /// Reports that the supervisor may outlive the process that it was forked from.
    pub fn outlives(&self) -> io::Result<()> {
        self.link.send(&ServerMessage::Outlives, &[])
    }

    /// Reports to the supervisor once this server makes progress.
    pub fn progress(&self) -> Arc<Progress> {
        let link = Arc::clone(&self.link);
        Arc::new(Progress::new(move || {
            if let Err(error) = link.send(&ServerMessage::GoesOn, &[]) {
                log::debug!("Cannot write to the supervisor: {error}");
            }
        }))
    }

    /// Calls `handler` for each request of the supervisor. If the supervisor is gone, this process ends.
    pub fn on_asked(&self, mut handler: impl FnMut(Asked) + Send + 'static) -> io::Result<()> {
        let link = Arc::clone(&self.link);
        let listen = move || {
            while let Ok(Some((asked, _))) = link.receive() {
                handler(asked);
            }
            process::end()
        };
        std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
    }
}
