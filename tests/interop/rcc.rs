//! Both programs on one hololib: the official RCC and HoloFS read each other's files, and agree on whether a space is clean.
//!
//! Trees are compared by type, size, content, permission bits, link target and file time, ignoring each space's own label.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::Path;

use crate::common::compare::assert_same_space;
use crate::common::fixed::FixedHome;
use crate::common::golden::{self, Regime};
use crate::common::mounted::is_mounted;
use crate::common::python::recorded_python;
use crate::common::rcc::{Dirty, rcc};
use crate::common::test_home::TestHome;
use crate::common::{is_root, run, skip, stdout};

const CONTROLLER: &str = "interop";

/// Files that RCC checks to decide whether the golden space is clean.
const GOLDEN_FILES: u64 = 137;

/// Records the golden stage at the path that its links name, and removes the stage, as RCC does.
fn recorded_golden() -> (FixedHome, String) {
    let fixed = FixedHome::take();
    let stage = golden::unpack_stage(&fixed.test_home.holotree());
    let catalog = fixed.test_home.record(&stage, &stage.join("identity.yaml"));
    fs::remove_dir_all(stage).unwrap();
    (fixed, catalog)
}

#[test]
fn rcc_restores_the_golden_tree_that_holofs_recorded_as_holofs_does() {
    for version in [17, 19] {
        let Some(rcc) = rcc(version) else { return };
        if !is_root() {
            return skip("the golden tree has a file that only root can read, and so record");
        }
        let (fixed, catalog) = recorded_golden();
        let test_home = &fixed.test_home;
        assert_eq!(catalog, golden::CATALOG);
        let (theirs, dirty) = rcc.restore(test_home, &golden::file("golden.yaml"), CONTROLLER, "theirs");
        assert!(dirty.dirty > 0, "RCC found nothing to restore: {dirty:?}");
        let ours = test_home.materialize(&catalog, "ours", CONTROLLER);
        assert_same_space(&theirs, &ours);
        let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
        assert_same_space(&expected, &ours);
    }
}

#[test]
fn rcc_restores_a_real_python_that_holofs_recorded_and_it_runs_from_both() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let Some((catalog, blueprint)) = recorded_python(&test_home) else { return };
    let (theirs, _) = rcc.restore(&test_home, &blueprint, CONTROLLER, "theirs");
    let ours = test_home.materialize(&catalog, "ours", CONTROLLER);
    assert_same_space(&theirs, &ours);
    for space in [&theirs, &ours] {
        assert_eq!(prefix_of(&test_home, space), space.to_str().unwrap());
    }
}

/// The prefix that Python in the space reports, through a console script's own interpreter line.
fn prefix_of(test_home: &TestHome, space: &Path) -> String {
    let mut script = test_home.command(space.join("bin/normalizer"));
    assert!(stdout(&run(script.arg("--version").env("PYTHONDONTWRITEBYTECODE", "x"))).contains("Charset"));
    let mut python = test_home.command(space.join("bin/python3"));
    stdout(&run(python.args(["-B", "-c", "import sys, requests; print(sys.prefix)"]))).trim_end().to_owned()
}

#[test]
fn rcc_finds_a_materialized_space_clean() {
    let Some(rcc) = rcc(17) else { return };
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let ours = test_home.materialize(golden::CATALOG, "shared", CONTROLLER);
        let (theirs, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "shared");
        assert_eq!(theirs, ours);
        assert_eq!(dirty, Dirty { dirty: 0, files: GOLDEN_FILES }, "{regime:?}");
        assert_same_space(&golden::unpack_restored(regime, &test_home.scratch()), &ours);
    }
}

#[test]
fn rcc_finds_a_mounted_space_clean_and_leaves_it_mounted() {
    let Some(rcc) = rcc(17) else { return };
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let mounted = test_home.mount(golden::CATALOG, "shared", CONTROLLER, &[]);
        let (theirs, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "shared");
        assert_eq!(theirs, mounted.path());
        assert_eq!(dirty, Dirty { dirty: 0, files: GOLDEN_FILES }, "{regime:?}");
        assert!(is_mounted(mounted.path()));
        assert_same_space(&golden::unpack_restored(regime, &test_home.scratch()), mounted.path());
        let own = crate::common::json(&test_home.holofs_ok(&[
            "du",
            "shared",
            "--controller",
            CONTROLLER,
            "--json",
        ]));
        assert_eq!(own["written_files"], 0, "RCC's look caused a copy-up");
        mounted.unmount();
    }
}

#[test]
fn rcc_repairs_removes_and_deletes_in_a_live_space_through_the_mount() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let mounted = test_home.mount(golden::CATALOG, "shared", CONTROLLER, &[]);
    fs::write(mounted.path().join("bin/tool"), "spoilt").unwrap();
    fs::create_dir_all(mounted.path().join("extra/deep")).unwrap();
    fs::write(mounted.path().join("extra/deep/file"), "extra").unwrap();
    let (_, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "shared");
    assert_eq!(dirty, Dirty { dirty: 2, files: GOLDEN_FILES + 1 }, "the spoilt file and the extra one");
    assert_same_space(&expected, mounted.path());
    let label = mounted.path().file_name().unwrap().to_str().unwrap();
    // It empties the space and then fails to remove the directory itself, which is a mountpoint.
    rcc.try_run(&test_home, &["holotree", "delete", label]);
    assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 0);
    let (_, dirty) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "shared");
    assert!(dirty.dirty > 0, "{dirty:?}");
    assert_same_space(&expected, mounted.path());
    mounted.unmount();
}

#[test]
fn holofs_finds_a_space_that_rcc_restored_clean() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let (theirs, _) = rcc.restore(&test_home, &golden::file("golden.yaml"), CONTROLLER, "shared");
    let args =
        ["materialize", golden::CATALOG, "shared", "--controller", CONTROLLER, "--allow-setuid", "--json"];
    let report = crate::common::json(&test_home.holofs_ok(&args));
    assert_eq!(crate::common::space_path(&report), theirs);
    for counter in ["reflinked", "hardlinked", "copied", "relocated", "removed"] {
        let value =
            report["counters"].get(counter).or(report.get(counter)).and_then(serde_json::Value::as_u64);
        assert_eq!(value.unwrap_or(0), 0, "'{counter}' in {report:#}");
    }
    assert_same_space(&golden::unpack_restored(Regime::Gzip, &test_home.scratch()), &theirs);
}

#[test]
fn holofs_mounts_and_materializes_what_rcc_imported() {
    let Some(rcc) = rcc(17) else { return };
    let fixed = FixedHome::take();
    rcc.import(&fixed.test_home, &golden::file("hololib-gz.zip"));
    let expected = golden::unpack_restored(Regime::Gzip, &fixed.test_home.scratch());

    let mounted = fixed.test_home.mount(golden::CATALOG, "interop", "golden", &[]);
    assert_eq!(mounted.path(), Path::new(golden::BASE).join(golden::SPACE));
    assert_same_space(&expected, mounted.path());
    mounted.unmount();

    let ours = fixed.test_home.materialize(golden::BLUEPRINT, "interop", "golden");
    assert_eq!(ours, Path::new(golden::BASE).join(golden::SPACE));
    assert_same_space(&expected, &ours);
}
