//! Copies of a mount for processes that cannot reach it through /proc, such as those of another container: offered at a socket in a
//! directory that both can open.
//!
//! One connection is one request. Only processes of the same user, or of root, get a copy; the kernel says who they are. The socket is
//! reached through the descriptor of its directory, so that its path may be long.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use holofs_mount_helper::packet::{self, Peer};
use rustix::fs::Mode;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use super::{MountId, Mountpoint, id_of};
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;
use crate::sys::process::this_process;

/// How many requests may wait.
const WAITING: i32 = 16;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a connection that cannot be accepted, for example without a free descriptor.
const PAUSE: Duration = Duration::from_millis(100);
/// The maximum length of an answer.
const MOST: usize = 1024;

/// The socket at which copies are offered.
#[derive(Debug)]
pub struct Copies(OwnedFd);

impl Copies {
    /// Offers copies at `place`, where an earlier server may have left its socket.
    pub fn offer(place: &Place) -> io::Result<Copies> {
        let socket = new_socket()?;
        // Set before the name exists, so that the name has this mode from the start, whatever the umask.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        place.remove()?;
        place.in_dir(|dir, name| Ok(bind(&socket, &address(dir, name)?)?))?;
        listen(&socket, WAITING)?;
        Ok(Copies(socket))
    }

    /// Answers every request with the result of `copy`, as long as this process lives.
    pub fn serve(&self, copy: impl Fn() -> io::Result<OwnedFd>) -> ! {
        loop {
            let answered = accept_with(&self.0, SocketFlags::CLOEXEC).map_err(io::Error::from);
            let answered = answered.and_then(|peer| answer(&peer, &copy));
            if let Err(error) = answered {
                log::debug!("A request for a copy of the mount was not answered: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Requests a copy at `place`.
pub fn request(place: &Place) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    bound(&socket)?;
    place.open_dir_of(|dir, name| Ok(connect(&socket, &address(dir, name)?)?))?;
    if !is_trusted(Peer::of(&socket)?.uid) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user offers it"));
    }
    let mut answer = packet::receive(&socket, MOST)?;
    let why = || io::Error::other(String::from_utf8_lossy(&answer.bytes).into_owned());
    answer.descriptors.pop().ok_or_else(why)
}

/// A detached copy of the mount `id`, if it is the visible one at the mount point `path`. Sends no request to its file system.
pub fn copy_of_own(path: &std::path::Path, id: MountId) -> io::Result<OwnedFd> {
    let point = Mountpoint::open(path)?;
    if id_of(point.as_dir())? != id {
        return Err(io::Error::other("it is not mounted in the namespace of its server any more"));
    }
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(point.as_dir(), "", flags)?)
}

fn answer(peer: &OwnedFd, copy: impl Fn() -> io::Result<OwnedFd>) -> io::Result<()> {
    bound(peer)?;
    let user = Peer::of(peer)?.uid;
    if !is_trusted(user) {
        return packet::send(peer, format!("its server gives no copy to user {user}").as_bytes(), &[]);
    }
    match copy() {
        Ok(copy) => packet::send(peer, b"copy", &[copy.as_fd()]),
        Err(error) => packet::send(peer, format!("its server cannot copy it: {error}").as_bytes(), &[]),
    }
}

fn is_trusted(user: u32) -> bool {
    user == 0 || user == this_process::effective_uid()
}

fn bound(socket: &OwnedFd) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn address(dir: &OwnedDir, name: &std::ffi::OsStr) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{}", dir.as_fd().as_raw_fd(), name.display());
    Ok(SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn a_request_gets_what_is_offered_or_the_reason() {
        let temp = tempfile::tempdir().unwrap();
        let deep = "x".repeat(120);
        let place = Place::top(temp.path()).below(&deep).below("control");
        request(&place).unwrap_err();
        let copies = Copies::offer(&place).unwrap();
        let mode = std::fs::symlink_metadata(place.path()).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        std::thread::spawn(move || copies.serve(|| Err(io::Error::other("no"))));
        assert_eq!(request(&place).unwrap_err().to_string(), "its server cannot copy it: no");
        // A leftover socket is replaced.
        let copies = Copies::offer(&place).unwrap();
        std::thread::spawn(move || copies.serve(|| Ok(std::fs::File::open("/dev/null")?.into())));
        request(&place).unwrap();
    }
}
