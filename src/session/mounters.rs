//! The fallback chain: mounts with the best mounter that works.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::sys::mount::fusermount;
use crate::sys::mount::helper;
use crate::sys::mount::{MountId, Mountpoint, Options, mount_fuse};

use super::method::{Method, Mounter, Refusal};

/// What was mounted.
pub struct Attached {
    /// The descriptor for requests.
    pub device: OwnedFd,
    /// The id of the mount.
    pub id: MountId,
    /// The mounter that was used.
    pub mounter: Mounter,
    /// Why better mounters were not used.
    pub reasons: Vec<Refusal>,
}

/// The mounters, and the socket of the mount helper.
#[derive(Debug, Clone)]
pub struct Mounters {
    /// The socket of the mount helper.
    pub helper_socket: PathBuf,
}

impl Mounters {
    /// Mounts on `point` with `mounter`.
    pub fn mount_by(
        &self,
        mounter: Mounter,
        point: &Mountpoint,
        options: Options,
    ) -> std::io::Result<(OwnedFd, MountId)> {
        match mounter {
            Mounter::Direct => mount_fuse(point, options),
            Mounter::Helper => helper::mount(&self.helper_socket, point, options),
            Mounter::Fusermount => {
                fusermount::mount(point, options).and_then(|device| Ok((device, point.mounted()?)))
            }
            Mounter::Namespace => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Mounts on `point` with the best mounter that works, or returns why none does.
    pub fn mount(&self, point: &Mountpoint, options: Options) -> Result<Attached, Vec<Refusal>> {
        let mut reasons = Vec::new();
        for mounter in [Mounter::Direct, Mounter::Helper, Mounter::Fusermount] {
            let method = Method::Fuse(mounter);
            match self.mount_by(mounter, point, options) {
                Ok((device, id)) => return Ok(Attached { device, id, mounter, reasons }),
                Err(error) => {
                    log::debug!("{} refuses {}: {error}", method.name(), point.path().display());
                    reasons.push(Refusal::new(method, error));
                }
            }
        }
        Err(reasons)
    }

    /// Unmounts `root` through the mounter that can do it for us; `direct` is why this process cannot do it.
    pub fn unmount_for_us(&self, root: &Path, lazy: bool, direct: std::io::Error) -> std::io::Result<()> {
        let busy = |error: &std::io::Error| error.raw_os_error() == Some(crate::sys::errno::Errno::BUSY.0);
        match fusermount::unmount(root, lazy) {
            Ok(()) => return Ok(()),
            Err(error) if busy(&error) => return Err(error),
            Err(error) => log::debug!("fusermount3 cannot unmount {}: {error}", root.display()),
        }
        if !lazy && !crate::sys::process::daemon::users_of(root).is_empty() {
            return Err(std::io::Error::from_raw_os_error(crate::sys::errno::Errno::BUSY.0));
        }
        helper::unmount(&self.helper_socket, root).map_err(|error| {
            log::debug!("The mount helper cannot unmount {}: {error}", root.display());
            direct
        })
    }
}
