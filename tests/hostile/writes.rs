//! Changes to a mounted space survive: after any kill of the daemon, after a power cut if they were synced, and with
//! a full or failing disk the old state is still there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::faults::Tmpfs;
use crate::common::compare::space_of;
use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{below, detach};
use crate::common::random::Random;
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{is_root, json, run, said, skip, space_path, stderr, store_hash};

const ENOSPC: i32 = 28;
/// The errors of a dead mount: ENOTCONN, and ECONNABORTED while it is dying.
const GONE: [i32; 2] = [107, 103];
/// A large file of the catalog, and the distance between the writers' positions in it.
const SHARED: &str = "plain/big-5MB.bin";
const STRIDE: u64 = 4096 * 3;
/// The operations of one round, in order.
const ROUND: u64 = 9;

/// The last operation of a writer that returned. Writers do what pip does when it unpacks a wheel.
#[derive(Debug, Clone, Copy)]
struct Writer<'a> {
    space: &'a Path,
    number: u64,
}

impl Writer<'_> {
    fn dir(&self, round: u64) -> PathBuf {
        self.space.join(format!("lib-{}", self.number)).join(format!("package-{round}"))
    }

    fn content(&self, round: u64) -> Vec<u8> {
        let len = 10 + usize::try_from((self.number * 31 + round * 977) % 20_000).unwrap();
        format!("writer {} round {round} ", self.number).into_bytes().into_iter().cycle().take(len).collect()
    }

    fn mark(&self, round: u64) -> [u8; 16] {
        let mut mark = *b"mark of 00000000";
        mark[8..].copy_from_slice(&(round + self.number * 1_000_000).to_le_bytes());
        mark
    }

    /// Does the operation `step` of `round`.
    fn operate(&self, round: u64, step: u64) -> io::Result<()> {
        let dir = self.dir(round);
        let file = dir.join("module.tmp");
        match step {
            0 => fs::create_dir_all(&dir),
            1 => OpenOptions::new().write(true).create_new(true).mode(0o640).open(file).map(drop),
            2 => OpenOptions::new().append(true).open(file)?.write_all(&self.content(round)),
            3 => fs::rename(file, dir.join("module.py")),
            4 => fs::set_permissions(dir.join("module.py"), Permissions::from_mode(0o755)),
            5 => symlink("module.py", dir.join("link")),
            6 => fs::hard_link(dir.join("module.py"), dir.join("name")),
            7 => {
                let shared = OpenOptions::new().write(true).open(self.space.join(SHARED))?;
                shared.write_all_at(&self.mark(round), self.number * STRIDE)
            }
            _ if round > 0 => fs::remove_file(self.dir(round - 1).join("link")),
            _ => Ok(()),
        }
    }

    /// Performs operations until one fails; returns how many succeeded.
    fn work(&self, all: &AtomicU64) -> u64 {
        let mut at = 0;
        loop {
            match self.operate(at / ROUND, at % ROUND) {
                Ok(()) => {
                    at += 1;
                    all.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if GONE.contains(&error.raw_os_error().unwrap_or_default()) => return at,
                Err(error) => panic!("writer {} at operation {at}: {error}", self.number),
            }
        }
    }

    /// Checks that every operation that returned is present, and the one after it completely or not at all.
    fn check(&self, answered: u64) {
        for at in 0..answered {
            self.check_one(at / ROUND, at % ROUND, answered);
        }
        let (round, step) = (answered / ROUND, answered % ROUND);
        if step == 2 {
            let found = fs::read(self.dir(round).join("module.tmp")).unwrap();
            assert!(found.is_empty() || found == self.content(round), "half a write: {} bytes", found.len());
        }
    }

    fn check_one(&self, round: u64, step: u64, answered: u64) {
        let (dir, text) =
            (self.dir(round), format!("writer {} round {round} step {step} of {answered}", self.number));
        let later = |other: u64| answered > round * ROUND + other;
        let module = if later(3) || !dir.join("module.tmp").exists() { "module.py" } else { "module.tmp" };
        let read = |name: &str| fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{text}: {error}"));
        match step {
            0 => assert!(dir.is_dir(), "{text}"),
            1 => assert!(dir.join(module).exists(), "{text}"),
            2 => assert!(read(module) == self.content(round), "{text}"),
            3 => assert!(dir.join("module.py").exists() && !dir.join("module.tmp").exists(), "{text}"),
            4 => assert_eq!(
                fs::metadata(dir.join("module.py")).unwrap().permissions().mode() & 0o7777,
                0o755,
                "{text}"
            ),
            // The last step of the next round removes it.
            5 if answered < (round + 1) * ROUND + 8 => {
                assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("module.py"), "{text}");
            }
            6 => assert!(read("name") == self.content(round), "{text}"),
            7 if answered < (round + 1) * ROUND + 7 => {
                let mut mark = [0; 16];
                File::open(self.space.join(SHARED))
                    .unwrap()
                    .read_exact_at(&mut mark, self.number * STRIDE)
                    .unwrap();
                assert_eq!(mark, self.mark(round), "{text}");
            }
            8 if round > 0 => {
                assert!(fs::symlink_metadata(self.dir(round - 1).join("link")).is_err(), "{text}")
            }
            _ => {}
        }
    }
}

