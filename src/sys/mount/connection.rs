//! The connection of a mounted FUSE file system, as one process that serves it hands it on to the next.
//!
//! A connection lives as long as somebody holds its device, whoever reads from it. Who takes one over was not there when the kernel
//! said INIT, and what the one before had taken and not answered must be asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// The bit of a request's number that says the kernel has sent it before.
pub const RESENT: u64 = 1 << 63;
/// More than any INIT, and what the kernel wants a reader to have room for at least.
const INIT_ROOM: usize = 64 << 10;
/// The notification that asks for everything that was taken and not answered.
const NOTIFY_RESEND: i32 = 7;
/// The header of a notification: its length, its code, and 0 as it answers nothing.
const HEADER_BYTES: u32 = 16;

/// The first request of a connection, which is INIT.
pub fn read_init(device: impl AsFd) -> io::Result<Vec<u8>> {
    let mut device = File::from(device.as_fd().try_clone_to_owned()?);
    let mut init = vec![0; INIT_ROOM];
    loop {
        match device.read(&mut init) {
            Ok(len) => {
                init.truncate(len);
                return Ok(init);
            }
            // A request was given up before it was read; or a signal came.
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

/// Two ends that pass whole messages, as the device does.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// From here on the descriptor `held` is `device`, for everyone who has it.
pub fn become_device(held: impl AsFd, device: impl AsFd) -> io::Result<()> {
    let (from, to) = (device.as_fd().as_raw_fd(), held.as_fd().as_raw_fd());
    // SAFETY: both are open, and `held` stays so under the same number; whoever borrows it means the connection, not the file.
    #[allow(unsafe_code)]
    let replaced = unsafe { libc::dup3(from, to, libc::O_CLOEXEC) };
    if replaced < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the kernel send again what was taken and not answered, with [`RESENT`] in its number. Linux does since 6.9.
pub fn resend(device: impl AsFd) -> io::Result<()> {
    let mut header = Vec::with_capacity(16);
    header.extend(HEADER_BYTES.to_ne_bytes());
    header.extend(NOTIFY_RESEND.to_ne_bytes());
    header.extend(0_u64.to_ne_bytes());
    send(device, &header)
}
