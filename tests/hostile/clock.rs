//! Clock changes: files, locks and mounts with times in the future or the distant past are treated correctly, neither as dead nor as live.
//!
//! `faketime` sets the program's clock; the kernel dates files by the real one. So under a clock ten days back
//! everything on disk is from the future, as after a correction of the machine's clock.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{daemons_of, kill_mount};
use crate::common::test_home::TestHome;
use crate::common::{json, run, said, skip, space_path, stdout, until};

/// The library that changes the clock; `None` if it is not installed.
fn library() -> Option<String> {
    let output = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output().ok()?;
    output.status.success().then(|| stdout(&output).trim().to_owned())
}

/// The program with its clock moved by `shift`, such as `-10d`.
fn at(test_home: &TestHome, library: &str, shift: &str, args: &[&str]) -> Command {
    let mut command = test_home.holofs_command(args);
    command.env("LD_PRELOAD", library).env("FAKETIME", shift);
    // Only the time of day changes; the monotonic clock continues.
    command.env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    command
}

/// Mounts a space whose daemon was killed, checks the files written under the other clocks, writes `name`, and kills the daemon again.
fn mounted(test_home: &TestHome, mount: &mut Command, earlier: &[&str], name: &str) {
    let report = json(&run(mount));
    let (space, pid) = (space_path(&report), u32::try_from(report["pid"].as_u64().unwrap()).unwrap());
    for other in earlier {
        assert_eq!(fs::read_to_string(space.join(other)).unwrap(), *other);
    }
    fs::write(space.join(name), name).unwrap();
    assert_eq!(
        fs::read(space.join("bin/tool")).unwrap().len() as u64,
        fs::metadata(space.join("bin/tool")).unwrap().len()
    );
    kill_mount(pid);
    until(|| daemons_of(test_home).is_empty());
}

/// A lock file that names a holder but is not held, dated by the real clock.
fn mark(test_home: &TestHome) {
    let dir = test_home.hololib().join("pids");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("user___1___filed___4000000___me___global.lck"), "").unwrap();
}

fn assert_clean(materialize: &mut Command, expected: &Path) {
    let report = json(&run(materialize));
    assert_same_space(&space_path(&report), expected);
    assert_eq!((&report["is_new"], &report["is_changed"]), (&false.into(), &false.into()), "{report:#}");
}

#[test]
fn clock_that_jumps_back_or_ahead_changes_nothing() {
    let Some(library) = library() else { return skip("faketime is not installed") };
    let test_home = TestHome::golden(Regime::Gzip);
    let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let mount = ["mount", CATALOG, "x", "--mode", "mount", "--json"];
    let place = ["materialize", CATALOG, "interop", "--controller", "golden", "--allow-setuid", "--json"];
    mark(&test_home);
    mounted(&test_home, &mut test_home.holofs_command(&mount), &[], "now");
    assert_same_space(&space_path(&json(&test_home.holofs_ok(&place))), &expected);
    let started = Instant::now();
    let mut earlier = vec!["now"];
    for shift in ["-10d", "+10d", "-4000d"] {
        let shown = stdout(&run(&mut at(&test_home, &library, shift, &["list"])));
        let age = if shift == "+10d" { " 10 days ago" } else { " 0 days ago" };
        assert!(shown.contains(age), "{shift}: {shown}");
        mounted(&test_home, &mut at(&test_home, &library, shift, &mount), &earlier, shift);
        earlier.push(shift);
        assert_clean(&mut at(&test_home, &library, shift, &place), &expected);
        let output = at(&test_home, &library, shift, &["gc"]).output().unwrap();
        assert!(output.status.success(), "{shift}: {}", said(&output));
    }
    // No command waited for the holder, which does not exist.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    for name in earlier {
        assert_eq!(fs::read_to_string(mounted.path().join(name)).unwrap(), name);
    }
    drop(mounted);
    assert_clean(&mut test_home.holofs_command(&place), &expected);
}