fn mount(test_home: &TestHome, io: &str) -> (PathBuf, String) {
    let report =
        json(&test_home.holofs_ok(&["mount", CATALOG, "x", "--mode", "mount", "--io", io, "--json"]));
    (space_path(&report), report["pid"].to_string())
}

/// Lets three writers work until `target` operations returned, or for a second, then kills the daemon at once; returns how many
/// operations of each writer returned.
fn killed_at_work(space: &Path, pid: &str, target: u64) -> Vec<u64> {
    let (all, started) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        let work = |number| Writer { space, number }.work(&all);
        let writers: Vec<_> = (0..3).map(|number| scope.spawn(move || work(number))).collect();
        while all.load(Ordering::Relaxed) < target && started.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_micros(50));
        }
        run(Command::new("kill").args(["-KILL", pid]));
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn kill_loses_no_operation_that_was_answered() {
    const SEED: u64 = 0x5eed_00f5;
    let mut random = Random::new(SEED);
    let mut total = 0;
    for trial in 0..amount(5, 300) {
        let test_home = TestHome::golden(Regime::Gzip);
        let library = store_hash::of(&test_home.hololib().join("library"));
        let (space, pid) = mount(&test_home, ["no-open", "passthrough"][usize::try_from(trial % 2).unwrap()]);
        let answered = killed_at_work(&space, &pid, random.below(300));
        total += answered.iter().sum::<u64>();
        let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
        for (number, &answered) in answered.iter().enumerate() {
            Writer { space: mounted.path(), number: number as u64 }.check(answered);
        }
        assert!(fs::read(mounted.path().join("bin/tool")).is_ok(), "trial {trial}");
        store_hash::assert_unchanged(&test_home.hololib().join("library"), &library);
    }
    assert!(total > 0, "no operation was answered");
    eprintln!("seed {SEED:#x}: {total} operations answered");
}

#[test]
fn mount_without_the_log_of_a_killed_daemon_refuses_and_touches_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (space, _) = mount(&test_home, "no-open");
    fs::write(space.join("new"), "so that there is a state").unwrap();
    test_home.holofs_ok(&["unmount", "x"]);
    let (space, pid) = mount(&test_home, "no-open");
    OpenOptions::new().write(true).open(space.join(SHARED)).unwrap().write_all_at(b"copied up", 0).unwrap();
    run(Command::new("kill").args(["-KILL", &pid]));
    let mut spaces = fs::read_dir(test_home.home().join("holofs/spaces")).unwrap();
    let state = spaces.next().unwrap().unwrap().path();
    fs::remove_file(state.join("state.db-wal")).unwrap();
    for _ in 0..2 {
        let output = test_home.holofs(&["mount", CATALOG, "x", "--mode", "mount"]);
        assert!(!output.status.success(), "a log was lost, and it is mounted");
        assert!(stderr(&output).contains("state.db-wal"), "{}", said(&output));
        assert_eq!(fs::read_dir(state.join("upper")).unwrap().count(), 2, "bytes were touched");
    }
    // The action that the message recommends.
    fs::remove_file(state.join("state.db.open")).unwrap();
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    assert_eq!(fs::read_to_string(mounted.path().join("new")).unwrap(), "so that there is a state");
    assert_ne!(fs::read(mounted.path().join(SHARED)).unwrap()[..9], *b"copied up");
}

/// The holofs directory of a home on its own ext4 image.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(test_home: &TestHome) -> Disk {
        let (image, at) = (test_home.scratch().join("image"), test_home.home().join("holofs"));
        File::create(&image).unwrap().set_len(96 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        fs::create_dir_all(&at).unwrap();
        let disk = Disk { image, at };
        disk.mount();
        disk
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop,errors=remount-ro"]).arg(&self.image).arg(&self.at));
    }

    /// The state after a power cut: the image as it is right now, without data that the kernel has not written yet.
    fn copy(&self, to: &Path) {
        run(Command::new("cp").args(["--sparse=always"]).arg(&self.image).arg(to));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.at).output().unwrap();
    }
}

