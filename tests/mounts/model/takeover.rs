//! A mount whose server is killed and replaced, over and over, under programs that change it: each operation happens once and
//! gets the right result, open files keep working, and nothing is left over.
//!
//! The test holds the device, like a supervisor; the servers are this same program, started for the test `server`.
#![allow(clippy::print_stderr, reason = "prints numbers")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holofs::fs::fuse::{Handshake, Session, Telemetry};
use holofs::fs::upper::Access;
use holofs::fs::vfs::shared_counts;
use holofs::sys::fs::counts::Counts;
use holofs::sys::mount::{self, MountId, Mountpoint, Options};
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};

use super::bare::Bare;
use crate::common::soak::amount;
use crate::common::{is_root, skip, until_or};

/// The directory of the space, for a server.
const STATE: &str = "HOLOFS_TEST_TAKEOVER_STATE";
/// Where the reference counts are, for a server.
const COUNTS: &str = "HOLOFS_TEST_TAKEOVER_COUNTS";
/// The handshake of the first server with the kernel, in the directory of the space.
const HANDSHAKE: &str = "handshake.json";

/// A mount whose connection this test holds.
struct Held {
    temp: tempfile::TempDir,
    device: OwnedFd,
    id: MountId,
    counts: Counts,
    server: Child,
}

impl Held {
    fn new() -> Held {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["state", "space"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        let inodes = Bare::served(&temp.path().join("state"), Access::ReadOnly).index().len();
        let counts = shared_counts(inodes).unwrap();
        let point = Mountpoint::open(&temp.path().join("space")).unwrap();
        let (device, id) = mount::mount_fuse(&point, Options::default()).unwrap();
        let server = serve(temp.path(), &device, &counts);
        Held { temp, device, id, counts, server }
    }

    fn space(&self) -> PathBuf {
        self.temp.path().join("space")
    }

    fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    /// Kills the server and starts the next one; returns how long no request was answered.
    fn kill(&mut self) -> Duration {
        let started = Instant::now();
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        self.server = serve(self.temp.path(), &self.device, &self.counts);
        rustix::fs::statfs(self.space()).unwrap(); // never cached
        started.elapsed()
    }

    fn end(&mut self) {
        mount::detach(&self.space(), self.id).unwrap();
        // Nothing is open, so the connection ends, and then the server ends.
        let has_ended = || self.server.try_wait().unwrap().is_some();
        until_or(has_ended, || "the server outlives its mount".to_owned());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        mount::detach(&self.space(), self.id).ok();
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn serve(temp: &Path, device: &OwnedFd, counts: &Counts) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["model::takeover::server", "--exact", "--ignored", "--nocapture"]);
    command.env(STATE, temp.join("state"));
    let counts = counts.file().as_raw_fd();
    command.env(COUNTS, format!("/proc/{}/fd/{counts}", std::process::id()));
    command.stdin(Stdio::from(device.try_clone().unwrap())).stdout(Stdio::null());
    command.spawn().unwrap()
}

#[test]
#[ignore = "it is a server, started by the other tests"]
fn server() {
    let (Some(state), Some(counts)) = (std::env::var_os(STATE), std::env::var_os(COUNTS)) else { return };
    let (state, handshake) = (PathBuf::from(&state), PathBuf::from(&state).join(HANDSHAKE));
    let device = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let counts = Counts::of(File::options().read(true).write(true).open(counts).unwrap()).unwrap();
    let known: Option<Handshake> =
        fs::read(&handshake).ok().map(|text| serde_json::from_slice(&text).unwrap());
    let access = if known.is_some() { Access::TakenOver } else { Access::Outliving };
    let vfs = Arc::new(Bare::served(&state, access).counting_in(counts));
    let session = match known {
        Some(known) => Session::take_over(vfs, device, 2, Telemetry::default(), known).unwrap(),
        None => {
            let session = Session::start_for_takeover(vfs, device, 2, Telemetry::default()).unwrap();
            fs::write(&handshake, serde_json::to_vec(session.handshake()).unwrap()).unwrap();
            session
        }
    };
    session.run().unwrap();
}

/// Performs all operations on names and checks the results until it is time to stop; returns the number of rounds.
fn work(dir: &Path, stop: &AtomicBool) -> usize {
    let check = |what: &str, round: usize, done: io::Result<()>| {
        done.unwrap_or_else(|error| panic!("{} round {round}: {what}: {error}", dir.display()));
    };
    check("mkdir", 0, fs::create_dir(dir));
    let mut log = OpenOptions::new().append(true).create_new(true).open(dir.join("log")).unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let at = dir.join(round.to_string());
        let path = |name: &str| at.join(name);
        let check = |what: &str, done: io::Result<()>| check(what, round, done);
        check("mkdir", fs::create_dir(&at));
        check("append", writeln!(log, "{round}"));
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path("f")).unwrap();
        check("write", file.write_all(&[b'x'; 5000]));
        check("rename", fs::rename(path("f"), path("g")));
        check("link", fs::hard_link(path("g"), path("h")));
        check("symlink", symlink("nowhere", path("s")));
        let set = rustix::fs::setxattr(path("h"), "user.a", b"1", XattrFlags::CREATE);
        check("setxattr", set.map_err(io::Error::from));
        check("removexattr", rustix::fs::removexattr(path("h"), "user.a").map_err(io::Error::from));
        let exchanged = renameat_with(CWD, path("g"), CWD, path("s"), RenameFlags::EXCHANGE);
        check("exchange", exchanged.map_err(io::Error::from));
        assert!(fs::symlink_metadata(path("g")).unwrap().is_symlink(), "exchanged twice");
        for name in ["g", "s", "h"] {
            check("unlink", fs::remove_file(path(name)));
        }
        check("rmdir", fs::remove_dir(&at));
        // It has no name any more, but still works.
        check("write to an unlinked file", file.write_all_at(b"still here", 4000));
        let mut found = Vec::new();
        file.rewind().unwrap();
        check("read an unlinked file", file.read_to_end(&mut found).map(drop));
        assert!(found.len() == 5000 && found[4000..4010] == *b"still here");
        round += 1;
    }
    round
}

