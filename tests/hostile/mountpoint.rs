//! The mountpoint: an attacker who swaps it, chooses its name, or mounts over it gains nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{below, daemons_of, detach, is_alive, is_mounted, wait_for_no_daemon};
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, json, run, said, skip, space_path, stderr, stdout, until_or};

/// Swaps the directory at `place` with a link to `victim` until `stop`, and counts the swaps.
fn swap(place: &Path, victim: &Path, stop: &AtomicBool, swaps: &AtomicU32) {
    let aside = place.with_extension("aside");
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(place, &aside).is_ok() {
            if symlink(victim, place).is_ok() {
                std::thread::sleep(Duration::from_micros(u64::from(
                    swaps.fetch_add(1, Ordering::Relaxed) % 300,
                )));
                fs::remove_file(place).unwrap_or_default();
            }
            fs::rename(&aside, place).unwrap_or_default();
        }
        std::thread::sleep(Duration::from_micros(u64::from(swaps.load(Ordering::Relaxed) % 700)));
    }
}

/// Makes the thread end even if the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn mount_on_a_mountpoint_swapped_for_a_link_never_goes_elsewhere() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "race", "user", &[]);
    let place = mounted.path().to_owned();
    mounted.unmount();
    let victim = test_home.scratch().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "precious").unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&place, &victim, &stop, &swaps));
        let _stop = StopAtEnd(&stop);
        let started = Instant::now();
        while swaps.load(Ordering::Relaxed) < amount(2_000, 50_000)
            && started.elapsed() < Duration::from_secs(120)
        {
            let output = test_home.holofs(&["mount", CATALOG, "race", "--mode", "mount", "--wait", "0"]);
            refused += u32::from(!output.status.success());
            assert!(!is_mounted(&victim), "the victim was mounted on: {}", said(&output));
            assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "precious");
            // On our own directory, under any name: it may be renamed exactly during the mount.
            let own = [place.clone(), place.with_extension("aside")];
            assert!(
                below(&test_home.holotree()).iter().all(|point| own.contains(point)),
                "{}",
                said(&output)
            );
            test_home.holofs(&["unmount", "race"]);
            below(&test_home.holotree()).iter().for_each(|path| detach(path));
        }
    });
    assert!(!is_mounted(&victim));
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    eprintln!("{} swaps, {refused} mounts refused", swaps.load(Ordering::Relaxed));
    wait_for_no_daemon(&test_home);
}

/// The mounted space and the process that serves it, without the guard that expects `unmount` to work.
fn start(test_home: &TestHome) -> (PathBuf, String) {
    let report = json(&test_home.holofs_ok(&["mount", CATALOG, "x", "--json"]));
    (space_path(&report), report["pid"].to_string())
}