#[test]
fn what_was_synced_outlives_a_power_cut() {
    if !is_root() || Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return skip("a disk of one's own needs root and mkfs.ext4");
    }
    for trial in 0..amount(1, 20) {
        let test_home = TestHome::golden(Regime::Gzip);
        let disk = Disk::new(&test_home);
        let (space, pid) = mount(&test_home, "no-open");
        let writer = Writer { space: &space, number: trial };
        let answered = 3 * ROUND;
        (0..answered).for_each(|at| writer.operate(at / ROUND, at % ROUND).unwrap());
        for file in [
            space.join(SHARED),
            writer.dir(2).join("module.py"),
            writer.dir(1).join("module.py"),
            writer.dir(0).join("module.py"),
        ] {
            File::open(file).unwrap().sync_all().unwrap();
        }
        for dir in
            [writer.dir(2), writer.dir(1), writer.dir(0), space.join(format!("lib-{trial}")), space.clone()]
        {
            File::open(dir).unwrap().sync_all().unwrap();
        }
        // Not synced, so that some of it can be lost.
        writer.operate(7, 0).unwrap();
        let after = disk.image.with_extension("after");
        disk.copy(&after);
        run(Command::new("kill").args(["-KILL", &pid]));
        below(&test_home.holotree()).iter().for_each(|path| detach(path));
        run(Command::new("umount").arg("-l").arg(&disk.at));
        std::thread::sleep(Duration::from_millis(100));
        fs::rename(&after, &disk.image).unwrap();
        disk.mount();
        let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
        Writer { space: mounted.path(), number: trial }.check(answered);
        drop(mounted);
    }
}

#[test]
fn write_on_a_full_disk_loses_nothing_and_reports_it() {
    if !is_root() {
        return skip("mounting a small disk needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let disk = Tmpfs::mount(&test_home.home().join("holofs"), "3m");
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    let large = mounted.path().join(SHARED);
    let before = fs::read(&large).unwrap();
    fs::write(mounted.path().join("small"), "before").unwrap();
    let outcome = OpenOptions::new().write(true).open(&large).and_then(|file| {
        file.write_all_at(b"x", 0)?;
        file.sync_all()
    });
    assert_eq!(outcome.map_err(|error| error.raw_os_error()), Err(Some(ENOSPC)));
    assert!(fs::read(&large).unwrap() == before, "a file that could not be copied up has changed");
    assert_eq!(fs::read_to_string(mounted.path().join("small")).unwrap(), "before");
    // There is room again: nothing is broken.
    disk.resize("64m");
    OpenOptions::new().write(true).open(&large).unwrap().write_all_at(b"after", 0).unwrap();
    assert_eq!(fs::read(&large).unwrap()[..5], *b"after");
    drop(mounted);
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    assert_eq!(fs::read_to_string(mounted.path().join("small")).unwrap(), "before");
    assert_eq!(fs::read(mounted.path().join(SHARED)).unwrap()[..5], *b"after");
    drop(mounted);
}

#[test]
fn write_on_a_disk_that_turns_read_only_is_an_error_and_reading_goes_on() {
    if !is_root() || Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return skip("a disk of one's own needs root and mkfs.ext4");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let disk = Disk::new(&test_home);
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    fs::write(mounted.path().join("written"), "before").unwrap();
    File::open(mounted.path().join("written")).unwrap().sync_all().unwrap();
    let device = json(&run(Command::new("findmnt").args(["--json", "-o", "SOURCE"]).arg(&disk.at)));
    let device = device["filesystems"][0]["source"].as_str().unwrap().trim_start_matches("/dev/").to_owned();
    let Ok(()) = fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "test") else {
        return skip("ext4 here cannot be made to fail");
    };
    let outcome = fs::write(mounted.path().join("new"), "x");
    assert!(outcome.is_err(), "a write to a failed disk succeeded");
    assert_eq!(fs::read_to_string(mounted.path().join("written")).unwrap(), "before");
    assert!(fs::read(mounted.path().join("bin/tool")).is_ok());
    assert!(space_of(mounted.path()).len() > 90);
    // The disk prevents a clean unmount; the mount must be removed anyway.
    test_home.holofs(&["unmount", "x"]);
    assert!(below(&test_home.holotree()).is_empty());
    std::mem::forget(mounted);
}
