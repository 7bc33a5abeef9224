//! One mount, served by `fuser`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::adapter::Adapter;
use super::passthrough::Opens;
use super::{Io, Watch};
use crate::fs::vfs::Vfs;
use crate::store::observe::Observer;

/// One mounted file system, ready to be served.
pub struct Session {
    session: fuser::Session<Adapter>,
    opens: Arc<Opens>,
}

impl Session {
    /// Answers the INIT that waits on `device`, a `/dev/fuse` descriptor that is mounted already. The kernel shall read files
    /// that lie below the directories `passed` by itself; if it does not, which is told, or without any, it is no-open.
    pub fn start(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        watch: Watch,
        passed: &[PathBuf],
    ) -> io::Result<Session> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.max(1));
        // A thread of its own wants a descriptor of its own; whom a helper gave the device may not open it again.
        config.clone_fd = crate::sys::mount::open_device().is_ok();
        // Who may ask is decided by the kernel (allow_other, default_permissions), not by a second check here.
        let acl = fuser::SessionACL::All;
        let opens = Arc::new(Opens::new(passed, Arc::clone(&watch.tally) as Arc<dyn Observer>));
        let adapter = Adapter::new(vfs, watch, Arc::clone(&opens));
        let twin = device.try_clone()?;
        let session = fuser::Session::from_fd(adapter, device, acl, config)?;
        opens.probe(twin);
        Ok(Session { session, opens })
    }

    /// How files are read.
    pub fn io(&self) -> Io {
        self.opens.io()
    }

    /// Serves until the file system is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}
