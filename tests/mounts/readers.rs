//! Commands that only report change nothing: neither changes in a space, nor its state, nor the hololib.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{daemons_of, detach};
use crate::common::test_home::TestHome;
use crate::common::{exit, stdout, until};

/// Every command that only reports, for the space `read`.
fn readers(test_home: &TestHome) -> Vec<Vec<String>> {
    let words = [
        "diff read",
        "diff read --json",
        "du read",
        "du read --json",
        "list",
        "list --json",
        "df",
        "catalogs",
        "catalogs --json",
        "check",
        "doctor",
        "gc --dry-run",
        "delete read --dry-run",
        "hash CONDA",
        "remove CATALOG --dry-run",
        "holotree list",
        "holotree catalogs",
        "stats read",
        "report CATALOG -o OUT",
    ];
    let (conda, out) = (test_home.scratch().join("conda.yaml"), test_home.scratch().join("page.html"));
    fs::write(&conda, "channels:\n- conda-forge\ndependencies:\n- python=3.10.1\n").unwrap();
    let word = |word: &str| match word {
        "CONDA" => conda.to_str().unwrap().to_owned(),
        "CATALOG" => CATALOG.to_owned(),
        "OUT" => out.to_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    words.iter().map(|line| line.split(' ').map(word).collect()).collect()
}

/// The state of spaces, the spaces, and the hololib: by path, everything that a change would affect.
fn state(test_home: &TestHome) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![test_home.home().join("holofs/spaces"), test_home.holotree(), test_home.hololib()];
    while let Some(path) = left.pop() {
        // SQLite's shared memory and lock files do not count as state.
        if path.ends_with("state.db-shm") || path.extension().is_some_and(|end| end == "lck") {
            continue;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let content = if meta.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
        // `doctor` tests mounting in a directory that it creates and removes.
        let mtime = if meta.is_dir() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let mode = meta.permissions().mode();
        found.insert(path, format!("{mode:o} {mtime:?} {content:?}"));
    }
    found
}

/// Runs every reporting command; none of them may change anything.
#[track_caller]
fn nothing_changes(test_home: &TestHome) {
    for words in readers(test_home) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = state(test_home);
        let output = test_home.holofs(&words);
        let after = state(test_home);
        let keys: std::collections::BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&PathBuf> =
            keys.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "holofs {words:?} ({}) changes {changed:?}", output.status);
    }
}

/// A changed space that is not mounted: its path, and the path of its state.
fn written(test_home: &TestHome) -> (PathBuf, PathBuf) {
    let mounted = test_home.mount(CATALOG, "read", "user", &[]);
    fs::write(mounted.path().join("new"), "x").unwrap();
    let root = mounted.path().to_owned();
    mounted.unmount();
    let state = state_of(test_home, &root);
    (root, state)
}

fn state_of(test_home: &TestHome, root: &Path) -> PathBuf {
    test_home.home().join("holofs/spaces").join(root.file_name().unwrap())
}

#[test]
fn readers_change_nothing_of_a_space_that_was_written() {
    let test_home = TestHome::golden(Regime::Gzip);
    written(&test_home);
    nothing_changes(&test_home);
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "read"])), "A new\n");
}

#[test]
fn readers_change_nothing_of_a_space_whose_reset_was_interrupted() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (_, state) = written(&test_home);
    fs::rename(state.join("state.db"), state.join("state.db.dropped")).unwrap();
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "read"])), "");
    nothing_changes(&test_home);
    assert!(state.join("upper").is_dir() && state.join("state.db.dropped").is_file());
    // A command that writes completes it.
    let mounted = test_home.mount(CATALOG, "read", "user", &[]);
    assert!(!mounted.path().join("new").exists());
    mounted.unmount();
    assert!(!state.join("state.db.dropped").exists());
}

#[test]
fn readers_change_nothing_of_a_space_whose_server_was_killed() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "read", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("new"), "x").unwrap();
    for pid in daemons_of(&test_home) {
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).output().unwrap();
    }
    until(|| daemons_of(&test_home).is_empty());
    detach(&root);
    std::mem::forget(mounted);
    nothing_changes(&test_home);
    assert!(state_of(&test_home, &root).join("state.db-wal").exists());
    assert_eq!(stdout(&test_home.holofs_ok(&["diff", "read"])), "A new\n");
}

#[test]
fn readers_change_nothing_of_files() {
    let test_home = TestHome::golden(Regime::Gzip);
    let root = test_home.materialize(CATALOG, "read", "user");
    fs::write(root.join("new"), "x").unwrap();
    nothing_changes(&test_home);
    test_home.holofs_fails(&["diff", "nobody"], exit::NOT_FOUND);
}
