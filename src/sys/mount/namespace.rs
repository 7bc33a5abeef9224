//! A mount namespace of our own, with a user namespace where that is what gives the right to mount.
//!
//! Nothing that is mounted in it is seen outside, and all of it ends with the last process in it. The user keeps its own
//! number: files are owned as before, and a program that is run gets no capability from it.
//!
//! A user namespace cannot be left again. So whoever wants to go on without one if it is of no use tries it in a child first.

use std::fs;
use std::io::{self, Read, Write};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::sys::process::fork;

/// What a child says if all went well.
const GOOD: &str = "good";

/// Moves this process to a new mount namespace. It must have one thread.
pub fn enter() -> io::Result<()> {
    match enter_as_mounter() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            enter_as_user()?;
            receive_only()
        }
        other => other,
    }
}

/// As [`enter`], for a process that may mount; one that fails has given nothing up.
pub fn enter_as_mounter() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    receive_only()
}

/// What is mounted outside still appears in here; nothing goes out.
fn receive_only() -> io::Result<()> {
    let inward = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    mount_change("/", inward).map_err(|errno| failed("the mounts cannot be made private", errno.into()))
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

/// Whether a process like this one can [`enter`] and then do `test`, or why not in words: tried by a child that ends at once.
/// This process must have one thread.
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
        "" => Err("the child that tried it ended without a word".to_owned()),
        why => Err(why.to_owned()),
    })
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // A thread that was joined may be counted by the kernel a moment longer.
    for _ in 0..50 {
        // SAFETY: the descriptor table stays as it is.
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
