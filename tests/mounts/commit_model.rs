//! The law of `commit`: the new catalog is the tree as it was, and a preceding `diff` lists the differences between the two catalogs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::compare::{Entry, space_of};
use crate::common::test_home::TestHome;
use crate::common::{json, soak, text_field};

/// A few names, so that changes affect the same files.
const DIRS: [&str; 4] = ["", "bin", "lib", "lib/deep"];
const FILES: [&str; 4] = ["a", "b", "c", "d"];

/// One change; numbers select among the names above.
#[derive(Debug, Clone)]
enum Change {
    Write { dir: usize, file: usize, with_label: bool },
    Append { dir: usize, file: usize },
    Remove { dir: usize, file: usize },
    RemoveDir { dir: usize },
    MakeDir { dir: usize, file: usize },
    Rename { from: (usize, usize), to: (usize, usize) },
    Link { dir: usize, file: usize, to: usize },
    Mode { dir: usize, file: usize, mode: u32 },
    Bytecode { dir: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let place = || (0..DIRS.len(), 0..FILES.len());
    prop_oneof![
        3 => (place(), any::<bool>()).prop_map(|((dir, file), with_label)| Change::Write { dir, file, with_label }),
        2 => place().prop_map(|(dir, file)| Change::Append { dir, file }),
        2 => place().prop_map(|(dir, file)| Change::Remove { dir, file }),
        1 => (1..DIRS.len()).prop_map(|dir| Change::RemoveDir { dir }),
        1 => place().prop_map(|(dir, file)| Change::MakeDir { dir, file }),
        2 => (place(), place()).prop_map(|(from, to)| Change::Rename { from, to }),
        1 => (place(), 0..FILES.len()).prop_map(|((dir, file), to)| Change::Link { dir, file, to }),
        1 => (place(), prop_oneof![Just(0o600), Just(0o755)]).prop_map(|((dir, file), mode)| Change::Mode { dir, file, mode }),
        1 => (0..DIRS.len()).prop_map(|dir| Change::Bytecode { dir }),
    ]
}

impl Change {
    /// Applies it below `root`; impossible changes are skipped. `unique` makes each content different.
    fn apply(&self, root: &Path, unique: usize) {
        let at = |dir: usize, file: usize| root.join(DIRS[dir]).join(FILES[file]);
        // A change that fails changes nothing, and the law holds for the resulting tree.
        let outcome = match *self {
            Change::Write { dir, file, with_label } => {
                let path = if with_label { root.display().to_string() } else { String::new() };
                fs::write(at(dir, file), format!("{unique} {path}\n{path}"))
            }
            Change::Append { dir, file } => fs::OpenOptions::new()
                .append(true)
                .open(at(dir, file))
                .and_then(|mut it| std::io::Write::write_all(&mut it, format!("more {unique}").as_bytes())),
            Change::Remove { dir, file } => fs::remove_file(at(dir, file)),
            Change::RemoveDir { dir } => fs::remove_dir_all(root.join(DIRS[dir])),
            Change::MakeDir { dir, file } => fs::create_dir_all(at(dir, file)),
            Change::Rename { from, to } => fs::rename(at(from.0, from.1), at(to.0, to.1)),
            Change::Link { dir, file, to }
                if root.join(DIRS[dir]).join(FILES[to]).is_file() && to != file =>
            {
                symlink(FILES[to], at(dir, file))
            }
            Change::Link { .. } => Ok(()),
            Change::Mode { dir, file, mode } => {
                fs::set_permissions(at(dir, file), fs::Permissions::from_mode(mode))
            }
            Change::Bytecode { dir } => {
                let cache = root.join(DIRS[dir]).join("__pycache__");
                fs::create_dir_all(&cache).and_then(|()| fs::write(cache.join("x.pyc"), "bytecode"))
            }
        };
        drop(outcome);
    }
}

/// What a catalog keeps of a tree: no times, and no bytecode.
fn kept(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let entries = space_of(root).into_iter().filter(|(path, _)| {
        !path.components().any(|part| part.as_os_str() == "__pycache__") && path != Path::new("identity.yaml")
    });
    let timeless = entries.map(|(path, entry)| match entry {
        Entry::File { mode, content, .. } => (path, Entry::File { mode, mtime: 0, content }),
        other => (path, other),
    });
    timeless.collect()
}

/// A dangling link cannot be recorded.
fn drop_dangling(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() && !path.exists() {
            fs::remove_file(&path).unwrap();
        } else if path.is_dir() && !path.is_symlink() {
            drop_dangling(&path);
        }
    }
    // Removing one can make others dangle.
    let dangles = |path: PathBuf| path.is_symlink() && !path.exists();
    if fs::read_dir(dir).unwrap().any(|entry| dangles(entry.unwrap().path())) {
        drop_dangling(dir);
    }
}

