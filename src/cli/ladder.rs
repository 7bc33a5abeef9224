//! The ladder: mounting by the highest rung that holds.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::sys::mount::fusermount;
use crate::sys::mount::helper;
use crate::sys::mount::{MountId, Mountpoint, Options, mount_fuse};

use super::rung::{Refusal, Rung};

/// What was mounted.
pub struct Climbed {
    /// Where requests come from.
    pub device: OwnedFd,
    /// Which mount it is.
    pub id: MountId,
    /// The rung that held.
    pub rung: Rung,
    /// Why the better ones did not.
    pub reasons: Vec<Refusal>,
}

/// Where the mount helper listens.
pub fn helper_socket() -> PathBuf {
    let given: Option<OsString> = std::env::var_os("HOLOFS_MOUNT_HELPER").filter(|given| !given.is_empty());
    given.map_or_else(|| PathBuf::from("/run/holofs/mount.sock"), PathBuf::from)
}

/// Tries one rung that mounts on `point`.
pub fn step(rung: Rung, point: &Mountpoint, options: Options) -> std::io::Result<(OwnedFd, MountId)> {
    match rung {
        Rung::Direct => mount_fuse(point, options),
        Rung::Helper => helper::mount(&helper_socket(), point, options),
        Rung::Fusermount => {
            fusermount::mount(point, options).and_then(|device| Ok((device, point.mounted()?)))
        }
        Rung::Namespace | Rung::Materialize => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

/// Mounts on `point` by the highest rung that holds, or tells why none does.
pub fn climb(point: &Mountpoint, options: Options) -> Result<Climbed, Vec<Refusal>> {
    let mut reasons = Vec::new();
    for rung in [Rung::Direct, Rung::Helper, Rung::Fusermount] {
        match step(rung, point, options) {
            Ok((device, id)) => return Ok(Climbed { device, id, rung, reasons }),
            Err(error) => {
                log::debug!("{} refuses {}: {error}", rung.name(), point.path().display());
                reasons.push(Refusal::new(rung, error));
            }
        }
    }
    Err(reasons)
}

/// Takes what is mounted at `root` away by whoever mounted it for us; `direct` is why we cannot do it ourselves.
pub fn unmount_for_us(root: &Path, lazy: bool, direct: std::io::Error) -> std::io::Result<()> {
    let busy = |error: &std::io::Error| error.raw_os_error() == Some(crate::sys::errno::Errno::BUSY.0);
    match fusermount::unmount(root, lazy) {
        Ok(()) => return Ok(()),
        Err(error) if busy(&error) => return Err(error),
        Err(error) => log::debug!("fusermount3 does not unmount {}: {error}", root.display()),
    }
    if !lazy && !crate::sys::process::daemon::users_of(root).is_empty() {
        return Err(std::io::Error::from_raw_os_error(crate::sys::errno::Errno::BUSY.0));
    }
    helper::unmount(&helper_socket(), root).map_err(|error| {
        log::debug!("The mount helper does not unmount {}: {error}", root.display());
        direct
    })
}
