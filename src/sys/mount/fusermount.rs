//! Mounting through `fusermount3`, the setuid helper of libfuse, for users who may open `/dev/fuse` but not mount.
//!
//! It is searched in fixed places only, and gets fixed options and an environment with nothing but the socket's number: no text of
//! ours is ever part of an option. It checks that the directory to mount on belongs to the user. It skips that check for root, who
//! gains nothing from it, so root never calls it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use holofs_mount_helper::source;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

use super::{Mountpoint, Options};

/// Where distributions install it.
const PLACES: [&str; 4] = [
    "/usr/bin/fusermount3",
    "/bin/fusermount3",
    "/usr/local/bin/fusermount3",
    "/run/wrappers/bin/fusermount3",
];

/// The helper, if it is installed.
pub fn find() -> io::Result<PathBuf> {
    let found = PLACES.iter().map(PathBuf::from).find(|place| place.exists());
    found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "fusermount3 is not installed (package fuse3)")
    })
}

/// Mounts on `point`; returns the device that the requests come from.
pub fn mount(point: &Mountpoint, options: Options) -> io::Result<OwnedFd> {
    if crate::sys::process::is_root() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "adds nothing for root"));
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut list = format!("fsname={},subtype=holofs,nosuid,nodev,default_permissions", source::unique());
    list.push_str(if options.read_only { ",ro" } else { "" });
    list.push_str(if options.no_exec { ",noexec" } else { "" });
    list.push_str(if options.allow_other { ",allow_other" } else { "" });
    let output = Command::new(find()?)
        .env_clear()
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .args(["-o", &list, "--"])
        .arg(point.path())
        .stdin(Stdio::null())
        .output()?;
    drop(theirs);
    check(&output)?;
    receive(&ours)
}

/// Unmounts `root`.
pub fn unmount(root: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { "-uz" } else { "-u" };
    let output =
        Command::new(find()?).env_clear().arg(flags).arg("--").arg(root).stdin(Stdio::null()).output()?;
    match check(&output) {
        Err(error) if error.to_string().contains("busy") => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        other => other,
    }
}

fn check(output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Its messages begin with its name, which our messages contain already.
    let said = said.trim().rsplit_once("fusermount3: ").map_or(said.trim(), |(_, why)| why);
    let why = if said.is_empty() { format!("it ended with {}", output.status) } else { said.to_owned() };
    Err(io::Error::other(why))
}

/// Receives the one descriptor sent over the socket.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let device = descriptors.flatten().next();
    device.ok_or_else(|| io::Error::other("fusermount3 sent no descriptor"))
}
