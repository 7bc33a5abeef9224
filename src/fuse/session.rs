//! One mount, served by `fuser`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Watch;
use super::adapter::Adapter;
use crate::vfs::Vfs;

/// One mounted file system, ready to be served.
pub struct Session {
    session: fuser::Session<Adapter>,
}

impl Session {
    /// Answers the INIT that waits on `device`, a `/dev/fuse` descriptor that is mounted already.
    pub fn start(vfs: Arc<Vfs>, device: OwnedFd, threads: usize, watch: Watch) -> io::Result<Session> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.max(1));
        // A thread of its own wants a descriptor of its own; whom a helper gave the device may not open it again.
        config.clone_fd = crate::sys::mount::open_device().is_ok();
        // Who may ask is decided by the kernel (allow_other, default_permissions), not by a second check here.
        let acl = fuser::SessionACL::All;
        let adapter = Adapter::new(vfs, watch);
        let session = fuser::Session::from_fd(adapter, device, acl, config)?;
        Ok(Session { session })
    }

    /// Serves until the file system is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}