#[test]
fn unmount_keeps_a_mount_stacked_over_ours() {
    if !is_root() {
        return skip("stacking a mount needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let (root, pid) = start(&test_home);
    run(Command::new("mount").args(["-t", "tmpfs", "stacked"]).arg(&root));
    fs::write(root.join("precious"), "precious").unwrap();
    run(Command::new("kill").args(["-TERM", &pid]));
    wait_for_no_daemon(&test_home);
    assert_eq!(fs::read_to_string(root.join("precious")).unwrap(), "precious");
    run(Command::new("umount").arg(&root));
    // Our mount is below it, dead: the next mount removes it.
    test_home.mount(CATALOG, "x", "user", &[]).unmount();
    assert!(below(&test_home.holotree()).is_empty());
}

#[test]
fn unmount_never_removes_a_mount_stacked_over_a_live_or_dead_one() {
    if !is_root() {
        return skip("stacking a mount needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let (root, _) = start(&test_home);
    for is_dead in [false, true] {
        if is_dead {
            let daemons = daemons_of(&test_home);
            daemons.iter().for_each(|pid| run_kill(*pid));
            wait_for_no_daemon(&test_home);
        }
        run(Command::new("mount").args(["-t", "tmpfs", "stacked"]).arg(&root));
        fs::write(root.join("precious"), "precious").unwrap();
        for args in [
            &["unmount", "x"][..],
            &["unmount", "x", "--lazy"],
            &["mount", CATALOG, "x"],
            &["materialize", CATALOG, "x"],
            &["gc"],
            &["delete", "x"],
        ] {
            let output = test_home.holofs(args);
            let there = fs::read_to_string(root.join("precious"));
            assert_eq!(
                there.ok().as_deref(),
                Some("precious"),
                "{args:?}, dead {is_dead}: {}",
                said(&output)
            );
        }
        run(Command::new("umount").arg(&root));
    }
    test_home.holofs(&["unmount", "x", "--lazy"]);
    below(&test_home.holotree()).iter().for_each(|path| detach(path));
    wait_for_no_daemon(&test_home);
}

fn run_kill(pid: u32) {
    run(Command::new("kill").args(["-KILL", &pid.to_string()]));
}

#[test]
fn mount_refuses_a_link_in_the_place_of_a_space() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "x", "user", &[]);
    let place = mounted.path().to_owned();
    mounted.unmount();
    let victim = test_home.scratch();
    fs::remove_dir(&place).unwrap();
    symlink(&victim, &place).unwrap();
    let output = test_home.holofs(&["mount", CATALOG, "x"]);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(!is_mounted(&victim) && below(&test_home.holotree()).is_empty());
    wait_for_no_daemon(&test_home);
}

#[test]
fn mount_takes_no_name_of_a_space_as_an_option_or_a_path() {
    let test_home = TestHome::golden(Regime::Gzip);
    let names =
        ["x,allow_other,dev,suid", "x\\,allow_other", "-oallow_other", "../../../x", "/etc", "a b\u{2028}c"];
    for name in names {
        for (space, controller) in [(name, "user"), ("x", name)] {
            let controller = format!("--controller={controller}");
            let args = ["mount", &controller, "--json", "--", CATALOG, space];
            let root = space_path(&json(&test_home.holofs_ok(&args)));
            assert_eq!(root.parent(), Some(test_home.holotree().as_path()), "{name}");
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let line = table.lines().find(|line| line.contains(root.to_str().unwrap())).unwrap();
            let options = line.split(' ').nth(5).unwrap();
            assert!(options.contains("nosuid") && options.contains("nodev"), "{name}: {line}");
            assert!(!line.contains("allow_other"), "{name}: {line}");
            test_home.holofs_ok(&["unmount", &controller, "--", space]);
        }
    }
    for name in ["", "x\nallow_other", "x\u{1b}[31m"] {
        assert_eq!(test_home.holofs(&["mount", CATALOG, name]).status.code(), Some(exit::USAGE), "{name:?}");
        let controller = format!("--controller={name}");
        let output = test_home.holofs(&["mount", CATALOG, "x", &controller]);
        assert_eq!(output.status.code(), Some(exit::USAGE), "controller {name:?}: {}", stdout(&output));
    }
    assert!(below(&test_home.holotree()).is_empty());
}

#[test]
fn unmount_lazily_with_open_files_names_the_daemon_that_serves_them() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]);
    let open = fs::File::open(mounted.path().join("bin/tool")).unwrap();
    let output = test_home.holofs_fails(&["unmount", "x", "--lazy"], exit::BUSY);
    let said = stderr(&output);
    let daemon = format!("process {}", mounted.report()["pid"]);
    assert!(said.contains("is unmounted") && said.contains(&daemon), "{said}");
    assert!(said.contains("end the programs that have them open"), "{said}");
    assert!(!is_mounted(mounted.path()));
    // Until its last file is closed, the space is not available; afterwards it is.
    test_home.holofs_fails(&["mount", CATALOG, "x"], exit::BUSY);
    drop(open);
    let have_ended = || !mounted.daemons().iter().any(|pid| is_alive(*pid));
    until_or(have_ended, || "the daemon outlives its last file".to_owned());
    std::mem::forget(mounted);
    test_home.mount(CATALOG, "x", "user", &["--mode", "mount"]).unmount();
}
