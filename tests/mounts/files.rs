//! The same commands work for spaces of files as for mounts: changes stay, are listed, and can be undone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::is_mounted;
use crate::common::test_home::TestHome;
use crate::common::{exit, json, said, space_path, stderr, stdout};

fn test_home() -> TestHome {
    TestHome::golden(Regime::Gzip)
}

/// The space `s`, laid out by a command that prints `true`.
fn laid_out(test_home: &TestHome) -> PathBuf {
    let report = test_home.holofs_ok(&["mount", CATALOG, "s", "--mode", "materialize", "--json"]);
    space_path(&json(&report))
}

/// A plain file of at least ten bytes, and a directory with files, both of the golden tree.
fn some_of(root: &Path) -> (PathBuf, PathBuf) {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let dirs: Vec<PathBuf> = below(root).into_iter().filter(|it| it.is_dir() && !it.is_symlink()).collect();
    let is_file = |path: &PathBuf| {
        fs::symlink_metadata(path)
            .is_ok_and(|it| it.is_file() && it.len() > 10 && it.permissions().mode() & 0o200 != 0)
    };
    let file = below(root)
        .into_iter()
        .find(is_file)
        .or_else(|| dirs.iter().flat_map(|dir| below(dir)).find(is_file));
    let dir = dirs.into_iter().find(|dir| fs::read_dir(dir).is_ok_and(|mut all| all.next().is_some()));
    (file.unwrap(), dir.unwrap())
}

/// Makes one change of each kind; returns the expected output of `diff`, sorted by path.
fn change(root: &Path) -> String {
    let (file, dir) = some_of(root);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    let mut content = fs::read(&file).unwrap();
    content[3] ^= 1;
    fs::write(&file, content).unwrap(); // of the same size
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode(), mode);
    fs::create_dir(root.join("zz-new")).unwrap();
    fs::write(root.join("zz-new/inner"), "x").unwrap();
    let removed =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).find(|it| *it != file && !it.is_dir());
    let shown = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let mut lines = vec![
        (shown(&file), format!("C {}", shown(&file))),
        ("zz-new".to_owned(), "A zz-new/".to_owned()),
        ("zz-new/inner".to_owned(), "A zz-new/inner".to_owned()),
    ];
    if let Some(gone) = removed {
        fs::remove_file(&gone).unwrap();
        lines.push((shown(&gone), format!("R {}", shown(&gone))));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

#[test]
fn diff_and_reset_mean_the_same_for_files_and_for_a_mount() {
    let test_home = test_home();
    let root = laid_out(&test_home);
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "s"])), "");
    let said_of_files = change(&root);
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "s"])), said_of_files);
    let mounted = test_home.mount(CATALOG, "m", "user", &[]);
    let said_of_mount = change(mounted.path());
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "m"])), said_of_mount);
    assert_eq!(said_of_files, said_of_mount);
    // One path alone, then everything.
    test_home.holofs_ok(&["reset", "s", "zz-new"]);
    assert!(!root.join("zz-new").exists());
    let left: Vec<&str> = said_of_files.lines().filter(|line| !line.contains("zz-new")).collect();
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "s"])), left.join("\n") + "\n");
    test_home.holofs_ok(&["reset", "s"]);
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "s", "--verify"])), "");
    let other = space_path(&json(&test_home.holofs_ok(&["materialize", CATALOG, "other", "--json"])));
    let (file, _) = some_of(&root);
    let same = other.join(file.strip_prefix(&root).unwrap());
    assert_eq!(fs::read(file).unwrap().len(), fs::read(same).unwrap().len());
}

#[test]
fn verify_finds_a_change_with_its_time_put_back() {
    let test_home = test_home();
    let root = laid_out(&test_home);
    let (file, _) = some_of(&root);
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let mut content = fs::read(&file).unwrap();
    content[0] ^= 1;
    fs::write(&file, content).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_ne!(stdout(&test_home.holofs_ok(&["diff", "s", "--verify"])), "");
    test_home.holofs_ok(&["reset", "s"]);
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "s", "--verify"])), "");
}

