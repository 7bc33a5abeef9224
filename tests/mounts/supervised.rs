//! A mount whose server dies: another server takes over, and programs do not notice; and the cases in which the mount ends.
#![allow(clippy::print_stderr, reason = "prints numbers")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{
    daemons_of, end_by_force, is_mounted, kill, make_progress, server_of, wait_for_no_daemon,
};
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{is_root, json, number_field, skip, space_path, until};

/// The maximum time that a program waits for an answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The maximum private memory of a supervisor; a debug build has larger tables than a release build.
const SMALL_KIB: u64 = 1536;

/// The private dirty memory of a process, in KiB. Clean pages are program text, which the kernel can drop.
fn private_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter_map(|line| line.strip_prefix("Private_Dirty"));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// A mount and its supervisor.
struct Supervised {
    test_home: TestHome,
    path: PathBuf,
    pid: u32,
}

impl Supervised {
    fn new(more: &[&str]) -> Supervised {
        let test_home = TestHome::golden(Regime::Gzip);
        let (path, pid) = mount(&test_home, more);
        Supervised { test_home, path, pid }
    }

    /// Kills the server; returns how long no request was answered.
    fn kill_server(&self) -> Duration {
        let started = Instant::now();
        until(|| server_of(self.pid).is_some());
        kill(server_of(self.pid).unwrap());
        rustix::fs::statfs(&self.path).unwrap(); // never cached
        let outage = started.elapsed();
        make_progress(&self.path);
        outage
    }

    fn log(&self) -> String {
        fs::read_to_string(log_of(&self.test_home)).unwrap()
    }

    fn is_dead(&self) -> bool {
        // Opening it would cause no request.
        let error = rustix::fs::statfs(&self.path).err().map(|error| io::Error::from(error).kind());
        matches!(error, Some(io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        end_by_force(&self.test_home, "s", &self.path);
    }
}

fn log_of(test_home: &TestHome) -> PathBuf {
    let spaces = test_home.home().join("holofs/spaces");
    fs::read_dir(spaces).unwrap().next().unwrap().unwrap().path().join("log")
}

fn mount(test_home: &TestHome, more: &[&str]) -> (PathBuf, u32) {
    let mut args = vec!["mount", CATALOG, "s", "--mode", "mount", "--json"];
    args.extend(more);
    let report = json(&test_home.holofs_ok(&args));
    (space_path(&report), u32::try_from(number_field(&report, "pid")).unwrap())
}

/// Appends, creates, renames, reads and removes until it is time to stop; returns the number of rounds. Nothing may fail.
fn work(dir: &Path, stop: &AtomicBool) -> usize {
    let mut log = OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
    let mut unlinked =
        File::options().read(true).write(true).create_new(true).open(dir.join("gone")).unwrap();
    fs::remove_file(dir.join("gone")).unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let (new, last) = (dir.join(format!("{round}.tmp")), dir.join(round.to_string()));
        let check = |what: &str, done: io::Result<()>| {
            done.unwrap_or_else(|error| panic!("{} round {round}: {what}: {error}", dir.display()));
        };
        check("append", writeln!(log, "{round}"));
        check("write", fs::write(&new, round.to_string()));
        check("rename", fs::rename(&new, &last));
        let mut text = String::new();
        check("read", File::open(&last).and_then(|mut file| file.read_to_string(&mut text)).map(drop));
        assert_eq!(text, round.to_string());
        check("mkdir", fs::create_dir(&new));
        check("rmdir", fs::remove_dir(&new));
        check("write to an unlinked file", unlinked.write_all(b"x"));
        if round % 10 != 0 {
            check("unlink", fs::remove_file(&last));
        }
        round += 1;
    }
    let mut byte = [0];
    unlinked.read_exact_at(&mut byte, u64::try_from(round).unwrap() - 1).unwrap();
    round
}

fn assert_complete(dir: &Path, rounds: usize) {
    let lines: Vec<String> =
        fs::read_to_string(dir.join("log")).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines, (0..rounds).map(|round| round.to_string()).collect::<Vec<_>>());
    let mut left: Vec<usize> = fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..rounds).step_by(10).collect::<Vec<_>>());
}

