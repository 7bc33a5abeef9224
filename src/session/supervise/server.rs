//! The side of the server: what it tells, what it is asked for, and what it takes over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::fs::fuse::progress::Progress;
use crate::sys::process::Process;
use crate::sys::process::daemon as process;

use super::link::Link;
use super::{Asked, Standing, Told};

/// What the supervisor holds of a mount whose server died.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// The mount.
    pub standing: &'a Standing,
    /// Where requests come from.
    pub device: BorrowedFd<'a>,
    /// What the kernel refers to.
    pub counts: &'a File,
    /// How many servers died.
    pub deaths: u64,
}

/// A server, to itself.
#[derive(Debug)]
pub struct Server<'a> {
    link: Arc<Link>,
    supervisor: Process,
    held: Option<Held<'a>>,
}

impl<'a> Server<'a> {
    pub(super) fn new(link: Link, supervisor: Process, held: Option<Held<'a>>) -> Server<'a> {
        Server { link: Arc::new(link), supervisor, held }
    }

    /// The process that is the mount, to others.
    pub fn supervisor(&self) -> Process {
        self.supervisor
    }

    /// What is to be taken over; `None`: it is to be mounted.
    pub fn held(&self) -> Option<Held<'a>> {
        self.held
    }

    /// The space is claimed by who has `lock` open.
    pub fn claimed(&self, lock: impl AsFd, log: Option<&File>) -> io::Result<()> {
        let mut passed = vec![lock.as_fd()];
        passed.extend(log.map(AsFd::as_fd));
        self.link.send(&Told::Claimed, &passed)
    }

    /// It is mounted.
    pub fn standing(&self, standing: Standing, kept: Option<(BorrowedFd<'_>, &File)>) -> io::Result<()> {
        let passed = kept.map(|(device, counts)| vec![device, counts.as_fd()]).unwrap_or_default();
        self.link.send(&Told::Standing(Box::new(standing)), &passed)
    }

    /// It serves.
    pub fn serving(&self) -> io::Result<()> {
        self.link.send(&Told::Serving, &[])
    }

    /// It may live longer than the process whose copy the supervisor is.
    pub fn outlives(&self) -> io::Result<()> {
        self.link.send(&Told::Outlives, &[])
    }

    /// Tells the supervisor as soon as this server gets on.
    pub fn progress(&self) -> Arc<Progress> {
        let link = Arc::clone(&self.link);
        Arc::new(Progress::new(move || {
            if let Err(error) = link.send(&Told::GoesOn, &[]) {
                log::debug!("The supervisor hears nothing: {error}");
            }
        }))
    }

    /// Calls `handler` for what the supervisor asks for. If it is gone, this process ends.
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
