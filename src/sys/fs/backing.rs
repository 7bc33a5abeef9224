//! Files that the kernel reads directly on behalf of a FUSE file system (passthrough).
//!
//! The kernel opens such a file again for every user, with the user's flags and the daemon's credentials. So a file may be handed over
//! only through a path that nobody can write through: the [`read_only_view`] of its directory.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::beneath::Dir;

/// `struct fuse_backing_map`, and the two requests that take it or the id it was given.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}
const FUSE_DEV_IOC_BACKING_OPEN: u32 = 0x4010_e501;
const FUSE_DEV_IOC_BACKING_CLOSE: u32 = 0x4004_e502;

/// The contents of the directory `dir`, through a private mount that nobody else can reach: read-only and without access times. The
/// mount disappears when the result and all files opened through it are closed.
pub fn read_only_view(dir: impl AsFd) -> io::Result<Dir> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, "", flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOATIME
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is empty and ends with NUL, and the kernel reads exactly the size of the structure.
    #[allow(unsafe_code)]
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 { Ok(Dir::of(tree)) } else { Err(io::Error::last_os_error()) }
}

/// Checks whether the kernel accepts `file` for the FUSE file system of `device`, whose INIT was answered; it is released again.
pub fn probe(device: impl AsFd, file: impl AsFd) -> io::Result<()> {
    let mut map = BackingMap { fd: file.as_fd().as_raw_fd(), flags: 0, padding: 0 };
    let mut id = control(&device, FUSE_DEV_IOC_BACKING_OPEN, &mut map)?;
    control(&device, FUSE_DEV_IOC_BACKING_CLOSE, &mut id).map(drop)
}

fn control<T>(device: &impl AsFd, request: u32, value: &mut T) -> io::Result<i32> {
    // SAFETY: each request number determines the type of its value, which is ours and lives long enough.
    #[allow(unsafe_code)]
    let outcome = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), request as _, std::ptr::from_mut(value)) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_view_shows_what_is_there_and_nothing_can_be_written_through_it() {
        if rustix::process::geteuid().as_raw() != 0 {
            return eprintln!("SKIPPED: a mount of one's own needs root");
        }
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "before").unwrap();
        let view = read_only_view(std::fs::File::open(temp.path()).unwrap()).unwrap();
        std::fs::write(temp.path().join("later"), "there").unwrap();
        let (file, facts) = view.open_file(Path::new("later")).unwrap();
        assert_eq!(facts.size, 5);
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let written = std::fs::OpenOptions::new().write(true).open(again);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(view.create_new(Path::new("new"), 0o600).is_err());
        assert!(view.remove_file(Path::new("file")).is_err());
        std::fs::write(temp.path().join("file"), "after").unwrap();
    }

    #[test]
    fn what_is_no_fuse_device_takes_no_file() {
        let file = tempfile::tempfile().unwrap();
        assert!(probe(&file, &file).is_err());
    }
}
