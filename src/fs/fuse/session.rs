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
use crate::sys::mount::connection;

/// What was said at the beginning of a connection, for whoever serves it later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Handshake {
    /// The kernel's INIT.
    init: Vec<u8>,
    /// What it was answered.
    reply: Vec<u8>,
}

/// One mounted file system, ready to be served.
pub struct Session {
    session: fuser::Session<Adapter>,
    opens: Arc<Opens>,
    handshake: Handshake,
}

/// The longest reply to INIT.
const REPLY_ROOM: usize = 4096;

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
        let init = connection::read_init(&device)?;
        // A thread of its own wants a descriptor of its own; whom a helper gave the device may not open it again.
        let clone_fd = crate::sys::mount::open_device().is_ok();
        let session = Session::agree(vfs, &device, (threads, clone_fd), watch, passed, init)?;
        connection::send(&device, &session.handshake.reply)?;
        session.opens.probe(&device);
        Ok(session)
    }

    /// Goes on serving `device` in place of a process that died. What that had taken and not answered, comes again. Every descriptor
    /// that requests were taken from has to be alive, so a connection that is to be taken over is served without clones, see
    /// [`Session::start_for_takeover`].
    pub fn take_over(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        watch: Watch,
        handshake: Handshake,
    ) -> io::Result<Session> {
        let session = Session::agree(vfs, &device, (threads, false), watch, &[], handshake.init)?;
        if session.handshake.reply != handshake.reply {
            return Err(io::Error::other(
                "this program would serve the mount on other terms than were agreed with the kernel",
            ));
        }
        connection::resend(&device)?;
        Ok(session)
    }

    /// Like [`Session::start`], so that another process can take it over: without passthrough, whose open files die with who opened
    /// them.
    pub fn start_for_takeover(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        watch: Watch,
    ) -> io::Result<Session> {
        let init = connection::read_init(&device)?;
        let session = Session::agree(vfs, &device, (threads, false), watch, &[], init)?;
        connection::send(&device, &session.handshake.reply)?;
        Ok(session)
    }

    /// Has `fuser` answer `init`, not to the kernel yet, and serve `device` from there on.
    fn agree(
        vfs: Arc<Vfs>,
        device: &OwnedFd,
        (threads, clone_fd): (usize, bool),
        watch: Watch,
        passed: &[PathBuf],
        init: Vec<u8>,
    ) -> io::Result<Session> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.max(1));
        config.clone_fd = clone_fd;
        // Who may ask is decided by the kernel (allow_other, default_permissions), not by a second check here.
        let acl = fuser::SessionACL::All;
        let opens = Arc::new(Opens::new(passed, Arc::clone(&watch.tally) as Arc<dyn Observer>));
        let adapter = Adapter::new(vfs, watch, Arc::clone(&opens));
        let (ours, theirs) = connection::pair()?;
        connection::send(&ours, &init)?;
        let session = fuser::Session::from_fd(adapter, theirs, acl, config)?;
        let mut reply = vec![0; REPLY_ROOM];
        let len = io::Read::read(&mut std::fs::File::from(ours), &mut reply)?;
        reply.truncate(len);
        connection::become_device(&session, device)?;
        Ok(Session { session, opens, handshake: Handshake { init, reply } })
    }

    /// What another process needs to know to take it over.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
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
