//! FUSE: the only place that names the `fuser` crate.
//!
//! [`Adapter`](adapter::Adapter) decodes a request, calls the [`Vfs`] once and replies; nothing is decided here except
//! what the protocol needs. A [`Session`] is one mount: it exists once the kernel's INIT was answered, and `run` serves it
//! until it is unmounted.
//!
//! The data path is *no-open*: the first OPEN and OPENDIR are answered ENOSYS, after which the kernel never asks again, reads
//! through its page cache and names a file by its inode only. Entries, attributes and misses are static, so all timeouts
//! are infinite and whatever we change ourselves is invalidated exactly.

mod adapter;
mod convert;
pub mod requests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::vfs::Vfs;

use adapter::Adapter;
use requests::Requests;

/// One mounted file system, ready to be served.
pub struct Session {
    session: fuser::Session<Adapter>,
    requests: Arc<Requests>,
}

impl Session {
    /// Answers the INIT that waits on `device`, a `/dev/fuse` descriptor that is mounted already.
    pub fn start(vfs: Arc<Vfs>, device: OwnedFd, threads: usize) -> io::Result<Session> {
        let requests = Arc::new(Requests::default());
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.max(1));
        // A thread of its own wants a descriptor of its own; whom a helper gave the device may not open it again.
        config.clone_fd = crate::sys::mount::open_device().is_ok();
        // Who may ask is decided by the kernel (allow_other, default_permissions), not by a second check here.
        let acl = fuser::SessionACL::All;
        let adapter = Adapter::new(vfs, Arc::clone(&requests));
        let session = fuser::Session::from_fd(adapter, device, acl, config)?;
        Ok(Session { session, requests })
    }

    /// How many requests of each kind were answered so far.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Serves until the file system is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}