fn base(test_home: &TestHome) -> String {
    let stage = test_home.holotree().join("h0c0ffee_493f813dad24d3t");
    for (number, dir) in DIRS.iter().enumerate() {
        fs::create_dir_all(stage.join(dir)).unwrap();
        for file in &FILES[..3] {
            fs::write(stage.join(dir).join(file), format!("{number} {} {file}", stage.display())).unwrap();
        }
    }
    symlink("a", stage.join("lib/link")).unwrap();
    let name = test_home.scratch().join("base.yaml");
    fs::write(&name, "base").unwrap();
    let catalog = test_home.record(&stage, &name);
    fs::remove_dir_all(&stage).unwrap();
    catalog
}

/// Files and links that differ, by path.
fn differing(one: &BTreeMap<PathBuf, Entry>, other: &BTreeMap<PathBuf, Entry>) -> BTreeSet<String> {
    let paths = one.keys().chain(other.keys()).filter(|path| one.get(*path) != other.get(*path));
    let is_dir = |path: &&PathBuf| {
        let dir =
            |tree: &BTreeMap<PathBuf, Entry>| matches!(tree.get(*path), None | Some(Entry::Directory { .. }));
        dir(one) && dir(other)
    };
    paths.filter(|path| !is_dir(path)).map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// Files and links that `diff` names; for a removed directory it names only the directory.
fn reported(diff: &serde_json::Value, pristine: &BTreeMap<PathBuf, Entry>) -> BTreeSet<String> {
    let of = |what: &str| diff[what].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    let gone: Vec<String> = of("removed").filter(|path| path.ends_with('/')).collect();
    let below_gone = pristine.iter().filter(|(path, entry)| {
        !matches!(entry, Entry::Directory { .. }) && gone.iter().any(|dir| path.starts_with(dir))
    });
    ["added", "changed", "removed", "mode"]
        .into_iter()
        .flat_map(of)
        .filter(|path| !path.ends_with('/') && !path.contains("__pycache__"))
        .chain(below_gone.map(|(path, _)| path.to_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn commit_records_the_tree_as_it_was_and_diff_before_it_lists_the_changes() {
    let test_home = TestHome::new();
    let catalog = base(&test_home);
    let pristine = kept(&test_home.materialize(&catalog, "pristine", "user"));
    let mut runner = TestRunner::new_with_rng(
        Config { cases: soak::amount(16, 2000), failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let case = std::cell::Cell::new(0);
    let law = |changes: Vec<Change>| {
        case.set(case.get() + 1);
        let space = format!("case {}", case.get());
        let mounted = test_home.mount(&catalog, &space, "user", &[]);
        for (unique, change) in changes.iter().enumerate() {
            change.apply(mounted.path(), unique);
        }
        drop_dangling(mounted.path());
        let stood = kept(mounted.path());
        drop(mounted);
        let diff = json(&test_home.holofs_ok(&["diff", &space, "--json"]));
        let reported = reported(&diff, &pristine);
        prop_assert_eq!(&reported, &differing(&pristine, &stood));
        if diff == serde_json::json!({"added": [], "changed": [], "removed": [], "mode": []}) {
            return Ok(());
        }
        let made = json(&test_home.holofs_ok(&["commit", &space, "--name", &space, "--json"]));
        let new = text_field(&made, "blueprint");
        let restored = kept(&test_home.materialize(&new, "restored", "user"));
        prop_assert_eq!(restored, stood);
        test_home.holofs_ok(&["remove", &new]);
        Ok(())
    };
    runner.run(&proptest::collection::vec(change(), 1..12), law).unwrap();
}