#[test]
fn takeover_of_a_killed_server_is_no_error_for_any_program() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Supervised::new(&[]);
    // Nothing was written yet, so there is no written state to take over.
    let early = mount.kill_server();
    let dirs = ["one", "two"].map(|name| mount.path.join(name));
    dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let stop = AtomicBool::new(false);
    let (rounds, mut outages) = std::thread::scope(|scope| {
        let workers: Vec<_> = dirs.iter().map(|dir| scope.spawn(|| work(dir, &stop))).collect();
        let kills = (0..amount(100, 10_000)).map(|kill: u64| {
            // Spread over everything that the programs do, without being random.
            std::thread::sleep(Duration::from_millis(20 + kill * 37 % 101));
            mount.kill_server()
        });
        let outages: Vec<Duration> = kills.collect();
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<usize> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        (rounds, outages)
    });
    outages.push(early);
    outages.sort_unstable();
    let (min, median, max) = (outages[0], outages[outages.len() / 2], outages[outages.len() - 1]);
    eprintln!("{} kills, {rounds:?} rounds; outage {min:?} / {median:?} / {max:?}", outages.len());
    assert!(max < PATIENCE, "{max:?}");
    let private = private_kib(mount.pid);
    eprintln!("the supervisor has {private} KiB of its own");
    assert!(private <= SMALL_KIB, "{private} KiB");
    for (dir, &rounds) in dirs.iter().zip(&rounds) {
        assert_complete(dir, rounds);
    }
    let stats = stats_of(&mount.path);
    assert_eq!(number_field(&stats, "deaths"), outages.len() as u64);
    mount.test_home.holofs_ok(&["unmount", "s"]);
    wait_for_no_daemon(&mount.test_home);
    self::mount(&mount.test_home, &[]);
    for (dir, &rounds) in dirs.iter().zip(&rounds) {
        assert_complete(dir, rounds);
    }
}

fn stats_of(path: &Path) -> serde_json::Value {
    let mut value = vec![0; 64 << 10];
    let len = rustix::fs::getxattr(path, "user.holofs.stats", &mut value[..]).unwrap();
    serde_json::from_slice(&value[..len]).unwrap()
}

#[test]
fn takeover_works_for_read_only_and_transient_mounts() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Supervised::new(&["--read-only"]);
    let before = fs::read_dir(&mount.path).unwrap().count();
    mount.kill_server();
    assert_eq!(fs::read_dir(&mount.path).unwrap().count(), before);
    assert!(mount.log().contains("another one takes over"), "{}", mount.log());
    let listed = json(&mount.test_home.holofs_ok(&["list", "--json"]));
    let listed = listed.as_object().unwrap().values().next().unwrap()["holofs"].clone();
    assert_eq!(
        (listed["version"].as_str(), number_field(&listed, "pid")),
        (Some(env!("CARGO_PKG_VERSION")), mount.pid.into())
    );
    drop(mount);
    let test_home = TestHome::golden(Regime::Gzip);
    // The command kills the server of its own mount, and continues.
    let script = "echo a > \"$CONDA_PREFIX\"/new && for i in 1 2 3; do \
        supervisor=$(sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' \"$ROBOCORP_HOME\"/holofs/spaces/*/mount.json); \
        kill -KILL $(cat /proc/$supervisor/task/$supervisor/children); \
        echo $i >> \"$CONDA_PREFIX\"/new || exit 3; done; cat \"$CONDA_PREFIX\"/new";
    let output = test_home.holofs_ok(&["run", CATALOG, "s", "--", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\n1\n2\n3\n");
    wait_for_no_daemon(&test_home);
}

#[test]
fn kill_of_the_supervisor_ends_the_mount_and_loses_nothing_written() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut mount = Supervised::new(&[]);
    for both in [false, true] {
        let file = mount.path.join(format!("written-{both}"));
        fs::write(&file, "kept").unwrap();
        if both {
            mount.kill_server();
            fs::write(&file, "kept still").unwrap();
            kill(server_of(mount.pid).unwrap());
        }
        kill(mount.pid);
        until(|| mount.is_dead() && daemons_of(&mount.test_home).is_empty());
        let (path, pid) = self::mount(&mount.test_home, &[]);
        assert_eq!(path, mount.path);
        mount.pid = pid;
        let expected = if both { "kept still" } else { "kept" };
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    }
}

