//! Mounting on a descriptor and unmounting by id, in the mount namespace of whoever asks.
//!
//! Runs on a thread that is used for one request, since it may move to another namespace. Everything is done through
//! descriptors and the kernel's table of mounts; no path is walked.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, fstatfs, openat, readlinkat, statx,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// What may lie under a mount, by the numbers of linux/magic.h: as fusermount, so that nobody mounts over /proc and its like.
const FILE_SYSTEMS: [u64; 15] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0x6969,      // nfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0xfe53_4d42, // smb2
    0x0102_1997, // 9p
    0x4d44,      // vfat
    0x5265_4973, // reiserfs
    0x3153_464a, // jfs
    0x00c3_6400, // ceph
];

/// How to mount, and for whom.
pub struct Wanted {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// No change is possible.
    pub read_only: bool,
    /// Other users may enter.
    pub allow_other: bool,
}

/// A directory that was sent, with what the kernel says of it.
pub struct Directory {
    descriptor: OwnedFd,
    /// Who owns it.
    pub owner: u32,
    /// Where it is, in its namespace.
    pub path: PathBuf,
}

/// This thread, seen in /proc: opened before it moves, because another namespace may show anything at /proc.
pub struct Thread(OwnedFd);

/// One mount of ours, by the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: u64,
    /// Whose it is.
    pub uid: u32,
    /// Where it is, as mountinfo spells it.
    pub path: String,
}

type Outcome<T> = Result<T, String>;

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> String {
    move |error| format!("cannot {what}: {error}")
}

impl Thread {
    /// This thread gets a file system context of its own, so that it can move alone.
    pub fn current() -> Outcome<Thread> {
        // SAFETY: the descriptor table stays shared; only root and current directory become this thread's own.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(failed("separate a thread"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc/thread-self", flags, Mode::empty());
        Ok(Thread(dir.map_err(failed("open /proc/thread-self"))?))
    }

    /// True if `namespace` is a mount namespace, and not the one this thread is in.
    pub fn is_elsewhere(&self, namespace: &OwnedFd) -> Outcome<bool> {
        let own = openat(&self.0, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(fstat)
            .map_err(failed("find my own mount namespace"))?;
        let theirs = fstat(namespace).map_err(failed("look at the namespace"))?;
        if theirs.st_dev != own.st_dev {
            return Err("the second descriptor is no namespace".to_owned());
        }
        Ok(theirs.st_ino != own.st_ino)
    }

    /// Moves to another mount namespace.
    pub fn enter(&self, namespace: BorrowedFd<'_>) -> Outcome<()> {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
            .map_err(failed("enter your mount namespace"))
    }

    /// What is mounted for users in this thread's namespace.
    pub fn mounts(&self) -> Outcome<Vec<Listed>> {
        let table = openat(&self.0, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = Vec::new();
        let read = File::from(table.map_err(failed("open the table of mounts"))?).read_to_end(&mut text);
        read.map_err(|error| format!("cannot read the table of mounts: {error}"))?;
        Ok(String::from_utf8_lossy(&text).lines().filter_map(listed).collect())
    }

    /// Looks at a descriptor that was sent: it must be a directory that still has a name, on a file system for files.
    pub fn directory(&self, descriptor: OwnedFd) -> Outcome<Directory> {
        let state = fstat(&descriptor).map_err(failed("look at the directory"))?;
        if FileType::from_raw_mode(state.st_mode) != FileType::Directory {
            return Err("the descriptor is no directory".to_owned());
        }
        if state.st_nlink == 0 {
            return Err("the directory was removed".to_owned());
        }
        let kind = fstatfs(&descriptor).map_err(failed("ask for the file system"))?.f_type;
        if !u64::try_from(kind).is_ok_and(|kind| FILE_SYSTEMS.contains(&kind)) {
            return Err(format!("nothing is mounted on a file system of type {kind:#x}"));
        }
        let path = readlinkat(&self.0, self.name_of(&descriptor), Vec::new())
            .map_err(failed("name the directory"))?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
        Ok(Directory { descriptor, owner: state.st_uid, path })
    }

    fn name_of(&self, descriptor: impl AsFd) -> String {
        format!("fd/{}", descriptor.as_fd().as_raw_fd())
    }

    /// Takes the mount away whose root is `root`; whoever has files open keeps them.
    pub fn detach(&self, root: &OwnedFd) -> Outcome<()> {
        rustix::process::fchdir(&self.0).map_err(failed("go to my own /proc"))?;
        rustix::mount::unmount(self.name_of(root), UnmountFlags::DETACH).map_err(failed("unmount"))
    }
}

/// Mounts on `dir`: the device and the id.
pub fn mount(dir: &Directory, wanted: &Wanted) -> Outcome<(OwnedFd, u64)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = openat(CWD, "/dev/fuse", flags, Mode::empty()).map_err(failed("open /dev/fuse"))?;
    let (device, mount) = configure(device, wanted)?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", &dir.descriptor, "", onto).map_err(failed("mount there"))?;
    Ok((device, id_of(&mount)?))
}

/// A FUSE file system that is mounted nowhere yet.
fn configure(device: OwnedFd, wanted: &Wanted) -> Outcome<(OwnedFd, OwnedFd)> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("use FUSE"))?;
    let (fd, uid, gid) = (device.as_raw_fd().to_string(), wanted.uid.to_string(), wanted.gid.to_string());
    let texts = [
        ("source", "holofs"),
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
    let mount =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("make a mount"))?;
    Ok((device, mount))
}

/// The id of the mount that a descriptor is in. Asks for nothing else, so that a FUSE file system of another user, which we may
/// not enter, is not asked.
pub fn id_of(descriptor: impl AsFd) -> Outcome<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let state = statx(descriptor, "", flags, StatxFlags::empty()).map_err(failed("ask for the mount"))?;
    if state.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err("the kernel tells no mount ids".to_owned());
    }
    Ok(state.stx_mnt_id)
}

/// A line of mountinfo, if it is a mount of HoloFS's.
fn listed(line: &str) -> Option<Listed> {
    let (before, after) = line.split_once(" - ")?;
    let mut kind = after.split(' ');
    if kind.next()? != "fuse.holofs" {
        return None;
    }
    let uid = kind.nth(1)?.split(',').find_map(|option| option.strip_prefix("user_id="))?.parse().ok()?;
    let mut fields = before.split(' ');
    Some(Listed { id: fields.next()?.parse().ok()?, uid, path: fields.nth(3)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_holofs_are_listed_each_with_its_user() {
        let line = "97 31 0:46 / /home/a\\040b rw,nosuid,nodev - fuse.holofs holofs rw,user_id=1000,group_id=7,default_permissions";
        let mine = Listed { id: 97, uid: 1000, path: "/home/a\\040b".to_owned() };
        assert_eq!(listed(line), Some(mine));
        for other in [
            "97 31 0:46 / /x rw - fuse.sshfs holofs rw,user_id=1000,group_id=7",
            "97 31 0:46 / /x rw - ext4 fuse.holofs rw,user_id=1000",
            "97 31 0:46 / /x rw - fuse.holofs holofs rw",
            "97 31 0:46 / /x rw - fuse.holofs holofs rw,user_id=-1",
            "x 31 0:46 / /x rw - fuse.holofs holofs rw,user_id=1",
            "97 - fuse.holofs holofs rw,user_id=1",
            "",
        ] {
            assert_eq!(listed(other), None, "{other}");
        }
    }
}
