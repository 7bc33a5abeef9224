//! Signals as messages, for a process with one thread that waits for them and for what another process sends it: no handler runs,
//! so nothing is interrupted, and started processes inherit nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use super::mail::Letter;

/// The signals that are taken, and their meaning; SIGHUP has none without a terminal.
const SIGNALS: [(libc::c_int, Option<Letter>); 6] = [
    (libc::SIGTERM, Some(Letter::Terminate)),
    (libc::SIGINT, Some(Letter::Terminate)),
    (libc::SIGHUP, None),
    (libc::SIGUSR1, Some(Letter::Quiet)),
    (libc::SIGUSR2, Some(Letter::Restart)),
    (libc::SIGCHLD, Some(Letter::Ended)),
];

/// Where signals arrive.
#[derive(Debug)]
pub struct Mailbox(File);

impl Mailbox {
    /// From now on signals do nothing by themselves; this process must have one thread.
    pub fn open() -> io::Result<Mailbox> {
        let set = set_of(SIGNALS.map(|(signal, _)| signal));
        // SAFETY: `set` is initialized, and the old mask is not requested.
        #[allow(unsafe_code)]
        let masked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if masked != 0 {
            return Err(io::Error::from_raw_os_error(masked));
        }
        // SAFETY: `set` is initialized; the call returns a new descriptor, which nothing else owns.
        #[allow(unsafe_code)]
        let fd = unsafe {
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Mailbox(fd.into()))
    }

    /// Waits for signals and for any of `from`, at most for the time `most`.
    pub fn wait(&self, from: &[BorrowedFd<'_>], most: Option<Duration>) -> io::Result<Vec<Letter>> {
        let mut watched = vec![PollFd::new(&self.0, PollFlags::IN)];
        watched.extend(from.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let most = most.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut watched, most.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.read()
    }

    /// The pending signals.
    fn read(&self) -> io::Result<Vec<Letter>> {
        let mut letters = Vec::new();
        loop {
            let mut info = [0; size_of::<libc::signalfd_siginfo>()];
            match (&self.0).read(&mut info) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(letters),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // The signal's number is the first field.
            let number = info.first_chunk().map_or(0, |first| i32::from_ne_bytes(*first));
            letters
                .extend(SIGNALS.iter().find(|(signal, _)| *signal == number).and_then(|(_, letter)| *letter));
        }
    }
}

/// Unblocks the signals again, for a fork of a process that had a [`Mailbox`].
pub fn close() {
    let set = set_of(SIGNALS.map(|(signal, _)| signal));
    // SAFETY: `set` is initialized, and the old mask is not requested. It fails for an unknown operation only.
    #[allow(unsafe_code)]
    unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn set_of(signals: impl IntoIterator<Item = libc::c_int>) -> libc::sigset_t {
    // SAFETY: all zeros is a set; these calls fail for a number that is no signal only, and ours are.
    #[allow(unsafe_code)]
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// False if `fd` is broken, such as a device whose file system is gone.
pub fn is_whole(fd: impl AsFd) -> bool {
    now(fd).is_some_and(|found| !found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
}

/// True if there is something to read from `fd`, or it is at its end.
pub fn is_readable(fd: impl AsFd) -> bool {
    now(fd).is_some_and(|found| !found.is_empty())
}

fn now(fd: impl AsFd) -> Option<PollFlags> {
    let mut watched = [PollFd::new(&fd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&at_once)).ok().map(|_| watched[0].revents())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::sys::process::fork;

    #[test]
    fn signals_come_as_letters_and_not_to_copies() {
        let child = fork::spawn(|| {
            let mailbox = Mailbox::open().unwrap();
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1).unwrap();
            let quiet = mailbox.wait(&[], None).unwrap() == [Letter::Quiet];
            let copy = fork::spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            let copy = copy.unwrap();
            copy.kill(false);
            let ended = mailbox.wait(&[], None).unwrap() == [Letter::Ended];
            let by = copy.try_wait().unwrap().and_then(|status| status.signal());
            i32::from(!(quiet && ended && by == Some(libc::SIGTERM)))
        });
        assert_eq!(child.unwrap().wait().unwrap().code(), Some(0));
    }

    #[test]
    fn a_pipe_without_a_reader_is_broken() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(is_whole(&writer));
        drop(reader);
        assert!(!is_whole(&writer));
    }
}
