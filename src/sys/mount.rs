//! Mounting FUSE file systems, and unmounting only our own.
//!
//! A file system is configured key by key (`fsopen`), so no text is ever parsed as options, and attached to a directory
//! *descriptor*, so the directory that was checked is the one mounted on. It is always nosuid and nodev, and the kernel checks
//! permissions (`default_permissions`).

pub mod connection;
pub mod copies;
pub mod fusermount;
pub mod helper;
pub mod namespace;
pub mod overmount;
pub mod view;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use holofs_mount_helper::source;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

/// The FUSE device.
const DEVICE: &str = "/dev/fuse";

/// A directory to mount on: opened without following a link at its end.
pub struct Mountpoint {
    dir: OwnedFd,
    path: PathBuf,
}

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

/// The id of a mount: unique among the existing ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountId(pub(super) u64);

impl Mountpoint {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> io::Result<Mountpoint> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Mountpoint { dir, path: path.to_owned() })
    }

    /// The directory `dir`, which is at `path`.
    pub(super) fn of(dir: OwnedFd, path: &Path) -> Mountpoint {
        Mountpoint { dir, path: path.to_owned() }
    }

    /// Its descriptor.
    pub(super) fn as_dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mount that is visible at the path now, which must differ from the one the directory itself is on: a process that can rename
    /// the directory may have replaced it meanwhile.
    pub fn mounted(&self) -> io::Result<MountId> {
        let moved = || io::Error::other("the mountpoint was moved away while it was mounted on");
        let id = mount_at(&self.path).map_err(|_| moved())?;
        if id == id_of(&self.dir)? { Err(moved()) } else { Ok(id) }
    }
}

/// A new FUSE file system that is not mounted anywhere yet.
pub struct Detached {
    device: OwnedFd,
    mount: OwnedFd,
}

impl Detached {
    /// Creates one; if the kernel refuses, the error names the missing permission.
    pub fn new(options: Options) -> io::Result<Detached> {
        let device = open_device()?;
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| explained(errno, "this process may not mount (no CAP_SYS_ADMIN)"))?;
        let mount = configure(&context, &device, options, &source::unique())?;
        Ok(Detached { device: device.into(), mount })
    }

    /// The device that its requests come from, for another process.
    pub fn device(&self) -> io::Result<OwnedFd> {
        self.device.try_clone()
    }

    /// Mounts it on `point`; returns the device that its requests come from, and the mount.
    pub fn attach(self, point: &Mountpoint) -> io::Result<(OwnedFd, MountId)> {
        put(&self.mount, &point.dir)?;
        let id = id_of(&self.mount)?;
        match point.mounted() {
            Ok(visible) if visible == id => Ok((self.device, id)),
            outcome => {
                let through_descriptor = format!("/proc/self/fd/{}", self.mount.as_raw_fd());
                rustix::mount::unmount(through_descriptor, UnmountFlags::DETACH)?;
                Err(outcome.err().unwrap_or_else(|| io::Error::other("another mount is on top of it")))
            }
        }
    }
}

/// Mounts a new FUSE file system on `point`; returns the device that its requests come from, and the mount.
pub fn mount_fuse(point: &Mountpoint, options: Options) -> io::Result<(OwnedFd, MountId)> {
    Detached::new(options)?.attach(point)
}

/// A new detached mount, with this source, of the file system whose requests come from `device`, even if no mount of it is visible here.
/// Needs Linux 5.14, and fails once the last mount of it is gone.
pub fn another_of(device: &OwnedFd, options: Options, source: &str) -> io::Result<OwnedFd> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(&context, device, options, source)
}

/// The subtype of our mounts.
const SUBTYPE: &str = "holofs";
/// The type of our mounts in the kernel's tables.
const TYPE: &str = "fuse.holofs";

/// Opens the FUSE device; the error says why that is not possible.
pub fn open_device() -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no /dev/fuse"),
        _ => io::Error::new(error.kind(), format!("/dev/fuse may not be opened: {error}")),
    })?;
    let is_device = device.metadata()?.file_type().is_char_device();
    is_device.then_some(device).ok_or_else(|| io::Error::other("/dev/fuse is no device"))
}

/// An error with a readable message for an errno; keeps its kind.
fn explained(errno: rustix::io::Errno, if_not_permitted: &str) -> io::Error {
    let error = io::Error::from(errno);
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), if_not_permitted.to_owned()),
        _ => error,
    }
}

