//! A private mount namespace, with a user namespace where that is needed for the right to mount.
//!
//! Mounts in it are invisible outside, and end with the last process in it. The user keeps its uid: files have the same owners, and
//! programs that are run get no capabilities from it.
//!
//! A process cannot leave a user namespace. So a caller that can do without one tries it in a child first.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::MountId;
use crate::sys::process::fork;
use crate::sys::text::read_lossy;

/// What a child reports on success.
const GOOD: &str = "good";

/// Moves this process to a new mount namespace. It must be single-threaded.
pub fn enter() -> io::Result<()> {
    match enter_as_mounter() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            enter_as_user()?;
            receive_only()
        }
        other => other,
    }
}

/// As [`enter`], for a process that may mount: never enters a user namespace, which it could not leave again.
pub fn enter_as_mounter() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    receive_only()
}

/// Mounts made outside still appear here; mounts made here do not propagate out.
fn receive_only() -> io::Result<()> {
    let inward = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    mount_change("/", inward).map_err(|errno| failed("the mounts cannot be made private", errno.into()))
}

/// Unmounts, in our namespace, the mounts of spaces that this process does not use: a copy here would keep them alive after their last
/// user outside has left. In use are the current directory, the program, and the directories in which it finds other programs, that is
/// `path`.
pub fn drop_foreign(path: Option<&OsStr>) {
    let own = ["/proc/self/cwd", "/proc/self/exe"].map(fs::read_link).into_iter().flatten();
    let used: Vec<PathBuf> = own.chain(path.into_iter().flat_map(std::env::split_paths)).collect();
    for root in roots() {
        if used.iter().any(|path| path.starts_with(&root)) {
            continue;
        }
        // In a user namespace the kernel may lock these mounts; then an unmount outside propagates here, where mounts are shared.
        if let Err(error) = super::unmount(&root, true) {
            log::debug!("{} stays in its own namespace: {error}", root.display());
        }
    }
}

/// Where our file systems are mounted in this namespace; the last mounted first.
pub fn roots() -> Vec<PathBuf> {
    roots_of(&read_lossy("/proc/self/mountinfo").unwrap_or_default(), super::TYPE)
}

/// The mount points of file systems of the type `kind`, in the format of /proc/<pid>/mountinfo; the last mounted first.
fn roots_of(table: &str, kind: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        let found = file_system.split(' ').next() == Some(kind);
        found.then(|| PathBuf::from(OsString::from_vec(unescaped(path))))
    };
    table.lines().rev().filter_map(root).collect()
}

/// As [`enter`], for a user that may not mount.
fn enter_as_user() -> io::Result<()> {
    if !fs::exists("/proc/self/uid_map").unwrap_or(false) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "a user namespace needs /proc"));
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|error| failed("user namespaces are not allowed here", error))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
    ];
    let write = |(path, text): &(&str, String)| fs::write(path, text);
    maps.iter().try_for_each(write).map_err(|error| failed("this user cannot be mapped", error))
}

/// The number of this process's mount namespace.
pub fn current() -> Option<u64> {
    number_of("self")
}

/// The number of this process's PID namespace.
pub fn of_pids() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
}

fn number_of(process: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{process}/ns/mnt")).ok().map(|meta| meta.ino())
}

/// A mount in another mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// A process in that namespace.
    pub pid: u32,
    /// Where it is mounted, as that process sees it.
    pub path: PathBuf,
}

/// The source of the mount `id`, which is in our namespace.
pub fn source_of(id: MountId) -> io::Result<String> {
    let table = read_lossy("/proc/self/mountinfo")?;
    let number = id.0.to_string();
    let line = table.lines().find(|line| line.split(' ').next() == Some(&number));
    line.and_then(source_in).map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// True if the mount `id`, which is in our namespace, has this source; an empty one matches each.
pub fn is_of(id: MountId, source: &str) -> bool {
    source.is_empty() || source_of(id).is_ok_and(|found| found == source)
}

/// Where the file system with this device number and source is mounted in other mount namespaces, one process for each of them, as far
/// as /proc shows; `first` is checked before all others. An empty source matches each: earlier versions did not record it.
pub fn elsewhere(device: u64, source: &str, first: u32) -> Vec<Elsewhere> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut known: Vec<u64> = current().into_iter().collect();
    let mut found = Vec::new();
    for pid in std::iter::once(first).chain(pids) {
        // For a process of another user the namespace is hidden, but not its mounts.
        let number = number_of(&pid.to_string());
        if number.is_some_and(|number| known.contains(&number)) {
            continue;
        }
        known.extend(number);
        let table = read_lossy(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        found.extend(mountpoint(&table, device, source).map(|path| Elsewhere { pid, path }));
    }
    found
}

/// Where that file system is mounted as a whole, in the format of /proc/<pid>/mountinfo.
fn mountpoint(table: &str, device: u64, source: &str) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let number = format!("{major}:{minor}");
    table.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = device == number && root == "/" && (source.is_empty() || source_in(line) == Some(source));
        is_it.then(|| PathBuf::from(OsString::from_vec(unescaped(path))))
    })
}

/// The source in a line of that table, if the mount is one of ours.
fn source_in(line: &str) -> Option<&str> {
    let mut fields = line.split_once(" - ")?.1.split(' ');
    (fields.next() == Some(super::TYPE)).then(|| fields.next())?
}

/// Spaces and some other characters are written as a backslash and three octal digits.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(value) => {
                out.push(value);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// A detached copy of that mount. Needs the right to mount both there and here.
pub fn copy_of(mount: &Elsewhere) -> io::Result<OwnedFd> {
    let namespace = fs::File::open(format!("/proc/{}/ns/mnt", mount.pid))?;
    let path = mount.path.clone();
    // A separate thread enters the namespace: threads share descriptors, but not this namespace.
    let fetch = move || -> io::Result<OwnedFd> {
        // SAFETY: the descriptor table stays shared.
        #[allow(unsafe_code)]
        unsafe {
            unshare_unsafe(UnshareFlags::FS)?;
        }
        let kind = Some(LinkNameSpaceType::Mount);
        move_into_link_name_space(namespace.as_fd(), kind)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, &path, flags)?)
    };
    std::thread::Builder::new()
        .name("fetch".into())
        .spawn(fetch)?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that fetches the mount panicked")))
}

/// Checks whether a process like this one can [`enter`] and then run `test`, or returns the reason: tried by a child that ends at
/// once. This process must be single-threaded.
pub fn trial(test: impl FnOnce() -> io::Result<()>) -> io::Result<Result<(), String>> {
    let (mut answer, mut pipe) = io::pipe()?;
    let child = fork::spawn(|| {
        let said = enter().and_then(|()| test()).map_or_else(|error| error.to_string(), |()| GOOD.to_owned());
        i32::from(pipe.write_all(said.as_bytes()).is_err())
    })?;
    drop(pipe);
    let mut said = String::new();
    let heard = answer.read_to_string(&mut said);
    child.wait()?;
    heard?;
    Ok(match said.as_str() {
        GOOD => Ok(()),
        "" => Err("the child that tested it ended without an answer".to_owned()),
        why => Err(why.to_owned()),
    })
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // The kernel may still count a joined thread for a moment.
    for _ in 0..50 {
        // SAFETY: the descriptor table stays shared.
        #[allow(unsafe_code)]
        match unsafe { unshare_unsafe(flags) } {
            Err(rustix::io::Errno::INVAL) => std::thread::sleep(std::time::Duration::from_millis(1)),
            other => return Ok(other?),
        }
    }
    Err(io::Error::other("this process has several threads"))
}

fn failed(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
