//! One mount, served by `fuser`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::adapter::Adapter;
use super::adapter::terms::Terms;
use super::passthrough::Opens;
use super::{Io, Telemetry};
use crate::fs::vfs::Vfs;
use crate::store::observe::Observer;
use crate::sys::mount::connection;

/// The INIT exchange of a connection, for a later server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Handshake {
    /// The kernel's INIT.
    init: Vec<u8>,
    /// The answer to it.
    reply: Vec<u8>,
}

impl Handshake {
    /// Fails if its reply differs from the one agreed with the kernel.
    fn check(&self, agreed: &Handshake) -> io::Result<()> {
        let same = self.reply == agreed.reply;
        let other = "this program would serve the mount on other terms than were agreed with the kernel";
        if same { Ok(()) } else { Err(io::Error::other(other)) }
    }
}

/// Makes `fuser` process `init`; its answer is not sent to the kernel.
fn negotiated<F: fuser::Filesystem>(
    filesystem: F,
    acl: fuser::SessionACL,
    config: fuser::Config,
    init: Vec<u8>,
) -> io::Result<(fuser::Session<F>, Handshake)> {
    let (ours, theirs) = connection::pair()?;
    connection::send(&ours, &init)?;
    let session = fuser::Session::from_fd(filesystem, theirs, acl, config)?;
    let mut reply = vec![0; REPLY_ROOM];
    let len = io::Read::read(&mut std::fs::File::from(ours), &mut reply)?;
    reply.truncate(len);
    Ok((session, Handshake { init, reply }))
}

/// A mounted file system, ready to be served.
pub struct Session {
    session: fuser::Session<Adapter>,
    opens: Arc<Opens>,
    handshake: Handshake,
}

/// The maximum length of a reply to INIT.
const REPLY_ROOM: usize = 4096;

impl Session {
    /// Answers the pending INIT on `device`, a `/dev/fuse` descriptor that is already mounted. The kernel itself reads the files
    /// below the directories `passed`. If `passed` is empty, or passthrough fails (which is reported), the mount is no-open.
    pub fn start(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        telemetry: Telemetry,
        passed: &[PathBuf],
    ) -> io::Result<Session> {
        let init = connection::read_init(&device)?;
        // Each thread needs its own descriptor; a process that got the device from a helper may not be allowed to open it again.
        let clone_fd = crate::sys::mount::open_device().is_ok();
        let session = Session::agree(vfs, &device, (threads, clone_fd), telemetry, passed, init)?;
        connection::send(&device, &session.handshake.reply)?;
        session.opens.probe(&device);
        Ok(session)
    }

    /// Continues to serve `device` in place of a dead process. Its unanswered requests are resent. Every descriptor that requests
    /// were read from must still be open, so a connection that is to be taken over is served without clones, see
    /// [`Session::start_for_takeover`].
    pub fn take_over(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        telemetry: Telemetry,
        handshake: Handshake,
    ) -> io::Result<Session> {
        let session = Session::agree(vfs, &device, (threads, false), telemetry, &[], handshake.init.clone())?;
        session.handshake.check(&handshake)?;
        connection::resend(&device)?;
        Ok(session)
    }

    /// Like [`Session::start`], but another process can take it over: without passthrough, whose open files are lost when their
    /// process dies.
    pub fn start_for_takeover(
        vfs: Arc<Vfs>,
        device: OwnedFd,
        threads: usize,
        telemetry: Telemetry,
    ) -> io::Result<Session> {
        let init = connection::read_init(&device)?;
        let session = Session::agree(vfs, &device, (threads, false), telemetry, &[], init)?;
        connection::send(&device, &session.handshake.reply)?;
        Ok(session)
    }

    /// Makes `fuser` process `init`, without answering the kernel yet, and serve `device` from then on.
    fn agree(
        vfs: Arc<Vfs>,
        device: &OwnedFd,
        (threads, clone_fd): (usize, bool),
        telemetry: Telemetry,
        passed: &[PathBuf],
        init: Vec<u8>,
    ) -> io::Result<Session> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.max(1));
        config.clone_fd = clone_fd;
        // The kernel decides who has access (allow_other, default_permissions); there is no second check here.
        let acl = fuser::SessionACL::All;
        let opens = Arc::new(Opens::new(passed, Arc::clone(&telemetry.tally) as Arc<dyn Observer>));
        let adapter = Adapter::new(vfs, telemetry, Arc::clone(&opens));
        let (session, handshake) = negotiated(adapter, acl, config, init)?;
        connection::become_device(&session, device)?;
        Ok(Session { session, opens, handshake })
    }

    /// Checks that this program would serve a mount on the terms of `handshake`.
    pub fn check_terms(handshake: &Handshake) -> io::Result<()> {
        let (acl, config) = (fuser::SessionACL::All, fuser::Config::default());
        let (_session, ours) = negotiated(Terms, acl, config, handshake.init.clone())?;
        ours.check(handshake)
    }

    /// What another process needs to take the connection over.
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
