//! Takes a mount away, by the caller's own privileges or by those of the mount helper.

use std::path::Path;

use anyhow::Context as _;

use crate::sys::mount::{self, MountId};

use super::mounters::Mounters;

/// Unmounts the mount of `device` if it is the visible one at `root`; nothing else.
pub fn unmount_ours(mounters: &Mounters, root: &Path, device: u64, lazy: bool) -> std::io::Result<()> {
    match mount::unmount_device(root, device, lazy) {
        // Nothing is mounted there: another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, lazy, error)
        }
        other => other.map(drop),
    }
}

/// Detaches the mount at `root`.
pub fn detach(mounters: &Mounters, root: &Path) -> anyhow::Result<()> {
    let outcome = match mount::unmount(root, true) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, true, error)
        }
        other => other,
    };
    outcome.with_context(|| format!("Cannot unmount {}", root.display()))
}

/// Like [`detach`], but only the mount `id`; false if it is not the topmost one.
pub fn detach_own(mounters: &Mounters, root: &Path, id: MountId) -> anyhow::Result<bool> {
    match mount::detach(root, id) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            detach(mounters, root).map(|()| true)
        }
        other => other.with_context(|| format!("Cannot unmount {}", root.display())),
    }
}
