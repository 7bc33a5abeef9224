//! Removes a mount, with the caller's own privileges or with those of the mount helper.

use std::path::Path;

use crate::space::MountState;
use crate::sys::mount::{self, MountId};

use super::error::{SessionError, Tried as _};
use super::mounters::Mounters;

/// Unmounts the mount of `state` if it is the visible one at `root`; nothing else.
pub fn unmount_ours(mounters: &Mounters, root: &Path, state: &MountState, lazy: bool) -> std::io::Result<()> {
    match mount::unmount_device(root, state.device, &state.source, lazy) {
        // Nothing is mounted there: another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, lazy, error)
        }
        other => other.map(drop),
    }
}

/// Detaches the mount at `root`.
pub fn detach(mounters: &Mounters, root: &Path) -> Result<(), SessionError> {
    let outcome = match mount::unmount(root, true) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            mounters.unmount_for_us(root, true, error)
        }
        other => other,
    };
    outcome.tried_with(|| format!("Cannot unmount {}", root.display()))
}

/// Like [`detach`], but only the mount `id`; false if it is not the topmost one.
pub fn detach_own(mounters: &Mounters, root: &Path, id: MountId) -> Result<bool, SessionError> {
    match mount::detach(root, id) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            detach(mounters, root).map(|()| true)
        }
        other => other.tried_with(|| format!("Cannot unmount {}", root.display())),
    }
}
