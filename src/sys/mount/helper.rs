//! The client's side of `holofs-mount-helper`: one request over a unix seqpacket socket, with descriptors, one answer.
//!
//! The protocol is described where it is parsed, in `mount-helper/src/request.rs`. The helper must be run by root, by the
//! word of the kernel: whoever gives us the descriptor sees every name that is asked for.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};

use super::{MountId, Mountpoint, Options, mount_at};

const MAGIC: &[u8; 4] = b"HFMH";
const VERSION: u16 = 1;
const MOUNT: u16 = 1;
const UNMOUNT: u16 = 2;
/// Magic, version, status, mount id; text follows.
const HEAD: usize = 16;
/// The overflow uid.
const UNKNOWN: u32 = 65534;
/// A helper that hangs is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the helper at `socket` to mount on `point`: the device that the requests come from, and the mount.
pub fn mount(socket: &Path, point: &Mountpoint, options: Options) -> io::Result<(OwnedFd, MountId)> {
    if options.no_exec {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the mount helper knows no noexec"));
    }
    let flags = u32::from(options.read_only) | u32::from(options.allow_other) << 1;
    let (id, device) = ask(socket, MOUNT, flags, 0, point)?;
    let device = device.ok_or_else(|| io::Error::other("the helper sent no descriptor"))?;
    if mount_at(point.path())? != MountId(id) {
        return Err(io::Error::other("the helper mounted somewhere else"));
    }
    Ok((device, MountId(id)))
}

/// Asks the helper at `socket` to take the mount that is visible at `root` away, even if it is in use.
pub fn unmount(socket: &Path, root: &Path) -> io::Result<()> {
    let point = Mountpoint::open(root)?;
    let MountId(id) = super::id_of(point.as_dir())?;
    ask(socket, UNMOUNT, 0, id, &point).map(drop)
}

fn ask(
    path: &Path,
    operation: u16,
    flags: u32,
    id: u64,
    point: &Mountpoint,
) -> io::Result<(u64, Option<OwnedFd>)> {
    let socket = reach(path)?;
    let mut packet = MAGIC.to_vec();
    packet.extend(VERSION.to_le_bytes());
    packet.extend(operation.to_le_bytes());
    packet.extend(flags.to_le_bytes());
    packet.extend(id.to_le_bytes());
    let open = OFlags::RDONLY | OFlags::CLOEXEC;
    // Without /proc, or without this namespace file, we and the helper are in one namespace or it will say no.
    let namespace = rustix::fs::open("/proc/self/ns/mnt", open, Mode::empty()).ok();
    let mut descriptors = vec![point.as_dir().as_fd()];
    descriptors.extend(namespace.as_ref().map(AsFd::as_fd));
    send(&socket, &packet, &descriptors)?;
    let (answer, device) = receive(&socket)?;
    Ok((understand(&answer)?, device))
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
            io::ErrorKind::ConnectionRefused => format!("nobody serves {}", path.display()),
            _ => format!("{} cannot be reached: {error}", path.display()),
        };
        io::Error::new(error.kind(), why)
    })?;
    match peer_uid(&socket)? {
        0 => Ok(socket),
        // So the kernel names who has no number in this user namespace: outside of all, that is user nobody.
        UNKNOWN => {
            let who = "served from outside of this user namespace, which the mount helper does not reach, or by nobody";
            Err(io::Error::other(format!("{} is {who}", path.display())))
        }
        uid => Err(io::Error::other(format!("{} is served by user {uid}, not by root", path.display()))),
    }
}

/// Who serves the socket. Not through rustix, which takes a process in another pid namespace, whose number is 0, for impossible.
fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the kernel writes at most `length` bytes to `found`, which is that long.
    #[allow(unsafe_code)]
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut found).cast(), &raw mut length)
    };
    if outcome == 0 { Ok(found.uid) } else { Err(io::Error::last_os_error()) }
}

/// The mount's id, or what the helper said.
fn understand(answer: &[u8]) -> io::Result<u64> {
    let Some((head, text)) = answer.split_first_chunk::<HEAD>() else {
        return Err(io::Error::other("the helper's answer is too short"));
    };
    let [m0, m1, m2, m3, v0, v1, s0, s1, id @ ..] = *head;
    if &[m0, m1, m2, m3] != MAGIC || u16::from_le_bytes([v0, v1]) != VERSION {
        return Err(io::Error::other("the helper speaks another version"));
    }
    match u16::from_le_bytes([s0, s1]) {
        0 => Ok(u64::from_le_bytes(id)),
        _ => {
            let said: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
            Err(io::Error::new(io::ErrorKind::PermissionDenied, said))
        }
    }
}

fn send(socket: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut packet = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut device = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            device = descriptors.last();
        }
    }
    Ok((packet[..received.bytes.min(packet.len())].to_vec(), device))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    fn answer(status: u16, id: u64, text: &str) -> Vec<u8> {
        let mut packet = MAGIC.to_vec();
        packet.extend(VERSION.to_le_bytes());
        packet.extend(status.to_le_bytes());
        packet.extend(id.to_le_bytes());
        packet.extend(text.as_bytes());
        packet
    }

    #[test]
    fn an_answer_is_an_id_or_a_reason_without_control_characters() {
        assert_eq!(understand(&answer(0, 97, "")).unwrap(), 97);
        let refused = understand(&answer(1, 0, "no\x1b[31m\nrule")).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (io::ErrorKind::PermissionDenied, "no[31mrule".into())
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(understand(b"").is_err());
        assert!(understand(&answer(0, 1, "")[..15]).is_err());
        assert!(understand(&[0; 16]).is_err());
        let mut newer = answer(0, 1, "");
        newer[4] = 2;
        assert_eq!(understand(&newer).unwrap_err().to_string(), "the helper speaks another version");
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = reach(Path::new("/nowhere/mount.sock")).unwrap_err();
        assert_eq!(error.to_string(), "there is none at /nowhere/mount.sock");
    }
}
