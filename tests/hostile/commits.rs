//! A change of a mounted space while one system call of the daemon fails: it is done, or it returns an error and is not done; and
//! the next change works.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::trace;
use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::server;
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{is_root, run, skip};

/// `strace` on a running process; it makes system calls fail until it is dropped.
struct Failing(Child);

impl Failing {
    fn attach(pid: &str, call: &str, error: &str, number: usize) -> Failing {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", pid, "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:error={error}:when={number}")]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // strace prints a line when it is attached.
        let mut message = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut message).unwrap();
        assert!(message.contains("attached"), "{message}");
        std::thread::spawn(move || stderr.read_to_string(&mut String::new()));
        Failing(child)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        run(Command::new("kill").args(["-INT", &self.0.id().to_string()]));
        self.0.wait().unwrap();
    }
}

/// The system call with which SQLite locks and unlocks.
const LOCKS: &str = "fcntl";
/// How long the change after a failure may take: SQLite retries for ten seconds to get a lock that it could not release itself.
const LONGEST: Duration = Duration::from_secs(20);

/// A kind of change, how it is applied to the `n`-th file, and the result of a successful change.
type Change = (&'static str, fn(&Path) -> std::io::Result<()>, fn(&Path) -> bool);

const CHANGES: [Change; 6] = [
    ("mkdir", |at| fs::create_dir(at.join("dir")), |at| at.join("dir").is_dir()),
    ("create", |at| fs::File::create_new(at.join("new")).map(drop), |at| at.join("new").exists()),
    ("remove", |at| fs::remove_file(at.join("old")), |at| !at.join("old").exists()),
    ("rename", |at| fs::rename(at.join("a"), at.join("b")), |at| !at.join("a").exists()),
    (
        "truncate",
        |at| fs::File::options().write(true).open(at.join("long"))?.set_len(5),
        |at| fs::metadata(at.join("long")).unwrap().len() == 5,
    ),
    (
        "truncate a file of the catalog",
        |at| fs::File::options().write(true).open(at.join("module.py"))?.set_len(0),
        |at| fs::metadata(at.join("module.py")).unwrap().len() == 0,
    ),
];

/// A directory with everything that the changes need; `from`, a file of the catalog, is moved into it.
fn prepare(space: &Path, from: &Path, number: usize) -> PathBuf {
    let at = space.join(format!("trial-{number}"));
    fs::create_dir(&at).unwrap();
    for name in ["old", "a", "long"] {
        fs::write(at.join(name), name.repeat(100)).unwrap();
    }
    fs::rename(from, at.join("module.py")).unwrap();
    at
}

#[test]
fn commit_whose_system_call_fails_is_done_or_not_and_the_next_one_works() {
    if !trace::is_available() || !is_root() {
        return skip("failures are injected by strace into a daemon");
    }
    let calls = [
        (LOCKS, "ENOLCK"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("ftruncate", "ENOSPC"),
        ("utimensat", "ENOSPC"),
        ("unlinkat", "EIO"),
        ("openat", "ENOSPC"),
    ];
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    let (space, pid) = (mounted.path(), server(mounted.report()).to_string());
    let mut of_catalog = files(space);
    let (mut number, mut failed) = (0, 0);
    for (call, error) in calls {
        for at in 1..=amount(4, 12) {
            // All changes use the same lock.
            let changes = if call == LOCKS { amount(1, 2) } else { CHANGES.len() };
            for (what, change, is_done) in CHANGES.into_iter().take(changes) {
                number += 1;
                let from = of_catalog.pop().unwrap();
                let dir = prepare(space, &from, number);
                let message = format!("{what}, {call} number {at}: {error}");
                let failing = Failing::attach(&pid, call, error, at);
                let result = change(&dir);
                drop(failing);
                failed += usize::from(result.is_err());
                assert_eq!(is_done(&dir), result.is_ok(), "{message}: {result:?}");
                let started = Instant::now();
                fs::create_dir(dir.join("next")).unwrap_or_else(|error| panic!("after {message}: {error}"));
                let waited = started.elapsed();
                assert!(waited < LONGEST, "after {message}: the next change took {waited:?}");
                fs::create_dir(dir.join("and another")).unwrap();
                assert!(
                    started.elapsed() < waited + Duration::from_secs(5),
                    "after {message}: every change waits"
                );
                fs::rename(dir.join("module.py"), &from).unwrap();
                if fs::metadata(&from).unwrap().len() > 0 {
                    of_catalog.push(from);
                }
            }
        }
    }
    assert!(failed > 0, "nothing failed in {number} trials");
    eprintln!("{number} trials, {failed} failed");
}

/// The files with content below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        match meta.file_type() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() && meta.len() > 0 => found.push(path),
            _ => {}
        }
    }
    found
}