fn configure(
    context: &OwnedFd,
    device: &impl AsRawFd,
    options: Options,
    source: &str,
) -> io::Result<OwnedFd> {
    let fd = device.as_raw_fd().to_string();
    let uid = rustix::process::geteuid().as_raw().to_string();
    let gid = rustix::process::getegid().as_raw().to_string();
    let texts = [
        ("source", source),
        ("subtype", SUBTYPE),
        ("fd", &fd),
        ("rootmode", "40000"),
        ("user_id", &uid),
        ("group_id", &gid),
    ];
    texts.iter().try_for_each(|(key, value)| fsconfig_set_string(context, *key, *value))?;
    fsconfig_set_flag(context, "default_permissions")?;
    if options.allow_other {
        fsconfig_set_flag(context, "allow_other")?;
    }
    if options.read_only {
        fsconfig_set_flag(context, "ro")?;
    }
    fsconfig_create(context)
        .map_err(|errno| explained(errno, "this process may not mount FUSE (a user namespace forbids it)"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.no_exec);
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached mount to the directory `onto`.
pub(super) fn put(mount: impl AsFd, onto: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", onto, "", flags)?)
}

/// Mounts a copy of a mount, see [`namespace::copy_of`], on `point`.
pub fn mount_copy(copy: &OwnedFd, point: &Mountpoint) -> io::Result<()> {
    put(copy, &point.dir)
}

/// The mount that is visible at `path`.
pub fn mount_at(path: &Path) -> io::Result<MountId> {
    id_in(&look(path)?)
}

/// The state of the directory at `path`, without a request to its file system, which may be ours. By its path: a descriptor would make the
/// mount busy for an umount(8) at that moment, for as long as this thread waits for a processor.
fn look(path: &Path) -> io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let state = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::TYPE | StatxFlags::MNT_ID)?;
    match FileType::from_raw_mode(state.stx_mode.into()) {
        FileType::Directory => Ok(state),
        _ => Err(rustix::io::Errno::NOTDIR.into()),
    }
}

/// What is visible at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The device number of its file system.
    pub device: u64,
    /// The mount.
    pub id: MountId,
    /// The path is the root of that mount.
    pub is_root: bool,
}

/// What is at `path` now, without following a link; sends no request to the file system itself, which may be ours.
pub fn seen(path: &Path) -> io::Result<Seen> {
    let state = look(path)?;
    Ok(Seen {
        device: rustix::fs::makedev(state.stx_dev_major, state.stx_dev_minor),
        id: MountId(state.stx_mnt_id),
        is_root: state.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// Unmounts what is visible at `path` if it is a mount of the file system `device` with this source; false if it is not, or if nothing is
/// mounted there.
pub fn unmount_device(path: &Path, device: u64, source: &str, lazy: bool) -> io::Result<bool> {
    match seen(path) {
        Ok(seen) if seen.is_root && seen.device == device && namespace::is_of(seen.id, source) => {
            unmount(path, lazy).map(|()| true)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The mount that `dir` is on. Sends no request to the file system itself, which may be ours and not served yet.
pub(super) fn id_of(dir: impl AsFd) -> io::Result<MountId> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    id_in(&rustix::fs::statx(dir, "", flags, StatxFlags::MNT_ID)?)
}

fn id_in(state: &Statx) -> io::Result<MountId> {
    if state.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel reports no mount ids"));
    }
    Ok(MountId(state.stx_mnt_id))
}

/// Detaches the mount `id` if it is the one visible at `path`; files already open in it stay open. False if another mount is on
/// top, or ours is gone.
pub fn detach(path: &Path, id: MountId) -> io::Result<bool> {
    let point = match Mountpoint::open(path) {
        Ok(point) => point,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if id_of(&point.dir)? != id {
        return Ok(false);
    }
    let through_descriptor = format!("/proc/self/fd/{}", point.dir.as_raw_fd());
    rustix::mount::unmount(through_descriptor, UnmountFlags::DETACH)?;
    Ok(true)
}

/// Unmounts what is visible at `path`; with `lazy` even if it is in use.
pub fn unmount(path: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    Ok(rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW)?)
}

/// Sets the kernel's read-ahead for the file system mounted at `path` to `bytes`; the default is 128 KiB. Only root may. Sends no
/// request to the file system, which may be ours.
pub fn set_read_ahead(path: &Path, bytes: u32) -> io::Result<()> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let state = rustix::fs::statx(Mountpoint::open(path)?.dir, "", flags, StatxFlags::TYPE)?;
    let setting = format!("/sys/class/bdi/{}:{}/read_ahead_kb", state.stx_dev_major, state.stx_dev_minor);
    std::fs::write(setting, (bytes >> 10).to_string())
}
