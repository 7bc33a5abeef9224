//! Three programs at once on one hololib: RCC restores a space, HoloFS mounts another and materializes a third.
//!
//! Five rounds here; `HOLOFS_SOAK=100` runs a hundred.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::Path;

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, Regime};
use crate::common::rcc::{Rcc, rcc};
use crate::common::test_home::TestHome;

const CONTROLLER: &str = "user";

fn rounds() -> u32 {
    std::env::var("HOLOFS_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// One round: all three at once, then every tree is checked, then every space is removed.
fn round(rcc: &Rcc, test_home: &TestHome, expected: &Path, number: u32) {
    std::thread::scope(|scope| {
        let theirs =
            scope.spawn(|| rcc.restore(test_home, &golden::file("golden.yaml"), CONTROLLER, "theirs").0);
        let filed = scope.spawn(|| test_home.materialize(golden::CATALOG, "filed", CONTROLLER));
        let mounted = test_home.mount(golden::CATALOG, "mounted", CONTROLLER, &[]);
        assert_same_space(expected, mounted.path());
        for space in [theirs.join().unwrap(), filed.join().unwrap()] {
            assert_same_space(expected, &space);
        }
        // In even rounds the spaces stay, so the next round refreshes them instead of creating them.
        if number.is_multiple_of(2) {
            test_home.holofs_ok(&["delete", "theirs"]);
            test_home.holofs_ok(&["delete", "filed"]);
            test_home.holofs_ok(&["gc", "--max-size", "100K"]);
        }
        mounted.unmount();
    });
}

#[test]
fn rcc_and_holofs_work_on_one_hololib_at_the_same_time() {
    let Some(rcc) = rcc(17) else { return };
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let expected = golden::unpack_restored(regime, &test_home.scratch());
        for number in 0..rounds() {
            round(&rcc, &test_home, &expected, number);
        }
        test_home.holofs_ok(&["check"]);
    }
}

#[test]
fn imports_and_mounts_of_the_same_catalog_at_once_leave_one_whole_hololib() {
    for _ in 0..rounds() {
        let test_home = TestHome::golden(Regime::Gzip);
        let zip = test_home.scratch().join("x.zip");
        let name = zip.to_str().unwrap();
        test_home.holofs_ok(&["export", golden::BLUEPRINT, "-z", name]);
        fs::remove_dir_all(test_home.hololib().join("library")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| test_home.holofs_ok(&["import", name]));
            }
        });
        test_home.holofs_ok(&["check"]);
        let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
        assert_same_space(&expected, &test_home.materialize(golden::CATALOG, "s", CONTROLLER));
    }
}
