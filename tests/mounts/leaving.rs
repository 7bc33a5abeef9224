//! The server of a run outlives the mount for a moment: commands that change the space wait for it.

use std::fs;
use std::process::Stdio;

use crate::common::golden::CATALOG;
use crate::common::mounted::{daemons_of, detach, is_mounted, kill_mount};
use crate::common::{exit, is_root, json, namespace, skip, space_path, until};
use crate::company::{is_up, root_of, start, test_home};

#[test]
fn commands_after_a_run_wait_for_a_copy_of_its_mount_that_passes() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = test_home();
    let commands: [&[&str]; 4] = [
        &["commit", "ns", "--name", "next"],
        &["reset", "ns"],
        &["delete", "ns"],
        &["ht", "delete", "-s", "ns"],
    ];
    let script = format!("echo x >{}/new; echo up; cat >/dev/null", root_of(&test_home, "ns").display());
    for command in commands {
        let mut child = start(&test_home, "ns", &script);
        is_up(&mut child);
        let mut stranger = namespace::unshare(&test_home, &["-m"])
            .args(["sh", "-c", "echo up; exec sleep 0.7"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        is_up(&mut stranger);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none(), "the copy is gone already: this shows nothing");
        test_home.holofs_ok(command);
        stranger.wait().unwrap();
    }
}

#[test]
fn mount_of_a_killed_run_goes_though_its_state_was_deleted() {
    let test_home = test_home();
    let mut child = start(&test_home, "ns", "echo up; cat >/dev/null");
    is_up(&mut child);
    child.kill().unwrap();
    // The server may be writing to it.
    until(|| fs::remove_dir_all(test_home.home().join("holofs")).is_ok());
    drop(child.stdin.take());
    child.wait().unwrap();
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn dead_mount_that_was_never_recorded_is_listed_and_removed() {
    for remove in [&["gc"][..], &["unmount", "ns"]] {
        let test_home = test_home();
        let report = json(&test_home.holofs_ok(&["mount", CATALOG, "ns", "--json"]));
        let root = space_path(&report);
        let label = root.file_name().unwrap().to_str().unwrap();
        kill_mount(report["pid"].as_u64().unwrap().try_into().unwrap());
        // The order in which a server writes them; a kill can come before each.
        fs::remove_file(test_home.home().join(format!("holofs/spaces/{label}/mount.json"))).unwrap();
        fs::remove_file(root.with_extension("meta")).ok();
        assert_eq!(json(&test_home.holofs_ok(&["list", "--json"]))[label]["holofs"]["state"], "dead");
        let would = json(&test_home.holofs_ok(&["gc", "--dry-run", "--json"]));
        assert_eq!(would["mounts"], serde_json::json!([root]));
        assert!(is_mounted(&root));
        let output = test_home.holofs(remove);
        let is_left = is_mounted(&root);
        if is_left {
            detach(&root);
        }
        assert!(output.status.success() && !is_left, "{remove:?}: {output:?}");
    }
}

#[test]
fn unrecorded_mount_is_not_removed_from_under_a_command() {
    let test_home = test_home();
    let root = root_of(&test_home, "ns");
    let mut child = start(&test_home, "ns", "echo up; cat >/dev/null; true");
    is_up(&mut child);
    let label = root.file_name().unwrap().to_str().unwrap();
    let list = json(&test_home.holofs_ok(&["list", "--json"]));
    kill_mount(list[label]["holofs"]["pid"].as_u64().unwrap().try_into().unwrap());
    fs::remove_file(test_home.home().join(format!("holofs/spaces/{label}/mount.json"))).unwrap();
    test_home.holofs_fails(&["unmount", "ns"], exit::BUSY);
    // Without a record it is unknown whether the files below are of the same catalog.
    test_home.holofs_fails(&["unmount", "ns", "--lazy"], exit::BUSY);
    let kept = json(&test_home.holofs_ok(&["gc", "--json"]))["kept"].to_string();
    assert!(is_mounted(&root) && kept.contains(label), "{kept}");
    drop(child.stdin.take());
    child.wait().unwrap();
    test_home.holofs_ok(&["unmount", "ns"]);
    assert!(!is_mounted(&root));
}

#[test]
fn mount_of_others_at_a_path_that_is_not_utf8_hides_none_of_ours() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = test_home();
    let script = format!(
        r#"set -e; cd {}; {holofs} mount {CATALOG} ns
        strange=$(printf '\377'); mkdir "$strange"; mount -t tmpfs none "$strange"
        {holofs} unmount ns; ! grep -a fuse.holofs.*{} /proc/self/mountinfo"#,
        test_home.scratch().display(),
        test_home.home().display(),
        holofs = env!("CARGO_BIN_EXE_holofs")
    );
    let output = namespace::unshare(&test_home, &["-m"]).args(["bash", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    until(|| daemons_of(&test_home).is_empty());
}
