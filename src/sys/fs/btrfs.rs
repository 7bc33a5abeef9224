//! Subvolumes of btrfs: a whole tree that is copied instantly, sharing every block until it is written.
//!
//! Nothing here falls back: a call works or reports why not. None needs privileges on what the caller owns, except [`destroy`], which
//! the mount must allow (`user_subvol_rm_allowed`); a subvolume can always be emptied and removed like a directory instead. On macOS
//! every directory of an APFS volume works as a subvolume, cloned by one call. Other platforms have none.

use std::io;
use std::os::fd::AsFd;

use crate::sys::fs::name::Name;

/// Identifies a state of a subvolume: equal states mean that nothing in it changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The subvolume's id, never reused.
    pub uuid: [u8; 16],
    /// The transaction that last changed an inode in it.
    pub changed: u64,
}

/// Creates the empty subvolume `name` in `parent`, with the mode 0777 less the umask.
pub fn create(parent: &impl AsFd, name: Name<'_>) -> io::Result<()> {
    imp::create(parent.as_fd(), name)
}

/// Creates `name` in `parent` as a writable snapshot of the subvolume whose root is `source`, which the caller must own.
pub fn snapshot(source: &impl AsFd, parent: &impl AsFd, name: Name<'_>) -> io::Result<()> {
    imp::snapshot(source.as_fd(), parent.as_fd(), name)
}

/// Removes the subvolume `name` of `parent` with everything in it; the space is freed later.
pub fn destroy(parent: &impl AsFd, name: Name<'_>) -> io::Result<()> {
    imp::destroy(parent.as_fd(), name)
}

/// The state of the subvolume that contains `dir`.
pub fn state(dir: &impl AsFd) -> io::Result<State> {
    imp::state(dir.as_fd())
}

/// True if `dir` is the root of a subvolume.
pub fn is_subvolume(dir: &impl AsFd) -> bool {
    imp::is_subvolume(dir.as_fd())
}

/// True if both directories are on the same btrfs.
pub fn is_same_btrfs(one: &impl AsFd, other: &impl AsFd) -> bool {
    matches!((imp::file_system(one.as_fd()), imp::file_system(other.as_fd())), (Ok(one), Ok(other)) if one == other)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::State;
    use crate::sys::fs::name::Name;

    /// BTRFS_IOCTL_MAGIC.
    const MAGIC: u64 = 0x94;
    /// BTRFS_SUPER_MAGIC.
    const SUPER: u64 = 0x9123_683e;
    /// The inode number of a subvolume's root.
    const FIRST_INODE: u64 = 256;

    const WRITES: u64 = 1;
    const READS: u64 = 2;

    const SUBVOL_CREATE: u64 = request(WRITES, 14, size_of::<VolArgs>());
    const SNAP_DESTROY: u64 = request(WRITES, 15, size_of::<VolArgs>());
    const SNAP_CREATE_V2: u64 = request(WRITES, 23, size_of::<VolArgsV2>());
    const FS_INFO: u64 = request(READS, 31, size_of::<FsInfo>());
    const GET_SUBVOL_INFO: u64 = request(READS, 60, size_of::<SubvolInfo>());

    const fn request(direction: u64, number: u64, size: usize) -> u64 {
        direction << 30 | (size as u64) << 16 | MAGIC << 8 | number
    }

    /// `struct btrfs_ioctl_vol_args`.
    #[repr(C)]
    struct VolArgs {
        fd: i64,
        name: [u8; 4088],
    }

    /// `struct btrfs_ioctl_vol_args_v2`.
    #[repr(C)]
    struct VolArgsV2 {
        fd: i64,
        transid: u64,
        flags: u64,
        unused: [u64; 4],
        name: [u8; 4040],
    }

    /// `struct btrfs_ioctl_fs_info_args`, only the fields used here.
    #[repr(C)]
    struct FsInfo {
        max_id: u64,
        num_devices: u64,
        fsid: [u8; 16],
        rest: [u8; 992],
    }

    /// `struct btrfs_ioctl_get_subvol_info_args`, only the fields used here.
    #[repr(C)]
    struct SubvolInfo {
        treeid: u64,
        name: [u8; 256],
        parent_id: u64,
        dirid: u64,
        generation: u64,
        flags: u64,
        uuid: [u8; 16],
        parent_uuid: [u8; 16],
        received_uuid: [u8; 16],
        ctransid: u64,
        rest: [u64; 19],
    }

    const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
    const _: () = assert!(size_of::<FsInfo>() == 1024 && size_of::<SubvolInfo>() == 504);

    pub fn create(parent: BorrowedFd<'_>, name: Name<'_>) -> io::Result<()> {
        let mut args = VolArgs { fd: 0, name: [0; 4088] };
        put(&mut args.name, name)?;
        call(parent, SUBVOL_CREATE, &mut args)
    }

    pub fn destroy(parent: BorrowedFd<'_>, name: Name<'_>) -> io::Result<()> {
        let mut args = VolArgs { fd: 0, name: [0; 4088] };
        put(&mut args.name, name)?;
        call(parent, SNAP_DESTROY, &mut args)
    }

    pub fn snapshot(source: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: Name<'_>) -> io::Result<()> {
        let fd = source.as_raw_fd().into();
        let mut args = VolArgsV2 { fd, transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
        put(&mut args.name, name)?;
        call(parent, SNAP_CREATE_V2, &mut args)
    }

    pub fn state(dir: BorrowedFd<'_>) -> io::Result<State> {
        let mut info = SubvolInfo {
            treeid: 0,
            name: [0; 256],
            parent_id: 0,
            dirid: 0,
            generation: 0,
            flags: 0,
            uuid: [0; 16],
            parent_uuid: [0; 16],
            received_uuid: [0; 16],
            ctransid: 0,
            rest: [0; 19],
        };
        call(dir, GET_SUBVOL_INFO, &mut info)?;
        Ok(State { uuid: info.uuid, changed: info.ctransid })
    }

    pub fn is_subvolume(dir: BorrowedFd<'_>) -> bool {
        rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_ino == FIRST_INODE) && is_btrfs(dir)
    }

    /// The id of the file system, if it is a btrfs.
    pub fn file_system(dir: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
        if !is_btrfs(dir) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut info = FsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 992] };
        call(dir, FS_INFO, &mut info)?;
        Ok(info.fsid)
    }

    fn is_btrfs(dir: BorrowedFd<'_>) -> bool {
        rustix::fs::fstatfs(dir).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == SUPER)
    }

    /// Stores a name and its terminating NUL.
    fn put(field: &mut [u8], name: Name<'_>) -> io::Result<()> {
        let bytes = name.as_bytes();
        let room = field.get_mut(..bytes.len()).filter(|room| room.len() < 256);
        room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }

    fn call<T>(fd: BorrowedFd<'_>, request: u64, args: &mut T) -> io::Result<()> {
        // SAFETY: `args` is the structure of this request, as the size in the request number states, and outlives the call.
        #[allow(unsafe_code)]
        let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(args)) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(target_os = "macos")]
