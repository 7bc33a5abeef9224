//! The laws of a space used by several commands, in several mount namespaces, while other programs change its mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{daemons_of, detach, is_mounted};
use crate::common::namespace;
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, json, run, said, skip, space_path, stderr, stdout, until};

/// Prints how many entries of the tree the command sees.
const SEE: &str = "ls \"$CONDA_PREFIX\" | wc -l";

pub fn test_home() -> TestHome {
    TestHome::golden(Regime::Gzip)
}

/// A running command in a space.
pub fn start(test_home: &TestHome, space: &str, script: &str) -> Child {
    let mut command = test_home.holofs_command(&["run", CATALOG, space, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn in_run(test_home: &TestHome, space: &str, script: &str) -> Output {
    test_home.holofs(&["run", CATALOG, space, "--", "sh", "-c", script])
}

/// The command printed `up`, so the space is mounted.
pub fn is_up(child: &mut Child) {
    let mut said = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"up\n");
}

fn entries(output: &Output) -> u32 {
    assert!(output.status.success(), "{}", said(output));
    stdout(output).split_whitespace().last().unwrap().parse().unwrap()
}

/// The path at which the space is mounted.
pub fn root_of(test_home: &TestHome, space: &str) -> PathBuf {
    let path = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, space, "--json"])));
    test_home.holofs_ok(&["unmount", space]);
    path
}

