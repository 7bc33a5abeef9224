//! This thread in /proc, the mount namespaces that it may enter, and the kernel's table of mounts.
//!
//! Runs on a thread that is used for one request only, because it may move to another namespace. A namespace is entered only if no peer
//! can own it: the owner of one that belongs to a user namespace can remove nosuid and nodev from any mount, and put anything at any path.
//! No call on a peer's descriptor can block in a file system that the peer serves.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{Outcome, failed};

/// The number of the initial user namespace: PROC_USER_INIT_INO of linux/proc_ns.h, the same on every kernel.
const INITIAL_USER_NAMESPACE: u64 = 0xeffffffd;

/// This thread's directory in /proc: opened before it moves, because another namespace may show anything at /proc.
pub struct Thread(OwnedFd);

/// The number of a mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceId(pub u64);

impl Thread {
    /// Gives this thread its own file system context, so that it can move alone.
    pub fn current() -> Outcome<Thread> {
        // SAFETY: the descriptor table stays shared; only the root and the current directory become private to this thread.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(failed("separate a thread"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc/thread-self", flags, Mode::empty());
        Ok(Thread(dir.map_err(failed("open /proc/thread-self"))?))
    }

    /// This thread's directory in /proc.
    pub fn proc(&self) -> &OwnedFd {
        &self.0
    }

    /// The name of a descriptor below [`Thread::proc`].
    pub fn name_of(descriptor: impl AsFd) -> String {
        format!("fd/{}", descriptor.as_fd().as_raw_fd())
    }

    /// The content of a file below [`Thread::proc`].
    pub fn text(&self, name: &str, what: &'static str) -> Outcome<String> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = Vec::new();
        let read = File::from(file.map_err(failed(what))?).read_to_end(&mut text);
        read.map_err(|error| format!("cannot {what}: {error}"))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The mount namespace of this thread.
    pub fn namespace(&self) -> Outcome<NamespaceId> {
        Ok(NamespaceId(self.own_namespace()?.stx_ino))
    }

    fn own_namespace(&self) -> Outcome<Statx> {
        let own = openat(&self.0, "ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        state_of(own.map_err(failed("find the helper's mount namespace"))?, StatxFlags::INO)
    }

    /// True if `namespace` is not this thread's; an error if it is not a mount namespace, or must not be entered.
    pub fn is_elsewhere(&self, namespace: &OwnedFd) -> Outcome<bool> {
        let own = self.own_namespace()?;
        let theirs = state_of(namespace, StatxFlags::INO)?;
        if device_of(&theirs) != device_of(&own) {
            return Err("the second descriptor is not a namespace".to_owned());
        }
        if theirs.stx_ino == own.stx_ino {
            return Ok(false);
        }
        let owner = state_of(owner_of(namespace)?, StatxFlags::INO)?;
        match owner.stx_ino {
            INITIAL_USER_NAMESPACE => Ok(true),
            _ => Err("your mount namespace belongs to a user namespace, whose owner could alter the mount"
                .to_owned()),
        }
    }

    /// Moves to a mount namespace that [`Thread::is_elsewhere`] has accepted.
    pub fn enter(&self, namespace: &OwnedFd) -> Outcome<()> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(failed("enter your mount namespace"))
    }

    /// The mounts in this thread's namespace.
    pub fn table(&self) -> Outcome<Table> {
        self.text("mountinfo", "read the table of mounts").map(Table)
    }
}

/// The user namespace that owns a namespace. Only for files of the kernel's namespace file system: any other file system would receive
/// the request.
fn owner_of(namespace: &OwnedFd) -> Outcome<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument and returns a descriptor or an error.
    #[allow(unsafe_code)]
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    if owner < 0 {
        return Err(format!(
            "cannot determine the owner of your mount namespace: {}",
            std::io::Error::last_os_error()
        ));
    }
    // SAFETY: the kernel just made this descriptor for us.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

fn device_of(state: &Statx) -> (u32, u32) {
    (state.stx_dev_major, state.stx_dev_minor)
}

/// What the kernel knows of a descriptor without a request to its file system, which may be a peer's own and never answer.
pub fn state_of(descriptor: impl AsFd, wanted: StatxFlags) -> Outcome<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(descriptor, "", flags, wanted).map_err(failed("look at a descriptor"))
}

/// The id of the mount that a descriptor is in.
pub fn mount_id_of(descriptor: impl AsFd) -> Outcome<u64> {
    let state = state_of(descriptor, StatxFlags::empty())?;
    if state.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err("the kernel reports no mount ids".to_owned());
    }
    Ok(state.stx_mnt_id)
}

/// The mountinfo of one namespace.
#[derive(Default)]
pub struct Table(String);

/// A mount of HoloFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: u64,
    /// Its user.
    pub uid: u32,
    /// Its path, as mountinfo spells it.
    pub path: String,
}

impl Table {
    /// The mounts of HoloFS.
    pub fn ours(&self) -> impl Iterator<Item = Listed> {
        self.0.lines().filter_map(listed)
    }

    /// The file system type of mount `id`, if that is in this namespace.
    pub fn kind_of(&self, id: u64) -> Option<&str> {
        let id = id.to_string();
        let line = self.0.lines().find(|line| line.split(' ').next() == Some(&id))?;
        line.split_once(" - ")?.1.split(' ').next()
    }
}

/// Parses a line of mountinfo, if it is a mount of HoloFS.
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

    const MINE: &str = "97 31 0:46 / /home/a\\040b rw,nosuid,nodev - fuse.holofs holofs rw,user_id=1000,group_id=7,default_permissions";

    #[test]
    fn only_mounts_of_holofs_are_listed_each_with_its_user() {
        let mine = Listed { id: 97, uid: 1000, path: "/home/a\\040b".to_owned() };
        assert_eq!(listed(MINE), Some(mine));
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

    #[test]
    fn the_table_knows_the_kind_of_each_mount() {
        let table = Table(format!("7 1 8:1 / / rw shared:1 - ext4 /dev/x rw\n{MINE}\n"));
        assert_eq!((table.kind_of(7), table.kind_of(97)), (Some("ext4"), Some("fuse.holofs")));
        assert_eq!((table.kind_of(9), table.kind_of(1)), (None, None));
        assert_eq!(table.ours().count(), 1);
    }
}
