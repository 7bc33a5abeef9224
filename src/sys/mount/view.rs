//! A view of a mount that does not keep it busy: a detached copy of the mount, of the same file system.
//!
//! Reads through it fill the kernel's caches for everybody, and umount(8) of the mount itself still succeeds. The file system lives as
//! long as the view. A user who may not mount gets the copy from a child in a user namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use holofs_mount_helper::packet;
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::namespace;
use crate::sys::process::fork;

/// A view of a mount.
#[derive(Debug)]
pub struct View(OwnedFd);

impl View {
    /// A view of the mount at `root`. This process must be single-threaded.
    pub fn of(root: &Path) -> io::Result<View> {
        match copy(root) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => by_child(root),
            copied => copied,
        }
        .map(View)
    }

    /// The path of its root in this process.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy(root: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, root, flags)?)
}

/// The child creates the copy in a namespace where this user may, and sends it; the namespace ends with the child.
fn by_child(root: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let hand_over = || -> io::Result<()> {
        namespace::enter()?;
        // If the namespace received mount events from outside, unmounting there would wait for this copy.
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        packet::send(&theirs, b"view", &[copy(root)?.as_fd()])
    };
    let child = fork::spawn(|| i32::from(hand_over().is_err()))?;
    drop(theirs);
    let packet = packet::receive(&ours, 16);
    child.wait()?;
    let view = packet?.descriptors.pop();
    view.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "no namespace gives a copy of it"))
}
