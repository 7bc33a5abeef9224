//! The socket: accepts peers, lets them wait, and serves them.
//!
//! A user whom no rule allows is refused at once. An accepted peer waits without a thread until its request arrives; if too many are
//! waiting, the one that has waited longest is disconnected. Each request runs on its own thread, and the number of threads is limited.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use holofs_mount_helper::packet::{self, Peer};
use holofs_mount_helper::protocol;

use crate::accounts::{Accounts, MOST_PER_USER, Place, Work};
use crate::log::{self, Log};
use crate::{policy, serve};

/// The timeout for a peer to send its request, and to receive the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The maximum number of waiting peers.
const MOST_WAITING: usize = 256;

/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;

/// The socket that systemd passed, or a new one at `path`. All users may connect; the policy decides who is served.
pub fn listener(path: &Path) -> Result<OwnedFd, String> {
    let own = std::process::id().to_string();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("LISTEN_PID", &own) && is("LISTEN_FDS", "1") {
        // SAFETY: by systemd's protocol this descriptor is open, and nothing else owns it.
        #[allow(unsafe_code)]
        return Ok(unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) });
    }
    let failed = |error: &dyn std::fmt::Display| format!("Cannot listen at {}: {error}", path.display());
    let address = SocketAddrUnix::new(path).map_err(|error| failed(&error))?;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let listener = socket().map_err(|error| failed(&error))?;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        // A socket without a listener was left by a helper that exited.
        match connect(socket().map_err(|error| failed(&error))?, &address) {
            Err(rustix::io::Errno::CONNREFUSED) => {
                std::fs::remove_file(path).map_err(|error| failed(&error))?
            }
            _ => return Err(failed(&"another process listens there already")),
        }
    }
    bind(&listener, &address).map_err(|error| failed(&error))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).map_err(|error| failed(&error))?;
    listen(&listener, 64).map_err(|error| failed(&error))?;
    Ok(listener)
}

/// An accepted peer whose request has not arrived yet.
struct Waiting {
    peer: OwnedFd,
    who: Peer,
    place: Place,
    until: Instant,
}

/// The state shared by all requests.
pub struct Door {
    policy: PathBuf,
    accounts: Arc<Accounts>,
    log: Arc<Log>,
}

impl Door {
    /// The policy is read again for each peer.
    pub fn new(policy: &Path) -> Result<Door, String> {
        Ok(Door { policy: policy.to_owned(), accounts: Accounts::new()?, log: Arc::default() })
    }

    /// Serves until the socket breaks.
    pub fn serve(&self, listener: &OwnedFd) -> Result<(), String> {
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let place = self.accounts.work();
            let (comes, ready) = look(listener, &waiting, place.is_some(), self.log.summarize())?;
            waiting = self.sort_out(waiting, &ready, place);
            if comes && let Some(newcomer) = self.accept(listener)? {
                if waiting.len() >= MOST_WAITING {
                    let idle = waiting.remove(0);
                    self.refuse(&idle.peer, &idle.who, "too many requests are waiting");
                }
                waiting.push(newcomer);
            }
        }
    }

    /// Serves the first ready peer if there is a slot; disconnects peers that waited too long.
    fn sort_out(&self, waiting: Vec<Waiting>, ready: &[bool], mut place: Option<Work>) -> Vec<Waiting> {
        let (now, mut stay) = (Instant::now(), Vec::new());
        for (one, &ready) in waiting.into_iter().zip(ready) {
            match (ready, ready.then(|| place.take()).flatten()) {
                (true, Some(work)) => self.start(one, work),
                (false, _) if one.until <= now => {
                    self.refuse(&one.peer, &one.who, "no request arrived in time")
                }
                _ => stay.push(one),
            }
        }
        stay
    }

    /// Accepts or refuses a peer.
    fn accept(&self, listener: &OwnedFd) -> Result<Option<Waiting>, String> {
        let peer = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(peer) => peer,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => return Ok(None),
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM) => {
                std::thread::sleep(Duration::from_millis(100));
                return Ok(None);
            }
            Err(error) => return Err(format!("Cannot accept: {error}")),
        };
        let Ok(who) = Peer::of(&peer) else { return Ok(None) };
        let patient = [Timeout::Recv, Timeout::Send]
            .into_iter()
            .try_for_each(|direction| set_socket_timeout(&peer, direction, Some(PATIENCE)));
        let place = patient
            .map_err(|error| format!("no timeout on the socket: {error}"))
            .and_then(|()| policy::read(&self.policy))
            .and_then(|policy| match policy.names(who.uid) {
                true => Ok(()),
                false => Err("no rule of the policy names you".to_owned()),
            })
            .and_then(|()| {
                self.accounts
                    .place(who.uid)
                    .ok_or_else(|| format!("more than {MOST_PER_USER} requests at once"))
            });
        match place {
            Ok(place) => Ok(Some(Waiting { peer, who, place, until: Instant::now() + PATIENCE })),
            Err(why) => {
                self.refuse(&peer, &who, &why);
                Ok(None)
            }
        }
    }

    /// Ends a connection with a reason. If that cannot be sent, the peer has closed the connection or does not read it.
    fn refuse(&self, peer: &OwnedFd, who: &Peer, why: &str) {
        self.log.refused(who, why);
        packet::send(peer, &protocol::answer(Err(why)), &[]).ok();
    }

    fn start(&self, one: Waiting, work: Work) {
        let (policy, accounts, log) =
            (self.policy.clone(), Arc::clone(&self.accounts), Arc::clone(&self.log));
        let serve = move || {
            serve::serve(&one.peer, &one.who, &policy, &accounts, &log);
            drop((one.place, work));
        };
        if let Err(error) = std::thread::Builder::new().stack_size(256 << 10).spawn(serve) {
            log::line(&format!("Cannot start a thread: {error}"));
        }
    }
}

/// Waits until a peer connects, or a waiting one is ready or has timed out; returns whether one connects, and which are ready. While
/// all slots are in use no peer is polled.
fn look(
    listener: &OwnedFd,
    waiting: &[Waiting],
    work: bool,
    summary: bool,
) -> Result<(bool, Vec<bool>), String> {
    let now = Instant::now();
    let longest = match (work, waiting.first(), summary) {
        (false, _, _) => Some(Duration::from_millis(10)),
        (true, Some(first), _) => Some(first.until.saturating_duration_since(now)),
        (true, None, true) => Some(Duration::from_secs(1)),
        (true, None, false) => None,
    };
    let longest = longest.map(|longest| Timespec::try_from(longest + Duration::from_millis(1))).transpose();
    let longest = longest.map_err(|error| format!("Cannot wait: {error}"))?;
    let mut looked = vec![PollFd::new(listener, PollFlags::IN)];
    if work {
        looked.extend(waiting.iter().map(|one| PollFd::from_borrowed_fd(one.peer.as_fd(), PollFlags::IN)));
    }
    match poll(&mut looked, longest.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(format!("Cannot wait: {error}")),
    }
    let mut ready = looked.iter().map(|one| !one.revents().is_empty());
    let comes = ready.next().unwrap_or(false);
    Ok((comes, ready.chain(std::iter::repeat(false)).take(waiting.len()).collect()))
}
