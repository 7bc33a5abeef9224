//! `holofs build` and `record` that SIGINT or SIGTERM ends: nothing is left, whatever they were doing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use holofs::sys::process::Process;

use super::build::{build, hooked_uv, python, requirements, stage, tool};
use crate::common::test_home::TestHome;
use crate::common::uv::uv;
use crate::common::{run, said, until};

/// A file of this size is recorded slowly enough to be interrupted.
const LONG: &str = "600M";
/// Both are requests to end.
const SIGNALS: [&str; 2] = ["INT", "TERM"];

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
}

/// The files in the library.
fn blobs(test_home: &TestHome) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![test_home.hololib().join("library")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

/// True while a blob is being written.
fn is_storing(test_home: &TestHome) -> bool {
    blobs(test_home).iter().any(|path| path.to_string_lossy().contains(".part#"))
}

#[track_caller]
fn assert_nothing_is_left(test_home: &TestHome, what: &str) {
    assert_eq!(stage(test_home), None, "{what}: the stage");
    assert_eq!(blobs(test_home), Vec::<PathBuf>::new(), "{what}: blobs");
    assert_eq!(test_home.catalogs(), [""; 0], "{what}: catalogs");
}

fn long_file(path: &Path) {
    run(Command::new("truncate").args(["-s", LONG]).arg(path));
}

#[test]
fn record_that_is_interrupted_leaves_nothing() {
    for sent in SIGNALS {
        let test_home = TestHome::new();
        let dir = test_home.scratch().join("h59acff1_493f813dad24d3t");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("short"), "x").unwrap();
        long_file(&dir.join("long"));
        let mut child = start(test_home.holofs_command(&["record", dir.to_str().unwrap(), "--name", "a"]));
        until(|| is_storing(&test_home));
        signal(&child, sent);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{sent}");
        fs::create_dir_all(test_home.holotree()).unwrap();
        assert_nothing_is_left(&test_home, sent);
    }
}

#[test]
fn build_that_is_interrupted_while_it_records_leaves_nothing() {
    let Some(uv) = uv() else { return };
    for sent in SIGNALS {
        let test_home = TestHome::new();
        let file = requirements(&test_home);
        let hook = format!(
            "for word; do case $word in */bin/python3) truncate -s {LONG} \"${{word%/bin/python3}}/long\" ;; esac; done"
        );
        let hooked = hooked_uv(&test_home, &uv, "sync", true, &hook);
        let mut child = start(build(&test_home, &hooked, &["--offline", &file]));
        until(|| is_storing(&test_home));
        signal(&child, sent);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{sent}");
        assert_nothing_is_left(&test_home, sent);
    }
}

#[test]
fn build_that_is_interrupted_while_uv_finds_python_ends_at_once() {
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let started = test_home.scratch().join("started");
    let text = format!("#!/bin/sh\ntouch {}\nexec sleep 600\n", started.display());
    let slow = tool(&test_home, "slow-uv", &text);
    for sent in SIGNALS {
        let mut command = test_home.holofs_command(&["build", &file]);
        command.env("HOLOFS_UV", &slow);
        let mut child = start(command);
        until(|| started.exists());
        signal(&child, sent);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{sent}");
        assert_nothing_is_left(&test_home, sent);
        fs::remove_file(&started).unwrap();
    }
}

#[test]
fn build_and_record_that_are_interrupted_while_they_wait_for_the_lock_end_at_once() {
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let slow = tool(&test_home, "slow-uv", "#!/bin/sh\nexec sleep 600\n");
    let mut first = start(build(&test_home, &slow, &[&file]));
    until(|| stage(&test_home).is_some());
    let dir = test_home.scratch().join("h59acff1_493f813dad24d3t");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.to_str().unwrap();
    let other = ["--python", &python(), &file];
    for args in [&["build", other[0], other[1], other[2]][..], &["record", path, "--name", "a"][..]] {
        let mut command = test_home.holofs_command(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // It says so after a moment.
        let mut line = String::new();
        let stderr = child.stderr.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
        signal(&child, "TERM");
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(15), "{args:?} said {line}");
    }
    signal(&first, "INT");
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert_nothing_is_left(&test_home, "the lock");
}

#[test]
fn build_that_is_interrupted_in_an_upgrade_keeps_the_nearest_catalog_alone() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let output = build(&test_home, &uv, &["--offline", &file]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let (catalogs, stored) = (test_home.catalogs(), blobs(&test_home));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}--no-binary nothing\n")).unwrap();
    for (step, is_after, sent) in
        [("compile", true, "TERM"), ("sync", false, "INT"), ("sync", true, "TERM"), ("sync", true, "INT")]
    {
        let hooked =
            hooked_uv(&test_home, &uv, step, is_after, &format!("kill -s {sent} $PPID; exec sleep 600"));
        let output = build(&test_home, &hooked, &["--offline", &file]).output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{step} {sent}: {}", said(&output));
        assert_eq!((test_home.catalogs(), blobs(&test_home)), (catalogs.clone(), stored.clone()));
        assert_eq!(stage(&test_home), None, "{step} {sent}");
        let spaces = test_home.holofs_ok(&["list", "--json"]);
        assert_eq!(String::from_utf8_lossy(&spaces.stdout).trim(), "{}", "{step} {sent}");
    }
}

#[test]
fn build_that_is_interrupted_ends_what_its_tool_started() {
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let own = test_home.scratch().join("pid");
    // The name is complete when it appears.
    let text = format!(
        "#!/bin/sh\nsh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600' &\nwait\n",
        own.display()
    );
    let slow = tool(&test_home, "slow-uv", &text);
    let mut child = start(build(&test_home, &slow, &[&file]));
    until(|| own.exists());
    let pid = fs::read_to_string(&own).unwrap().trim().parse().unwrap();
    let started = Process::with_id(pid);
    assert!(started.is_alive());
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until(|| !started.is_alive());
    assert_nothing_is_left(&test_home, "a tool of the tool");
}