mod imp {
    use std::ffi::CString;
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::sync::OnceLock;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::State;
    use crate::sys::fs::name::Name;

    /// `<sys/clonefile.h>`: a link itself is cloned, not its target.
    const CLONE_NOFOLLOW: u32 = 1;

    pub fn create(parent: BorrowedFd<'_>, name: Name<'_>) -> io::Result<()> {
        file_system(parent)?;
        Ok(rustix::fs::mkdirat(parent, name.as_os_str(), rustix::fs::Mode::from_raw_mode(0o777))?)
    }

    pub fn destroy(_: BorrowedFd<'_>, _: Name<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn snapshot(source: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: Name<'_>) -> io::Result<()> {
        let (from, to) = (rustix::fs::getpath(source)?, CString::new(name.as_bytes())?);
        let (from, to, parent) = (from.as_ptr(), to.as_ptr(), parent.as_raw_fd());
        // SAFETY: both texts end with NUL and outlive the call.
        #[allow(unsafe_code)]
        let outcome = unsafe { libc::clonefileat(libc::AT_FDCWD, from, parent, to, CLONE_NOFOLLOW) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// APFS does not report whether anything below a directory changed: each process assumes that it may have, until it has checked.
    pub fn state(dir: BorrowedFd<'_>) -> io::Result<State> {
        static LOOK: OnceLock<u64> = OnceLock::new();
        let nanos = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let changed = *LOOK.get_or_init(|| nanos() as u64 ^ u64::from(std::process::id()).rotate_right(20));
        let inode = rustix::fs::fstat(dir)?.st_ino;
        let mut uuid = file_system(dir)?;
        uuid[8..].copy_from_slice(&inode.to_le_bytes());
        Ok(State { uuid, changed })
    }

    pub fn is_subvolume(_: BorrowedFd<'_>) -> bool {
        false
    }

    /// The id of the volume, if it is APFS.
    pub fn file_system(dir: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
        let kind = rustix::fs::fstatfs(dir)?.f_fstypename;
        if !b"apfs\0".iter().zip(kind).all(|(wanted, found)| *wanted == found.cast_unsigned()) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "This is not APFS"));
        }
        let mut number = [0; 16];
        number[..4].copy_from_slice(&rustix::fs::fstat(dir)?.st_dev.to_le_bytes());
        Ok(number)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod imp {
    use std::io;
    use std::os::fd::BorrowedFd;

    use super::State;
    use crate::sys::fs::name::Name;

    fn no<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "There are no subvolumes on this system"))
    }

    pub fn create(_: BorrowedFd<'_>, _: Name<'_>) -> io::Result<()> {
        no()
    }

    pub fn destroy(_: BorrowedFd<'_>, _: Name<'_>) -> io::Result<()> {
        no()
    }

    pub fn snapshot(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: Name<'_>) -> io::Result<()> {
        no()
    }

    pub fn state(_: BorrowedFd<'_>) -> io::Result<State> {
        no()
    }

    pub fn is_subvolume(_: BorrowedFd<'_>) -> bool {
        false
    }

    pub fn file_system(_: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
        no()
    }
}
