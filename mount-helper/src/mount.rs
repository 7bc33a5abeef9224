//! Mounting on a descriptor and unmounting, in the namespace of this thread.
//!
//! Everything is done through descriptors; no path is resolved. The device is opened before another namespace is entered, because paths
//! in there cannot be trusted.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, StatxFlags, fstat, major, minor, openat, readlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::namespace::{Thread, mount_id_of, state_of};
use crate::{Outcome, failed};

/// File systems that may be mounted over, by their names in mountinfo: only those for ordinary files, so that /proc and the like cannot be
/// covered, and none that a user can serve.
const FILE_SYSTEMS: [&str; 19] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "nfs", "nfs4", "f2fs", "zfs", "bcachefs",
    "cifs", "smb3", "9p", "vfat", "reiserfs", "jfs", "ceph",
];

/// The device number of /dev/fuse: misc, minor 229.
const FUSE: (u32, u32) = (10, 229);

/// How to mount, and for whom.
pub struct Wanted {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// Read-only.
    pub read_only: bool,
    /// Other users may access it.
    pub allow_other: bool,
}

/// A directory received from a peer, with its facts from the kernel.
pub struct Directory {
    descriptor: OwnedFd,
    /// Its owner.
    pub owner: u32,
    /// Its path when it was examined.
    pub path: PathBuf,
}

impl Directory {
    /// Checks a received descriptor: it must be a directory that still has a name, on a file system for files, in this thread's
    /// namespace.
    pub fn of(thread: &Thread, descriptor: OwnedFd) -> Outcome<Directory> {
        let table = thread.table()?;
        let kind = table.kind_of(mount_id_of(&descriptor)?);
        let kind =
            kind.ok_or("the directory is in neither the mount namespace that was sent nor the helper's")?;
        if !FILE_SYSTEMS.contains(&kind) {
            return Err(format!("nothing is mounted on a file system of type {kind:?}"));
        }
        let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::NLINK | StatxFlags::UID;
        let state = state_of(&descriptor, wanted)?;
        if FileType::from_raw_mode(state.stx_mode.into()) != FileType::Directory {
            return Err("the descriptor is not a directory".to_owned());
        }
        if state.stx_nlink == 0 {
            return Err("the directory was removed".to_owned());
        }
        let path = path_of(thread, &descriptor)?;
        Ok(Directory { descriptor, owner: state.stx_uid, path })
    }

    /// Its current path.
    pub fn path_now(&self, thread: &Thread) -> Outcome<PathBuf> {
        path_of(thread, &self.descriptor)
    }
}

fn path_of(thread: &Thread, descriptor: &OwnedFd) -> Outcome<PathBuf> {
    let path = readlinkat(thread.proc(), Thread::name_of(descriptor), Vec::new());
    let path = path.map_err(failed("name the directory"))?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// Opens /dev/fuse of the helper's own namespace. It must be the device itself.
pub fn open_device() -> Outcome<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let device = openat(CWD, "/dev/fuse", flags, Mode::empty()).map_err(failed("open /dev/fuse"))?;
    let state = fstat(&device).map_err(failed("look at /dev/fuse"))?;
    let is_device = FileType::from_raw_mode(state.st_mode) == FileType::CharacterDevice;
    let number = (major(state.st_rdev), minor(state.st_rdev));
    let real = is_device && number == FUSE;
    real.then_some(device).ok_or_else(|| "/dev/fuse is not the FUSE device".to_owned())
}

/// A mounted file system, as a descriptor of its root.
pub struct Mounted(OwnedFd);

impl Mounted {
    /// Its id.
    pub fn id(&self) -> Outcome<u64> {
        mount_id_of(&self.0)
    }

    /// Unmounts it again.
    pub fn undo(&self, thread: &Thread) -> Outcome<()> {
        detach(thread, &self.0)
    }
}

/// Mounts the file system that `device` will serve on `dir`.
pub fn mount(device: &OwnedFd, dir: &Directory, wanted: &Wanted) -> Outcome<Mounted> {
    let mount = configure(device, wanted)?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", &dir.descriptor, "", onto).map_err(failed("mount there"))?;
    Ok(Mounted(mount))
}

/// A FUSE file system that is not mounted anywhere yet.
fn configure(device: &OwnedFd, wanted: &Wanted) -> Outcome<OwnedFd> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("use FUSE"))?;
    let (fd, uid, gid) = (device.as_raw_fd().to_string(), wanted.uid.to_string(), wanted.gid.to_string());
    let source = holofs_mount_helper::source::unique();
    let texts = [
        ("source", source.as_str()),
        ("subtype", "holofs"),
        ("fd", fd.as_str()),
        ("rootmode", "40000"),
        ("user_id", uid.as_str()),
        ("group_id", gid.as_str()),
    ];
    for (key, value) in texts {
        fsconfig_set_string(&context, key, value).map_err(failed("configure FUSE"))?;
    }
    let flags =
        [("default_permissions", true), ("allow_other", wanted.allow_other), ("ro", wanted.read_only)];
    for (key, _) in flags.iter().filter(|(_, wanted)| *wanted) {
        fsconfig_set_flag(&context, *key).map_err(failed("configure FUSE"))?;
    }
    fsconfig_create(&context).map_err(failed("create a FUSE file system"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, wanted.read_only);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("make a mount"))
}

/// Detaches the mount with the root `root`; files already open in it stay open.
pub fn detach(thread: &Thread, root: &OwnedFd) -> Outcome<()> {
    rustix::process::fchdir(thread.proc()).map_err(failed("enter the helper's /proc"))?;
    rustix::mount::unmount(Thread::name_of(root), UnmountFlags::DETACH).map_err(failed("unmount"))
}
