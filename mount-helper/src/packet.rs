//! One packet over a unix seqpacket socket, with descriptors, and the peer's identity as reported by the kernel.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::protocol::MOST_DESCRIPTORS;

/// A packet and its descriptors.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes; a longer packet is truncated to the requested length.
    pub bytes: Vec<u8>,
    /// The descriptors received with it.
    pub descriptors: Vec<OwnedFd>,
    /// It had more descriptors than are ever accepted.
    pub too_many: bool,
}

/// The process at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user, in our user namespace.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process; 0 if it is in another pid namespace.
    pub pid: i32,
}

impl Peer {
    /// The process that connected to, or listens at, `socket`. Not through rustix, which rejects the pid 0 of a process in another pid
    /// namespace.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let size = size_of::<libc::ucred>();
        let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: the kernel writes at most `length` bytes to `found`, which is that long.
        #[allow(unsafe_code)]
        let outcome =
            unsafe { libc::getsockopt(socket, level, option, (&raw mut found).cast(), &raw mut length) };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
        let whole = usize::try_from(length).is_ok_and(|length| length == size) && found.uid != u32::MAX;
        let peer = Peer { uid: found.uid, gid: found.gid, pid: found.pid };
        whole.then_some(peer).ok_or_else(|| io::Error::other("the kernel does not identify the peer"))
    }
}

/// Receives one packet of at most `most` bytes.
pub fn receive(socket: impl AsFd, most: usize) -> io::Result<Packet> {
    let mut bytes = vec![0; most];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Packet { bytes, descriptors, too_many: received.flags.contains(ReturnFlags::CTRUNC) })
}

/// Sends one packet.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
