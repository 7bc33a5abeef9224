//! Commands that only report change nothing: neither changes in a space, nor its state, nor the hololib.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{daemons_of, detach};
use crate::common::sandbox::Sandbox;
use crate::common::{exit, stdout, until};

/// Every command that only reports, for the space `read`.
fn readers(sandbox: &Sandbox) -> Vec<Vec<String>> {
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
    let (conda, out) = (sandbox.scratch().join("conda.yaml"), sandbox.scratch().join("page.html"));
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
fn state(sandbox: &Sandbox) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![sandbox.home().join("holofs/spaces"), sandbox.holotree(), sandbox.hololib()];
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
fn nothing_changes(sandbox: &Sandbox) {
    for words in readers(sandbox) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = state(sandbox);
        let output = sandbox.holofs(&words);
        let after = state(sandbox);
        let keys: std::collections::BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&PathBuf> =
            keys.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "holofs {words:?} ({}) changes {changed:?}", output.status);
    }
}

/// A changed space that is not mounted: its path, and the path of its state.
fn written(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let mounted = sandbox.mount(CATALOG, "read", "user", &[]);
    fs::write(mounted.path().join("new"), "x").unwrap();
    let root = mounted.path().to_owned();
    mounted.unmount();
    let state = state_of(sandbox, &root);
    (root, state)
}

fn state_of(sandbox: &Sandbox, root: &Path) -> PathBuf {
    sandbox.home().join("holofs/spaces").join(root.file_name().unwrap())
}

#[test]
fn readers_change_nothing_of_a_space_that_was_written() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    written(&sandbox);
    nothing_changes(&sandbox);
    assert_eq!(stdout(&sandbox.holofs_ok(&["diff", "read"])), "A new\n");
}

#[test]
fn readers_change_nothing_of_a_space_whose_reset_was_interrupted() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let (_, state) = written(&sandbox);
    fs::rename(state.join("state.db"), state.join("state.db.dropped")).unwrap();
    assert_eq!(stdout(&sandbox.holofs_ok(&["diff", "read"])), "\n");
    nothing_changes(&sandbox);
    assert!(state.join("upper").is_dir() && state.join("state.db.dropped").is_file());
    // A command that writes completes it.
    let mounted = sandbox.mount(CATALOG, "read", "user", &[]);
    assert!(!mounted.path().join("new").exists());
    mounted.unmount();
    assert!(!state.join("state.db.dropped").exists());
}

#[test]
fn readers_change_nothing_of_a_space_whose_server_was_killed() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(CATALOG, "read", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("new"), "x").unwrap();
    for pid in daemons_of(&sandbox) {
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).output().unwrap();
    }
    until(|| daemons_of(&sandbox).is_empty());
    detach(&root);
    std::mem::forget(mounted);
    nothing_changes(&sandbox);
    assert!(state_of(&sandbox, &root).join("state.db-wal").exists());
    assert_eq!(stdout(&sandbox.holofs_ok(&["diff", "read"])), "A new\n");
}

#[test]
fn readers_change_nothing_of_files() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let root = sandbox.materialize(CATALOG, "read", "user");
    fs::write(root.join("new"), "x").unwrap();
    nothing_changes(&sandbox);
    sandbox.holofs_fails(&["diff", "nobody"], exit::NOT_FOUND);
}