/// Appends lines, and creates and renames a file for each, until an operation fails; `complete` counts the rounds.
fn journal(dir: &Path, complete: &AtomicUsize) {
    let mut log = OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
    let step = |round: usize, log: &mut File| -> io::Result<()> {
        let (new, last) = (dir.join(".part"), dir.join(format!("f{round}")));
        fs::write(&new, round.to_string())?;
        fs::rename(&new, &last)?;
        log.write_all(format!("{round}\n").as_bytes()) // as one write
    };
    while step(complete.load(Ordering::Relaxed), &mut log).is_ok() {
        complete.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_returned_before_the_supervisor_or_both_processes_were_killed_is_there() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut mount = Supervised::new(&[]);
    let (mut done, rounds) = (0, amount(20, 2_000));
    for round in 0..rounds {
        let (path, complete) = (mount.path.clone(), Arc::new(AtomicUsize::new(done)));
        let counted = Arc::clone(&complete);
        let writer = std::thread::spawn(move || journal(&path, &counted));
        until(|| complete.load(Ordering::Relaxed) > done);
        // Spread over everything that the program does, without being random.
        std::thread::sleep(Duration::from_millis(round * 37 % 101));
        match round % 3 {
            0 => kill(mount.pid),
            1 => [Some(mount.pid), server_of(mount.pid)].into_iter().flatten().for_each(kill),
            _ => [server_of(mount.pid), Some(mount.pid)].into_iter().flatten().for_each(kill),
        }
        writer.join().unwrap();
        let complete = complete.load(Ordering::Relaxed);
        until(|| mount.is_dead() && daemons_of(&mount.test_home).is_empty());
        let (path, pid) = self::mount(&mount.test_home, &[]);
        assert_eq!(path, mount.path);
        mount.pid = pid;
        let log = fs::read_to_string(path.join("log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        // The last operation of all may have been done without an answer.
        let expected: Vec<String> = (0..lines.len()).map(|line| line.to_string()).collect();
        assert!(lines == expected, "round {round}: {:?}", &lines[lines.len() - 2..]);
        assert!([complete, complete + 1].contains(&lines.len()), "round {round}: {complete} {}", lines.len());
        assert!((0..complete).all(|file| path.join(format!("f{file}")).is_file()), "round {round}");
        assert_eq!(
            fs::read_to_string(path.join(format!("f{}", complete - 1))).unwrap(),
            (complete - 1).to_string()
        );
        done = lines.len();
    }
    eprintln!("{rounds} supervisors were killed, {done} lines");
}

#[test]
fn servers_that_die_at_once_end_the_mount_and_no_program_hangs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Supervised::new(&[]);
    fs::write(mount.path.join("written"), "kept").unwrap();
    let reader = {
        let path = mount.path.clone();
        std::thread::spawn(move || {
            // It waits in the kernel for a request that no server answers, until the mount is given up.
            while rustix::fs::statfs(&path).is_ok() {
                std::thread::sleep(Duration::from_millis(200));
            }
        })
    };
    let started = Instant::now();
    while !daemons_of(&mount.test_home).is_empty() {
        server_of(mount.pid).into_iter().for_each(kill);
        assert!(started.elapsed() < Duration::from_secs(60), "it never ends");
        std::thread::sleep(Duration::from_millis(1));
    }
    until(|| reader.is_finished());
    reader.join().unwrap();
    assert!(mount.is_dead());
    let log = mount.log();
    assert!(log.contains("is dead, and programs in it get"), "{log}");
    assert!(log.contains("5 servers ended within 10 s without progress"), "{log}");
    self::mount(&mount.test_home, &[]);
    assert_eq!(fs::read_to_string(mount.path.join("written")).unwrap(), "kept");
}

#[test]
fn signals_to_the_supervisor_unmount_though_servers_died() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Supervised::new(&[]);
    let mut open = File::create(mount.path.join("open")).unwrap();
    mount.kill_server();
    let pid = rustix::process::Pid::from_raw(i32::try_from(mount.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until(|| !is_mounted(&mount.path));
    open.write_all(b"served until it is closed").unwrap();
    drop(open);
    wait_for_no_daemon(&mount.test_home);
    assert!(!mount.log().contains("is dead"), "{}", mount.log());
}

#[test]
fn a_server_that_never_answers_ends_the_mount_in_time_and_no_program_hangs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Supervised::new(&[]);
    fs::write(mount.path.join("written"), "kept").unwrap();
    // The next server is stopped before it serves; if that was too late, the one after it.
    let mut server = server_of(mount.pid).unwrap();
    let (waiting, started) = loop {
        kill(server);
        let started = Instant::now();
        let next = || server_of(mount.pid).filter(|&next| next != server);
        until(|| next().is_some());
        server = next().unwrap();
        let stopped = rustix::process::Pid::from_raw(i32::try_from(server).unwrap()).unwrap();
        rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
        let path = mount.path.clone();
        let waiting = std::thread::spawn(move || rustix::fs::statfs(&path).map(drop));
        std::thread::sleep(Duration::from_millis(500));
        if !waiting.is_finished() && !mount.log().contains("Another server took over") {
            break (waiting, started);
        }
        rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
        assert!(waiting.join().unwrap().is_ok());
        assert!(started.elapsed() < PATIENCE, "no server was stopped before it served");
        make_progress(&mount.path);
        File::options().write(true).truncate(true).open(log_of(&mount.test_home)).unwrap();
    };
    while !waiting.is_finished() {
        assert!(started.elapsed() < Duration::from_secs(60), "it waits for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer = waiting.join().unwrap().map_err(io::Error::from).map_err(|error| error.kind());
    assert!(
        matches!(answer, Err(io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)),
        "{answer:?}"
    );
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(9), "the deadline is ten seconds, not {waited:?}");
    until(|| daemons_of(&mount.test_home).is_empty());
    assert!(mount.is_dead());
    let log = mount.log();
    assert!(log.contains("is dead, and programs in it get"), "{log}");
    assert!(log.contains("no server answered in time"), "{log}");
    self::mount(&mount.test_home, &[]);
    assert_eq!(fs::read_to_string(mount.path.join("written")).unwrap(), "kept");
}