#[test]
fn runs_in_files_find_what_the_last_one_wrote_until_it_is_dropped() {
    let test_home = test_home();
    let run = |more: &[&str], script: &str| {
        let args =
            [&["run", "--mode", "materialize"], more, &[CATALOG, "s", "--", "sh", "-c", script]].concat();
        stdout(&test_home.holofs_ok(&args))
    };
    run(&[], "echo x >\"$CONDA_PREFIX/written\"");
    assert_eq!(run(&[], "cat \"$CONDA_PREFIX/written\""), "x\n");
    assert_eq!(run(&["--fresh"], "ls \"$CONDA_PREFIX/written\" 2>/dev/null || echo gone"), "gone\n");
    run(&[], "echo x >\"$CONDA_PREFIX/written\"");
    test_home.holofs_ok(&["materialize", CATALOG, "s", "--fresh"]);
    assert_eq!(run(&[], "ls \"$CONDA_PREFIX/written\" 2>/dev/null || echo gone"), "gone\n");
}

#[test]
fn mount_does_not_hide_what_was_written_to_files() {
    let test_home = test_home();
    let root = laid_out(&test_home);
    // There are no changes: a mount may cover the files.
    test_home.mount(CATALOG, "s", "user", &["--mode", "mount"]).unmount();
    fs::write(root.join("written"), "x").unwrap();
    let refused = test_home.holofs_fails(&["mount", "--mode", "mount", CATALOG, "s"], exit::BUSY);
    for word in ["`holofs diff`", "`holofs reset`", "--fresh"] {
        assert!(stderr(&refused).contains(word), "{}", stderr(&refused));
    }
    let report = json(&test_home.holofs_ok(&["mount", CATALOG, "s", "--json"]));
    assert_eq!((report["rung"].as_str(), is_mounted(&root)), (Some("materialize"), false));
    let seen = test_home.holofs_ok(&["run", CATALOG, "s", "--", "sh", "-c", "cat \"$CONDA_PREFIX/written\""]);
    assert_eq!(stdout(&seen), "x");
    test_home.mount(CATALOG, "s", "user", &["--fresh"]).unmount();
    test_home.holofs_ok(&["reset", "s"]);
    test_home.mount(CATALOG, "s", "user", &["--mode", "mount"]).unmount();
}

#[test]
fn unmount_and_du_know_files() {
    let test_home = test_home();
    let root = laid_out(&test_home);
    let report = json(&test_home.holofs_ok(&["unmount", "s", "--json"]));
    assert_eq!((report["files"].as_bool(), report["path"].as_str()), (Some(true), root.to_str()));
    assert!(root.is_dir());
    test_home.holofs_fails(&["unmount", "nobody"], exit::NOT_FOUND);
    let used = json(&test_home.holofs_ok(&["du", "s", "--json"]));
    assert!(used["laid_out_files"].as_u64() > Some(10), "{used}");
    assert!(used["total_bytes"].as_u64() > used["laid_out_bytes"].as_u64(), "{used}");
}

#[test]
fn files_that_a_run_uses_are_not_changed_below_it() {
    let test_home = test_home();
    laid_out(&test_home);
    let script = ["run", "--mode", "materialize", CATALOG, "s", "--", "sh", "-c", "echo up; cat >/dev/null"];
    let mut command = test_home.holofs_command(&script);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    let who = format!("process {} (sh -c echo up; cat >/dev/null)", child.id());
    for words in [&["reset", "s"][..], &["materialize", CATALOG, "s"], &["unmount", "s"]] {
        let refused = test_home.holofs_fails(words, exit::BUSY);
        assert!(stderr(&refused).contains(&who), "{words:?}: {}", stderr(&refused));
    }
    test_home.holofs_fails(&["delete", "s"], exit::BUSY);
    let second = test_home.holofs(&["run", "--mode", "materialize", CATALOG, "s", "--", "true"]);
    assert!(second.status.success(), "{}", said(&second));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    test_home.holofs_ok(&["reset", "s"]);
    test_home.holofs_ok(&["delete", "s"]);
}
