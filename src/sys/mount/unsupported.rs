//! Stubs for mounting on platforms without FUSE: every method is refused with that reason, and the fallback chain continues. Nothing
//! that would need a mount can exist here.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Copies of mounts: there are none.
pub mod copies {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::{MountId, refused};
    use crate::sys::fs::place::Place;

    /// The socket at which copies are offered: there is none.
    pub enum Copies {}

    impl Copies {
        /// Always refused.
        pub fn offer(_place: &Place) -> io::Result<Copies> {
            Err(refused())
        }

        /// Never called.
        pub fn serve(&self, _copy: impl Fn() -> io::Result<OwnedFd>) -> ! {
            match *self {}
        }
    }

    /// Always refused.
    pub fn request(_place: &Place) -> io::Result<OwnedFd> {
        Err(refused())
    }

    /// Always refused.
    pub fn copy_of_own(_path: &Path, _id: MountId) -> io::Result<OwnedFd> {
        Err(refused())
    }
}

/// The error of every call.
fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "there is no FUSE on this system")
}

/// A directory to mount on.
pub struct Mountpoint(PathBuf);

/// How to mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Read-only.
    pub read_only: bool,
    /// Other users may access it.
    pub allow_other: bool,
    /// Programs in it cannot be executed.
    pub no_exec: bool,
}

/// The id of a mount: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountId {}

/// A detached file system: there is none.
pub enum Detached {}

impl Mountpoint {
    /// Stores the path.
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
    /// Always refused.
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

/// Always refused.
pub fn mount_fuse(_point: &Mountpoint, _options: Options) -> io::Result<(OwnedFd, MountId)> {
    Err(refused())
}

/// Always refused.
pub fn open_device() -> io::Result<File> {
    Err(refused())
}

/// What is visible at a path: no mount.
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
pub fn unmount_device(_path: &Path, _device: u64, _source: &str, _lazy: bool) -> io::Result<bool> {
    Ok(false)
}

/// Always refused.
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

/// The connection of a mounted file system, of which there is none.
pub mod connection {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    /// Always refused.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Err(super::refused())
    }

    /// Always refused.
    pub fn send_with(_to: impl AsFd, _message: &[u8], _descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        Err(super::refused())
    }

    /// Always refused.
    pub fn receive(_from: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        Err(super::refused())
    }
}

/// The mount helper.
pub mod helper {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use super::{MountId, Mountpoint, Options};

    /// Always refused.
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

    /// Always refused.
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
        /// Its path there.
        pub path: PathBuf,
    }

    /// There are no mounts.
    pub fn source_of(_id: super::MountId) -> io::Result<String> {
        Err(super::refused())
    }

    /// There are no mounts.
    pub fn is_of(_id: super::MountId, _source: &str) -> bool {
        false
    }

    /// There are none.
    pub fn elsewhere(_device: u64, _source: &str, _first: u32) -> Vec<Elsewhere> {
        Vec::new()
    }

    /// Always refused.
    pub fn copy_of(_mount: &Elsewhere) -> io::Result<OwnedFd> {
        Err(super::refused())
    }

    /// Always refused.
    pub fn enter() -> io::Result<()> {
        Err(super::refused())
    }

    /// Always refused.
    pub fn enter_as_mounter() -> io::Result<()> {
        Err(super::refused())
    }

    /// There is nothing to drop.
    pub fn drop_foreign(_path: Option<&std::ffi::OsStr>) {}

    /// Always refused.
    pub fn trial(_test: impl FnOnce() -> io::Result<()>) -> io::Result<Result<(), String>> {
        Ok(Err(super::refused().to_string()))
    }
}

/// Directories that exist only in a namespace.
pub mod overmount {
    use std::io;
    use std::path::{Path, PathBuf};

    use super::Mountpoint;

    /// An overmounted directory: there is none.
    pub enum Overmount {}

    /// Always refused.
    pub fn overmount(_path: &Path, _keep: &[PathBuf]) -> io::Result<Overmount> {
        Err(super::refused())
    }

    impl Overmount {
        /// Never called.
        pub fn point(&self) -> &Mountpoint {
            match *self {}
        }

        /// Never called.
        pub fn make_read_only(&self) -> io::Result<()> {
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
        /// Always fails.
        pub fn of(_root: &Path) -> io::Result<View> {
            Err(unsupported())
        }

        /// Never called.
        pub fn path(&self) -> PathBuf {
            PathBuf::new()
        }
    }
}
