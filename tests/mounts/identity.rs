//! The kernel reuses the device number of a file system as soon as its last mount is gone, while its server may still write to the disk.
//! Here the number in the record is changed to that of another mount instead.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{daemons_of, detach};
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, json, run, said, skip, space_path, stderr, until};
use crate::containers::Container;

/// The records of mounted spaces.
fn records(test_home: &TestHome) -> Vec<PathBuf> {
    let states = fs::read_dir(test_home.home().join("holofs/spaces")).unwrap();
    states.map(|entry| entry.unwrap().path().join("mount.json")).filter(|path| path.exists()).collect()
}

fn device_in(record: &Path) -> u64 {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    state["device"].as_u64().unwrap()
}

fn set_device(record: &Path, device: u64) {
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    state["device"] = device.into();
    fs::write(record, state.to_string()).unwrap();
}

/// A mounted space whose last mount was removed; its server lives as long as the file is open.
fn without_a_mount(test_home: &TestHome) -> (PathBuf, fs::File) {
    let path = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "own", "--json"])));
    let open = fs::File::open(path.join("bin/tool")).unwrap();
    detach(&path);
    (path, open)
}

#[test]
fn run_does_not_take_a_mount_elsewhere_that_has_the_device_number_of_its_own() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let program = env!("CARGO_BIN_EXE_holofs");
    let mut container = Container::start(&test_home);
    assert_eq!(container.says(&format!("{program} mount {CATALOG} theirs >/dev/null; echo $?")), "0");
    let theirs = records(&test_home).pop().unwrap();
    let (_, open) = without_a_mount(&test_home);
    let own = records(&test_home).into_iter().find(|record| *record != theirs).unwrap();
    set_device(&own, device_in(&theirs));
    let refused = test_home.holofs_fails(&["--wait", "1", "run", CATALOG, "own", "--", "true"], exit::BUSY);
    assert!(stderr(&refused).contains("still serves files that are open"), "{}", said(&refused));
    drop(open);
    assert_eq!(container.says(&format!("{program} unmount theirs >/dev/null; echo $?")), "0");
    container.end();
    until(|| daemons_of(&test_home).is_empty());
}

#[test]
fn another_mount_on_the_space_that_has_the_device_number_of_its_own_is_neither_used_nor_removed() {
    if !is_root() {
        return skip("mounting a tmpfs needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let (path, open) = without_a_mount(&test_home);
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&path));
    fs::write(path.join("precious"), "x").unwrap();
    set_device(&records(&test_home)[0], fs::metadata(&path).unwrap().dev());
    test_home.holofs_fails(&["--wait", "1", "run", CATALOG, "own", "--", "true"], exit::BUSY);
    let refused = test_home.holofs_fails(&["unmount", "own"], exit::BUSY);
    assert!(stderr(&refused).contains("Another mount is on top of"), "{}", said(&refused));
    assert!(path.join("precious").is_file());
    run(Command::new("umount").arg(&path));
    drop(open);
    until(|| daemons_of(&test_home).is_empty());
    test_home.holofs_ok(&["run", CATALOG, "own", "--", "true"]);
}
