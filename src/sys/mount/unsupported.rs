//! What stands in for mounting where there is no FUSE: every way is refused with that reason, and the ladder goes on to the
//! rung below. Nothing that would need a mount can exist here.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The reason.
fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "there is no FUSE on this system")
}

/// A directory to mount on.
pub struct Mountpoint(PathBuf);

/// How to mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// No change is possible.
    pub read_only: bool,
    /// Users other than the mounting one may enter.
    pub allow_other: bool,
    /// No program in it runs.
    pub no_exec: bool,
}

/// Which mount it is: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountId {}

/// A file system that is mounted nowhere, of which there is none.
pub enum Detached {}

impl Mountpoint {
    /// Remembers the path.
    pub fn open(path: &Path) -> io::Result<Mountpoint> {
        Ok(Mountpoint(path.to_owned()))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Nothing is mounted.
    pub fn mounted(&self) -> io::Result<MountId> {
        Err(refused())
    }
}

impl Detached {
    /// Is refused.
    pub fn new(_options: Options) -> io::Result<Detached> {
        Err(refused())
    }

    /// Never called.
    pub fn device(&self) -> io::Result<OwnedFd> {
        match *self {}
    }

    /// Never called.
    pub fn attach(self, _point: &Mountpoint) -> io::Result<(OwnedFd, MountId)> {
        match self {}
    }
}

/// Is refused.
pub fn mount_fuse(_point: &Mountpoint, _options: Options) -> io::Result<(OwnedFd, MountId)> {
    Err(refused())
}

/// Is refused.
pub fn open_device() -> io::Result<File> {
    Err(refused())
}

/// What is seen at a path: no mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The device number.
    pub device: u64,
    /// The mount.
    pub id: MountId,
    /// True for a mount.
    pub is_root: bool,
}

/// Nothing is mounted.
pub fn seen(_path: &Path) -> io::Result<Seen> {
    Err(refused())
}

/// Nothing is mounted.
pub fn unmount_device(_path: &Path, _device: u64, _lazy: bool) -> io::Result<bool> {
    Ok(false)
}

/// Is refused.
pub fn mount_copy(_copy: &OwnedFd, _point: &Mountpoint) -> io::Result<()> {
    Err(refused())
}

/// Nothing is mounted.
pub fn mount_at(_path: &Path) -> io::Result<MountId> {
    Err(refused())
}

/// Never called.
pub fn detach(_path: &Path, id: MountId) -> io::Result<bool> {
    match id {}
}

/// Nothing is mounted.
pub fn unmount(_path: &Path, _lazy: bool) -> io::Result<()> {
    Err(refused())
}

/// Nothing is mounted.
pub fn set_read_ahead(_path: &Path, _bytes: u32) -> io::Result<()> {
    Err(refused())
}

/// The mount helper.
pub mod helper {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::{MountId, Mountpoint, Options};

    /// Is refused.
    pub fn mount(_socket: &Path, _point: &Mountpoint, _options: Options) -> io::Result<(OwnedFd, MountId)> {
        Err(super::refused())
    }

    /// Nothing is mounted.
    pub fn unmount(_socket: &Path, _root: &Path) -> io::Result<()> {
        Err(super::refused())
    }
}

/// fusermount3.
pub mod fusermount {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::{Mountpoint, Options};

    /// Is refused.
    pub fn mount(_point: &Mountpoint, _options: Options) -> io::Result<OwnedFd> {
        Err(super::refused())
    }

    /// Nothing is mounted.
    pub fn unmount(_root: &Path, _lazy: bool) -> io::Result<()> {
        Err(super::refused())
    }
}

/// Namespaces.
pub mod namespace {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;

    /// There are none.
    pub fn current() -> Option<u64> {
        None
    }

    /// A mount in another namespace.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Elsewhere {
        /// A process there.
        pub pid: u32,
        /// Where.
        pub path: PathBuf,
    }

    /// There are none.
    pub fn elsewhere(_device: u64, _first: u32) -> Vec<Elsewhere> {
        Vec::new()
    }

    /// Is refused.
    pub fn copy_of(_mount: &Elsewhere) -> io::Result<OwnedFd> {
        Err(super::refused())
    }

    /// Is refused.
    pub fn enter() -> io::Result<()> {
        Err(super::refused())
    }

    /// Is refused.
    pub fn enter_as_mounter() -> io::Result<()> {
        Err(super::refused())
    }

    /// There is nothing to drop.
    pub fn drop_foreign(_path: Option<&std::ffi::OsStr>) {}

    /// Cannot be.
    pub fn trial(_test: impl FnOnce() -> io::Result<()>) -> io::Result<Result<(), String>> {
        Ok(Err(super::refused().to_string()))
    }
}

/// Directories that exist in a namespace only.
pub mod overmount {
    use std::io;
    use std::path::{Path, PathBuf};

    use super::Mountpoint;

    /// A covered directory, of which there is none.
    pub enum Cover {}

    /// Is refused.
    pub fn cover(_path: &Path, _keep: &[PathBuf]) -> io::Result<Cover> {
        Err(super::refused())
    }

    impl Cover {
        /// Never called.
        pub fn point(&self) -> &Mountpoint {
            match *self {}
        }

        /// Never called.
        pub fn seal(&self) -> io::Result<()> {
            match *self {}
        }
    }
}

/// Views of a mount.
pub mod view {
    use super::*;

    /// A view of a mount.
    #[derive(Debug)]
    pub struct View;

    impl View {
        /// There are none here.
        pub fn of(_root: &Path) -> io::Result<View> {
            Err(unsupported())
        }

        /// Nowhere.
        pub fn path(&self) -> PathBuf {
            PathBuf::new()
        }
    }
}
