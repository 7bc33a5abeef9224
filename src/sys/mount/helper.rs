//! The client of `holofs-mount-helper`: one request with descriptors over a unix seqpacket socket, and one answer.
//!
//! The protocol is the helper's own, `holofs_mount_helper::protocol`. The kernel must confirm that the helper runs as root: the
//! process that gives us the descriptor can see every file name requested.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use holofs_mount_helper::packet::{self, Peer};
use holofs_mount_helper::protocol::{self, NoAnswer, Request};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{MountId, Mountpoint, Options, mount_at};

/// The overflow uid.
const UNKNOWN: u32 = 65534;
/// Timeout: a helper that hangs counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the helper at `socket` to mount on `point`; returns the device that the requests come from, and the mount.
pub fn mount(socket: &Path, point: &Mountpoint, options: Options) -> io::Result<(OwnedFd, MountId)> {
    if options.no_exec {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the mount helper does not support noexec"));
    }
    let Options { read_only, allow_other, .. } = options;
    let (id, device) = ask(socket, Request::Mount { read_only, allow_other }, point)?;
    let device = device.ok_or_else(|| io::Error::other("the helper sent no descriptor"))?;
    if mount_at(point.path())? != MountId(id) {
        return Err(io::Error::other("the helper mounted somewhere else"));
    }
    Ok((device, MountId(id)))
}

/// Asks the helper at `socket` to detach the mount that is visible at `root`, even if it is in use.
pub fn unmount(socket: &Path, root: &Path) -> io::Result<()> {
    let point = Mountpoint::open(root)?;
    let MountId(mount_id) = super::id_of(point.as_dir())?;
    ask(socket, Request::Unmount { mount_id }, &point).map(drop)
}

fn ask(path: &Path, request: Request, point: &Mountpoint) -> io::Result<(u64, Option<OwnedFd>)> {
    let socket = reach(path)?;
    let open = OFlags::RDONLY | OFlags::CLOEXEC;
    // Without /proc or this namespace file, either the helper is in the same namespace or it will refuse.
    let namespace = rustix::fs::open("/proc/self/ns/mnt", open, Mode::empty()).ok();
    let mut descriptors = vec![point.as_dir().as_fd()];
    descriptors.extend(namespace.as_ref().map(AsFd::as_fd));
    match packet::send(&socket, &request.packet(), &descriptors) {
        // A user that no rule allows is refused before the request is read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    let mut answer = match packet::receive(&socket, protocol::MOST_ANSWER) {
        // The helper discarded what was sent, which is reported once; the answer follows.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            packet::receive(&socket, protocol::MOST_ANSWER)?
        }
        other => other?,
    };
    Ok((understand(&answer.bytes)?, answer.descriptors.pop()))
}

fn reach(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &address).map_err(|errno| {
        let error = io::Error::from(errno);
        let why = match error.kind() {
            io::ErrorKind::NotFound => format!("there is none at {}", path.display()),
            io::ErrorKind::ConnectionRefused => format!("no process serves {}", path.display()),
            _ => format!("{} cannot be reached: {error}", path.display()),
        };
        io::Error::new(error.kind(), why)
    })?;
    match Peer::of(&socket)?.uid {
        0 => Ok(socket),
        // The kernel reports a uid that is not mapped in this user namespace as the overflow uid; outside of all user namespaces, that
        // is user nobody.
        UNKNOWN => {
            let what =
                "has no server, or one outside of this user namespace, which the mount helper does not serve";
            Err(io::Error::other(format!("{} {what}", path.display())))
        }
        uid => Err(io::Error::other(format!("{} is served by user {uid}, not by root", path.display()))),
    }
}

/// The mount's id, or the helper's error.
fn understand(answer: &[u8]) -> io::Result<u64> {
    protocol::parse_answer(answer).map_err(|why| match why {
        NoAnswer::Refused(said) => {
            let said: String = said.chars().filter(|c| !c.is_control()).collect();
            io::Error::new(io::ErrorKind::PermissionDenied, said)
        }
        other => io::Error::other(other),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn an_answer_is_an_id_or_a_reason_without_control_characters() {
        assert_eq!(understand(&protocol::answer(Ok(97))).unwrap(), 97);
        let refused = understand(&protocol::answer(Err("no\x1b[31m\nrule"))).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (io::ErrorKind::PermissionDenied, "no[31mrule".into())
        );
        assert_eq!(
            understand(&[0; 16]).unwrap_err().to_string(),
            "the helper uses another version of the protocol"
        );
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = reach(Path::new("/nowhere/mount.sock")).unwrap_err();
        assert_eq!(error.to_string(), "there is none at /nowhere/mount.sock");
    }
}