#[test]
fn runs_that_overlap_keep_the_tree_until_the_last_one_ends() {
    let test_home = test_home();
    let mut first = start(&test_home, "two", "echo up; cat >/dev/null");
    is_up(&mut first);
    let mut second = start(&test_home, "two", &format!("echo up; {SEE}; cat >/dev/null; {SEE}"));
    is_up(&mut second);
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    drop(second.stdin.take());
    let output = second.wait_with_output().unwrap();
    let said = stdout(&output);
    let seen: Vec<&str> = said.split_whitespace().collect();
    assert!(output.status.success() && seen.len() == 2 && seen[0] == seen[1] && seen[0] != "0", "{said}");
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn run_finds_the_tree_while_a_background_process_of_the_last_one_has_it() {
    let test_home = test_home();
    // It stays in the tree until its stdin ends.
    let mut child =
        start(&test_home, "bg", "cd \"$CONDA_PREFIX\" && (cat <&3 >/dev/null 2>&1 &) 3<&0; echo up");
    is_up(&mut child);
    let stdin = child.stdin.take();
    assert!(child.wait().unwrap().success());
    let seen = in_run(&test_home, "bg", SEE);
    assert_ne!(entries(&seen), 0, "{}", said(&seen));
    assert!(!daemons_of(&test_home).is_empty(), "the tree went away below a process");
    drop(stdin);
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn run_that_is_killed_leaves_no_mount() {
    let test_home = test_home();
    let root = root_of(&test_home, "killed");
    let mut child = start(&test_home, "killed", "echo up; exec cat >/dev/null");
    is_up(&mut child);
    assert!(is_mounted(&root));
    child.kill().unwrap();
    child.wait().unwrap();
    until(|| !is_mounted(&root) && daemons_of(&test_home).is_empty());
}

#[test]
fn six_runs_of_a_new_space_all_see_it() {
    let test_home = test_home();
    for mode in ["auto", "materialize"] {
        let start = |_: u32| {
            let args = ["--wait", "60", "run", "--mode", mode, CATALOG, mode, "--", "sh", "-c", SEE];
            test_home.holofs_command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<Child> = (0..6).map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_ne!(entries(&output), 0, "{}", said(&output));
        }
    }
}

#[test]
fn mount_twice_is_one_mount_and_stays_after_a_run() {
    let test_home = test_home();
    let mounted = test_home.mount(CATALOG, "kept", "user", &[]);
    let again = test_home.holofs_ok(&["mount", CATALOG, "kept"]);
    assert_eq!(stdout(&again).trim(), mounted.path().to_str().unwrap());
    assert_ne!(entries(&in_run(&test_home, "kept", SEE)), 0);
    assert!(is_mounted(mounted.path()));
    // `mount` turns the mount of a run into a permanent one.
    let mut child = start(&test_home, "made", "echo up; cat >/dev/null");
    is_up(&mut child);
    let made = test_home.mount(CATALOG, "made", "user", &[]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(is_mounted(made.path()));
}

#[test]
fn unmount_names_who_uses_the_space_and_waits_for_them_by_default() {
    let test_home = test_home();
    let mut child = start(&test_home, "used", "echo up; cat >/dev/null");
    is_up(&mut child);
    let refused = test_home.holofs_fails(&["unmount", "used"], exit::BUSY);
    let who = format!("process {} (sh -c echo up; cat >/dev/null)", child.id());
    assert!(stderr(&refused).contains(&who), "{}", stderr(&refused));
    test_home.holofs_ok(&["unmount", "used", "--lazy"]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn options_on_a_live_space_are_kept_or_refused() {
    let test_home = test_home();
    let mounted = test_home.mount(CATALOG, "live", "user", &["--io", "no-open"]);
    fs::write(mounted.path().join("written"), "x").unwrap();
    let pid = mounted.report()["pid"].as_u64().unwrap();
    for (options, why) in [
        (vec!["--fresh"], "--fresh would drop what is in use"),
        (vec!["--read-only"], "--read-only, but it is read-write"),
        (vec!["--io", "passthrough"], "--io passthrough, but it is no-open"),
    ] {
        for command in ["mount", "run"] {
            let mut args = vec![command];
            args.extend(&options);
            args.extend([CATALOG, "live"]);
            args.extend(["--", "true"].iter().filter(|_| command == "run"));
            let refused = test_home.holofs_fails(&args, exit::BUSY);
            let said = stderr(&refused);
            assert!(said.contains(why) && said.contains(&format!("process {pid}")), "{args:?}: {said}");
        }
    }
    assert!(mounted.path().join("written").is_file());
}

#[test]
fn run_ends_whatever_copy_of_its_mount_is_in_another_namespace() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = test_home();
    let mut child = start(&test_home, "ns", "echo up; cat >/dev/null");
    is_up(&mut child);
    let mut stranger = namespace::unshare(&test_home, &["-m"])
        .args(["sh", "-c", "echo up; cat >/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    is_up(&mut stranger);
    let started = Instant::now();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && started.elapsed() < Duration::from_secs(8), "{}", said(&output));
    assert!(stderr(&output).contains("is unmounted here; a copy of the mount in the namespace of process"));
    // The next run gets it back from there.
    assert_ne!(entries(&in_run(&test_home, "ns", SEE)), 0);
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn isolated_run_keeps_no_mount_of_others_alive() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = test_home();
    let root = root_of(&test_home, "other");
    let mut other = start(&test_home, "other", "echo up; cat >/dev/null");
    is_up(&mut other);
    let script = format!(
        "echo up; cat >/dev/null; grep -F {} /proc/self/mountinfo | grep -c fuse; true",
        root.display()
    );
    let args = ["run", "--isolate", CATALOG, "isolated", "--", "sh", "-c", &script];
    let mut isolated = test_home.holofs_command(&args);
    let mut isolated = isolated.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    is_up(&mut isolated);
    drop(other.stdin.take());
    let output = other.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // Its daemon has ended, so nothing of it is in use.
    test_home.holofs_ok(&["run", "--fresh", CATALOG, "other", "--", "true"]);
    drop(isolated.stdin.take());
    assert_eq!(stdout(&isolated.wait_with_output().unwrap()), "0\n");
}

#[test]
fn run_gets_a_mount_of_another_namespace() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = test_home();
    let script = format!(
        "{} mount {CATALOG} far >/dev/null && echo up && cat >/dev/null",
        env!("CARGO_BIN_EXE_holofs")
    );
    let mut other = namespace::unshare(&test_home, &["-m"])
        .args(["sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    is_up(&mut other);
    assert_ne!(entries(&in_run(&test_home, "far", SEE)), 0);
    let refused = test_home.holofs_fails(&["unmount", "far"], exit::BUSY);
    assert!(stderr(&refused).contains("not mounted here, but in the mount namespace of process"));
    drop(other.stdin.take());
    other.wait().unwrap();
    test_home.holofs(&["unmount", "far", "--force"]);
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn mount_works_right_after_another_program_unmounted_it() {
    if !is_root() {
        return skip("umount(8) needs root");
    }
    let test_home = test_home();
    for _ in 0..10 {
        let path = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "hand", "--json"])));
        detach(&path);
        let again = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "hand", "--json"])));
        assert!(again == path && is_mounted(&path));
        test_home.holofs_ok(&["unmount", "hand"]);
    }
}

#[test]
fn run_does_not_start_while_a_detached_tree_has_open_files() {
    if !is_root() {
        return skip("umount(8) needs root");
    }
    let test_home = test_home();
    let path = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "det", "--json"])));
    let open = fs::File::open(path.join("bin/tool")).unwrap();
    detach(&path);
    let refused = test_home.holofs(&["--wait", "1", "run", CATALOG, "det", "--", "true"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(stderr(&refused).contains("still serves files that are open"), "{}", said(&refused));
    drop(open);
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn unmount_takes_only_our_own_mount() {
    if !is_root() {
        return skip("mounting a tmpfs needs root");
    }
    let test_home = test_home();
    let path = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "stacked", "--json"])));
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&path));
    fs::write(path.join("precious"), "x").unwrap();
    let refused = test_home.holofs_fails(&["unmount", "stacked"], exit::BUSY);
    assert!(stderr(&refused).contains("Another mount is on top of"), "{}", stderr(&refused));
    assert!(path.join("precious").is_file());
    run(Command::new("umount").arg(&path));
    test_home.holofs_ok(&["unmount", "stacked"]);
}

