//! The connection of a mounted FUSE file system, as one serving process hands it over to the next.
//!
//! A connection lives as long as any process holds its device, no matter which one reads from it. The new process did not see INIT,
//! and must request again what its predecessor had read and not answered.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use holofs_mount_helper::packet;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// The bit of a request's number that marks a request the kernel has sent before.
pub const RESENT: u64 = 1 << 63;
/// Larger than any INIT request, and the minimum buffer size that the kernel requires from a reader.
const INIT_ROOM: usize = 64 << 10;
/// The notification that requests everything that was read and not answered.
const NOTIFY_RESEND: i32 = 7;
/// The header of a notification: its length, its code, and 0 because it is not a reply.
const HEADER_BYTES: u32 = 16;
/// No message between the processes of one mount is longer.
const MOST: usize = 64 << 10;

/// Reads the first request of a connection, which is INIT.
pub fn read_init(device: impl AsFd) -> io::Result<Vec<u8>> {
    let mut device = File::from(device.as_fd().try_clone_to_owned()?);
    let mut init = vec![0; INIT_ROOM];
    loop {
        match device.read(&mut init) {
            Ok(len) => {
                init.truncate(len);
                return Ok(init);
            }
            // A request was interrupted before it was read, or a signal arrived.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR | libc::EAGAIN)) => {
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends one message, such as a reply.
pub fn send(to: impl AsFd, message: &[u8]) -> io::Result<()> {
    let sent = File::from(to.as_fd().try_clone_to_owned()?).write(message)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Two connected ends that pass whole messages, as the device does.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message of [`pair`], with descriptors.
pub fn send_with(to: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if message.len() > MOST {
        return Err(io::Error::other("the message is too long"));
    }
    packet::send(to, message, descriptors)
}

/// Receives what [`send_with`] sent; `None` once the other end is closed.
pub fn receive(from: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    match packet::receive(from, MOST) {
        Ok(packet) if packet.bytes.is_empty() => Ok(None),
        Ok(packet) => Ok(Some((packet.bytes, packet.descriptors))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file of the descriptor `held` with `device`, for every user of the descriptor.
pub fn become_device(held: impl AsFd, device: impl AsFd) -> io::Result<()> {
    let (from, to) = (device.as_fd().as_raw_fd(), held.as_fd().as_raw_fd());
    // SAFETY: both are open, and `held` stays open under the same number; borrowers refer to the connection, not to the file.
    #[allow(unsafe_code)]
    let replaced = unsafe { libc::dup3(from, to, libc::O_CLOEXEC) };
    if replaced < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the kernel resend what was read and not answered, with [`RESENT`] set in its number. Needs Linux 6.9.
pub fn resend(device: impl AsFd) -> io::Result<()> {
    let mut header = Vec::with_capacity(16);
    header.extend(HEADER_BYTES.to_ne_bytes());
    header.extend(NOTIFY_RESEND.to_ne_bytes());
    header.extend(0_u64.to_ne_bytes());
    send(device, &header)
}