#[test]
fn programs_do_not_notice_that_their_server_is_killed() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut held = Held::new();
    let (stop, space) = (AtomicBool::new(false), held.space());
    let kept = OpenOptions::new().read(true).append(true).create_new(true).open(space.join("kept")).unwrap();
    fs::remove_file(space.join("kept")).unwrap();
    let (rounds, mut outages) = std::thread::scope(|scope| {
        let work = |number: usize| {
            let (dir, stop) = (space.join(format!("writer-{number}")), &stop);
            scope.spawn(move || work(&dir, stop))
        };
        let writers: Vec<_> = (0..3).map(work).collect();
        let outages: Vec<Duration> = (0..amount(100, 10_000))
            .map(|kill: u64| {
                std::thread::sleep(Duration::from_micros(kill * 7919 % 30_000));
                let outage = held.kill();
                (&kept).write_all(b"one more\n").unwrap();
                outage
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<usize> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        (rounds, outages)
    });
    for (number, &rounds) in rounds.iter().enumerate() {
        let dir = space.join(format!("writer-{number}"));
        let expected: String = (0..rounds).map(|round| format!("{round}\n")).collect();
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), expected);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
    assert_eq!(kept.metadata().unwrap().len(), 9 * outages.len() as u64);
    drop(kept);
    outages.sort();
    eprintln!(
        "{} kills, outage {:?} / {:?} / {:?}, rounds of 17 operations: {rounds:?}",
        outages.len(),
        outages[0],
        outages[outages.len() / 2],
        outages[outages.len() - 1],
    );
    held.end();
    // The next mount finds only the inodes with names.
    drop(Bare::served(&held.state(), Access::Writable));
    assert_eq!(fs::read_dir(held.state().join("upper")).unwrap().count(), rounds.len());
}
