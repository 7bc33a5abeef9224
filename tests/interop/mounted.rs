//! The effect of RCC's commands on a mounted space: the table in docs/rcc.md, row by row.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::golden::{self, Regime};
use crate::common::mounted::{below, detach, is_mounted};
use crate::common::rcc::{Dirty, rcc};
use crate::common::test_home::TestHome;
use crate::common::{said, stderr};

const CONTROLLER: &str = "user";

/// Files that RCC checks to decide whether the golden space is clean.
const GOLDEN_FILES: u64 = 137;

/// The golden space as RCC restores it.
fn expected(test_home: &TestHome) -> PathBuf {
    golden::unpack_restored(Regime::Gzip, &test_home.scratch())
}

fn label(space: &Path) -> &str {
    space.file_name().unwrap().to_str().unwrap()
}

/// The blob of a file of the golden tree that is not empty.
fn some_blob(test_home: &TestHome) -> PathBuf {
    let mut waiting = vec![test_home.hololib().join("library")];
    let mut found = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found.into_iter().find(|path| path.metadata().unwrap().len() > 60).unwrap()
}

#[test]
fn check_of_a_healthy_hololib_changes_nothing() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    rcc.run(&test_home, &["holotree", "check"]);
    assert_eq!(test_home.catalogs(), [golden::CATALOG]);
    test_home.holofs_ok(&["check"]);
    assert_same_space(&expected(&test_home), mounted.path());
    mounted.unmount();
}

#[test]
fn check_that_purges_a_damaged_environment_leaves_the_mount_with_what_was_read() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    assert_same_space(&expected(&test_home), mounted.path());
    fs::write(some_blob(&test_home), "damage").unwrap();
    let output = rcc.try_run(&test_home, &["holotree", "check"]);
    assert!(!output.status.success() && test_home.catalogs().is_empty(), "{}", said(&output));
    // All content was read once, so it is in the raw store and the library is no longer needed.
    fs::remove_dir_all(test_home.scratch()).unwrap();
    assert_same_space(&expected(&test_home), mounted.path());
    mounted.unmount();
    test_home.holofs_fails(&["mount", golden::BLUEPRINT, "s"], exit::NOT_FOUND);
}

#[test]
fn content_that_check_purged_before_it_was_read_is_an_error_and_nothing_else_is() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    fs::write(some_blob(&test_home), "damage").unwrap();
    rcc.try_run(&test_home, &["holotree", "check", "--retries", "3"]);
    let entries = crate::common::compare::space_of(mounted.path());
    let wanted = crate::common::compare::space_of(&expected(&test_home));
    assert_eq!(entries.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    let failed = |entry: &crate::common::compare::Entry| {
        matches!(entry, crate::common::compare::Entry::File { content: Err(_), .. })
    };
    assert!(entries.values().any(failed), "every blob was purged, and yet all could be read");
    for (path, entry) in entries.iter().filter(|(_, entry)| !failed(entry)) {
        assert_eq!(entry, &wanted[path], "{}", path.display());
    }
    mounted.unmount();
}

#[test]
fn remove_leaves_the_mount_as_it_is() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    rcc.run(&test_home, &["holotree", "remove", golden::BLUEPRINT]);
    assert_eq!(test_home.catalogs(), Vec::<String>::new());
    assert_same_space(&expected(&test_home), mounted.path());
    let list = crate::common::json(&test_home.holofs_ok(&["list", "--json"]));
    assert_eq!(list[label(mounted.path())]["holofs"]["state"], "live");
    mounted.unmount();
    test_home.holofs_fails(&["mount", golden::BLUEPRINT, "s"], exit::NOT_FOUND);
}

#[test]
fn delete_of_a_writable_mount_empties_it_and_fails_and_fresh_restores_it() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "mine").unwrap();
    let output = rcc.try_run(&test_home, &["holotree", "delete", label(&root)]);
    assert!(!output.status.success() && stderr(&output).contains("busy"), "{}", said(&output));
    assert!(is_mounted(&root));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    test_home.holofs_ok(&["check"]);
    // RCC treats the empty mount as a new space, and fills it.
    let (again, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "s");
    assert_eq!(again, root);
    assert!(dirty.dirty > 0);
    assert_same_space(&expected(&test_home), &root);
    mounted.unmount();
    let fresh = test_home.mount(golden::CATALOG, "s", CONTROLLER, &["--fresh"]);
    fs::remove_dir_all(test_home.scratch()).unwrap();
    assert_same_space(&expected(&test_home), fresh.path());
    let (_, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "s");
    assert_eq!(dirty.dirty, 0);
    fresh.unmount();
}

#[test]
fn delete_of_a_read_only_mount_fails_and_changes_no_file() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &["--read-only"]);
    let output = rcc.try_run(&test_home, &["holotree", "delete", label(mounted.path())]);
    assert!(!output.status.success() && stderr(&output).contains("read-only"), "{}", said(&output));
    assert_same_space(&expected(&test_home), mounted.path());
    mounted.unmount();
}

#[test]
fn gc_collects_a_space_that_rcc_deleted_with_its_writes() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "mine").unwrap();
    mounted.unmount();
    rcc.run(&test_home, &["holotree", "delete", label(&root)]);
    assert!(!root.exists());
    let report = crate::common::json(&test_home.holofs_ok(&["gc", "--json"]));
    assert_eq!(report["spaces"].as_array().unwrap().len(), 1);
}

#[test]
fn cleanup_of_rcc_changes_nothing_and_finds_the_mount_clean() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", CONTROLLER, &[]);
    fs::write(mounted.path().join("written"), "mine").unwrap();
    rcc.run(&test_home, &["configuration", "cleanup"]);
    assert_eq!(fs::read_to_string(mounted.path().join("written")).unwrap(), "mine");
    let (_, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "s");
    assert!(!mounted.path().join("written").exists(), "RCC removes what its catalog does not know");
    assert_eq!(dirty, Dirty { dirty: 1, files: GOLDEN_FILES + 1 });
    mounted.unmount();
}

/// Removes every mount below a home when the test ends, even by a failure.
struct Everywhere<'s>(&'s TestHome);

impl Drop for Everywhere<'_> {
    fn drop(&mut self) {
        below(self.0.home()).iter().for_each(|path| detach(path));
    }
}

#[test]
fn cleanup_of_all_by_rcc_fails_and_the_space_can_be_mounted_again() {
    let Some(rcc) = rcc(17) else { return };
    let ways: [(&[&str], &str); 3] = [(&[], "--quick"), (&["--read-only"], "--quick"), (&[], "--all")];
    for (how, extent) in ways {
        let test_home = TestHome::golden(Regime::Gzip);
        let everywhere = Everywhere(&test_home);
        let root = crate::common::space_path(&crate::common::json(
            &test_home.holofs_ok(&[&["mount", golden::BLUEPRINT, "s", "--json"], how].concat()),
        ));
        let output = rcc.try_run(&test_home, &["configuration", "cleanup", extent]);
        assert!(!output.status.success(), "{}", said(&output));
        let moved = below(test_home.home());
        assert!(moved.len() == 1 && moved[0] != root, "{moved:?}");
        assert_eq!(test_home.catalogs(), [golden::CATALOG]);
        detach(&moved[0]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !test_home.holofs(&["mount", golden::BLUEPRINT, "s", "--fresh"]).status.success() {
            assert!(std::time::Instant::now() < deadline, "the daemon of the moved mount does not end");
        }
        assert_same_space(&expected(&test_home), &root);
        test_home.holofs_ok(&["unmount", "s"]);
        drop(everywhere);
    }
}
