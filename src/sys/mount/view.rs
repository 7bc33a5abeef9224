//! A view of a mount that does not keep it busy: a copy that is mounted nowhere, with the same file system behind it.
//!
//! Who reads through it fills the kernel's caches for everybody, and umount(8) of the mount itself succeeds meanwhile. The file system
//! lives as long as the view does. A user who may not mount gets the copy from a child in a user namespace.

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
    /// A view of what is mounted at `root`. This process must have one thread.
    pub fn of(root: &Path) -> io::Result<View> {
        match copy(root) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => by_child(root),
            copied => copied,
        }
        .map(View)
    }

    /// The path under which this process finds the root of it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy(root: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, root, flags)?)
}

/// The copy is made where this user may, and handed over; the namespace ends with the child.
fn by_child(root: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let hand_over = || -> io::Result<()> {
        namespace::enter()?;
        // In a copy that receives what happens outside, the end of the mount would wait for this one.
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