/// RCC's lock of the space, held until dropped.
fn rcc_lock(root: &Path) -> fs::File {
    let lock = fs::File::options().create(true).append(true).open(root.with_extension("lck")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn mount_waits_for_the_lock_of_rcc_no_longer_than_it_may() {
    let test_home = test_home();
    let root = root_of(&test_home, "wait");
    let lock = rcc_lock(&root);
    let started = Instant::now();
    let refused = test_home.holofs_fails(&["mount", "--wait", "1", CATALOG, "wait"], exit::BUSY);
    assert!(started.elapsed() < Duration::from_secs(8), "{}", said(&refused));
    drop(lock);
    until(|| daemons_of(&test_home).is_empty());
    assert!(!is_mounted(&root));
}

#[test]
fn mount_that_is_killed_while_it_waits_mounts_nothing_later() {
    let test_home = test_home();
    let root = root_of(&test_home, "dead");
    let lock = rcc_lock(&root);
    let mut child =
        test_home.holofs_command(&["mount", CATALOG, "dead"]).stderr(Stdio::null()).spawn().unwrap();
    // The command, the supervisor, and the server that waits.
    until(|| daemons_of(&test_home).len() == 3);
    child.kill().unwrap();
    child.wait().unwrap();
    until(|| daemons_of(&test_home).is_empty());
    drop(lock);
    assert!(!is_mounted(&root));
    test_home.mount(CATALOG, "dead", "user", &[]).unmount();
}

/// The entry of `list` for the space with this root.
fn listed(test_home: &TestHome, root: &Path) -> serde_json::Value {
    let label = root.file_name().unwrap().to_str().unwrap();
    json(&test_home.holofs_ok(&["list", "--json"]))[label].clone()
}

#[test]
fn list_shows_the_state_and_the_users_of_a_space() {
    let test_home = test_home();
    let mut child = start(&test_home, "s", "echo up; cat >/dev/null");
    is_up(&mut child);
    let rows = json(&test_home.holofs_ok(&["list", "--json"]));
    let row = rows.as_object().unwrap().values().next().unwrap().clone();
    assert_eq!((row["holofs"]["state"].as_str(), row["space"].as_str()), (Some("live"), Some("s")));
    let root = PathBuf::from(row["path"].as_str().unwrap());
    let lease = &row["holofs"]["leases"][0];
    assert_eq!(lease["pid"].as_u64(), Some(child.id().into()));
    assert_eq!(lease["command"].as_str(), Some("sh -c echo up; cat >/dev/null"));
    // It still serves open files, but is no longer mounted.
    let held = fs::File::open(root.join(fs::read_dir(&root).unwrap().next().unwrap().unwrap().file_name()));
    if is_root() {
        detach(&root);
        assert_eq!(listed(&test_home, &root)["holofs"]["state"], "leaving");
    }
    drop((held, child.stdin.take()));
    child.wait().unwrap();
    until(|| daemons_of(&test_home).is_empty());
    assert_eq!(listed(&test_home, &root)["holofs"]["state"], "absent");
    let files = test_home.materialize(CATALOG, "f", "user");
    assert_eq!(listed(&test_home, &files)["holofs"]["state"], "files");
}

#[test]
fn list_shows_all_of_a_mount_as_soon_as_it_exists() {
    let test_home = test_home();
    for round in 0..5 {
        let space = format!("new{round}");
        let mounted = test_home.mount(CATALOG, &space, "someone", &[]);
        let row = listed(&test_home, mounted.path());
        let said = ["space", "controller", "blueprint"].map(|field| row[field].as_str().unwrap().to_owned());
        let blueprint = mounted.report()["blueprint"].as_str().unwrap().to_owned();
        assert_eq!(said, [space, "rcc.someone".to_owned(), blueprint]);
        assert_eq!(row["holofs"]["state"], "live");
    }
}

/// Kills every process of the home's mounts.
fn kill_daemons(test_home: &TestHome) {
    kill_daemons_but(test_home, 0);
}

/// Like [`kill_daemons`], except for the command `spared`.
fn kill_daemons_but(test_home: &TestHome, spared: u32) {
    until(|| {
        let pids: Vec<u32> = daemons_of(test_home).into_iter().filter(|pid| *pid != spared).collect();
        for pid in &pids {
            Command::new("kill").args(["-9", &pid.to_string()]).output().unwrap();
        }
        pids.is_empty()
    });
}

#[test]
fn gc_removes_what_was_left_by_commands_that_were_killed() {
    let test_home = test_home();
    let mounted = test_home.mount(CATALOG, "dead", "user", &[]);
    let root = mounted.path().to_owned();
    let label = root.file_name().unwrap().to_str().unwrap();
    let base = test_home.holotree();
    // RCC's mark is written after the mount answers; without it the space is not listed later.
    until(|| base.join(format!("{label}.meta")).exists());
    std::mem::forget(mounted);
    kill_daemons(&test_home);
    assert_eq!(listed(&test_home, &root)["holofs"]["state"], "dead");
    let state = test_home.home().join("holofs/spaces").join(label);
    let tree = base.join(format!("{label}.holofs-tmp"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(base.join(format!("{label}.meta.holofs-tmp")), "x").unwrap();
    fs::create_dir_all(state.join("leases")).unwrap();
    fs::write(state.join("leases/1-1"), "{}").unwrap();
    // A space whose state cannot be read blocks no other space.
    let blocked = test_home.home().join("holofs/spaces/0000000_0000000_00000000");
    fs::create_dir_all(&blocked).unwrap();
    fs::write(blocked.join("mount.json"), "not JSON").unwrap();
    fs::create_dir_all(blocked.join("lock")).unwrap();
    let said = json(&test_home.holofs_ok(&["gc", "--json", "--dry-run"]));
    assert_eq!(said["mounts"][0].as_str(), root.to_str());
    assert!(is_mounted(&root) && tree.exists());
    let said = json(&test_home.holofs_ok(&["gc", "--json"]));
    assert_eq!(said["mounts"][0].as_str(), root.to_str(), "{said:#}");
    assert!(!is_mounted(&root) && !tree.exists(), "{said:#}");
    assert!(!base.join(format!("{label}.meta.holofs-tmp")).exists());
    assert!(!state.join("mount.json").exists() && !state.join("leases/1-1").exists(), "{said:#}");
    assert_eq!(listed(&test_home, &root)["holofs"]["state"], "absent");
}

#[test]
fn umount_right_after_a_mount_is_not_busy_because_of_readahead() {
    if !is_root() {
        return skip("umount(8) needs root");
    }
    let test_home = test_home();
    // The files that this run reads are read ahead from now on.
    test_home.holofs_ok(&[
        "run",
        CATALOG,
        "ahead",
        "--",
        "sh",
        "-c",
        "cat \"$CONDA_PREFIX\"/*/* >/dev/null 2>&1; true",
    ]);
    let root = root_of(&test_home, "ahead");
    let mut busy = Vec::new();
    for _ in 0..20 {
        test_home.holofs_ok(&["mount", CATALOG, "ahead"]);
        let output = Command::new("umount").arg(&root).output().unwrap();
        if !output.status.success() {
            busy.push(stderr(&output));
            test_home.holofs_ok(&["unmount", "ahead"]);
        }
    }
    assert!(busy.is_empty(), "{busy:?}");
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn run_keeps_its_tree_though_the_server_was_killed() {
    let test_home = test_home();
    let mut child =
        start(&test_home, "used", "echo up; cat >/dev/null; cat \"$CONDA_PREFIX\"/identity.yaml | wc -c");
    is_up(&mut child);
    kill_daemons_but(&test_home, child.id());
    let refused = test_home.holofs_fails(&["run", "--fresh", CATALOG, "used", "--", "true"], exit::BUSY);
    assert!(stderr(&refused).contains(&format!("process {}", child.id())), "{}", stderr(&refused));
    test_home.holofs_fails(&["reset", "used"], exit::BUSY);
    // The same tree comes back, also for the command that had it.
    let mounted = test_home.mount(CATALOG, "used", "user", &[]);
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stdout(&output).trim() != "0", "{}", said(&output));
    mounted.unmount();
}

#[test]
fn mount_keeps_what_rcc_writes_right_after_it() {
    let test_home = test_home();
    for round in 0..6 {
        let space = format!("rcc{round}");
        let mounted = test_home.mount(CATALOG, &space, "user", &[]);
        let sibling = |end: &str| {
            let label = mounted.path().file_name().unwrap().to_str().unwrap().to_owned();
            test_home.holotree().join(label + end)
        };
        // As RCC does: under its lock, at some moment before or after ours.
        let lock =
            fs::File::options().create(true).truncate(false).write(true).open(sibling(".lck")).unwrap();
        lock.lock().unwrap();
        fs::write(sibling(".new"), "RCC's").unwrap();
        fs::rename(sibling(".new"), sibling(".meta")).unwrap();
        drop(lock);
        until(|| sibling(".use").exists());
        assert_eq!(fs::read_to_string(sibling(".meta")).unwrap(), "RCC's", "round {round}");
        mounted.unmount();
    }
}
