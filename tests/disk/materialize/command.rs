//! The command `materialize`: its errors and exit codes. `restore` and `equivalence` test the tree itself.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::fs;

use crate::common::compare::assert_same_space;
use crate::common::damage::{DAMAGE, blob_of};
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, json, number_field, stderr};

const ARGS: [&str; 6] = ["materialize", CATALOG, "interop", "--controller", "golden", "--allow-setuid"];

/// The entries of the holotree, without locks.
fn spaces(test_home: &TestHome) -> Vec<String> {
    let entries = fs::read_dir(test_home.holotree()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lck")).collect()
}

#[test]
fn materialize_command_names_a_damaged_blob_and_leaves_nothing_half_done() {
    for (what, harm) in DAMAGE {
        let test_home = TestHome::golden(Regime::Gzip);
        let blob = blob_of(&test_home, "bin/tool");
        harm(&blob);
        let said = stderr(&test_home.holofs_fails(&ARGS, exit::DAMAGE));
        let digest = blob.file_name().unwrap().to_str().unwrap();
        assert!(said.contains("bin/tool") && said.contains(digest), "{what}: {said}");
        assert_eq!(spaces(&test_home), Vec::<String>::new(), "{what}: something is left");
    }
}

#[test]
fn a_bad_catalog_has_its_own_exit_code_and_nothing_is_created() {
    let test_home = TestHome::golden(Regime::Raw);
    let catalog = test_home.hololib().join("catalog").join(CATALOG);
    let whole = fs::read(&catalog).unwrap();
    let text = golden::inflate(&whole);
    // A relocation where the identity is not: the offset is inside the file, so only the content shows the error.
    let shifted =
        text.replacen("[\n              35\n            ]", "[\n              34\n            ]", 1);
    assert_ne!(shifted, text);
    for bad in [whole[..whole.len() - 9].to_vec(), golden::deflate("[]"), golden::deflate(&shifted)] {
        fs::write(&catalog, &bad).unwrap();
        test_home.holofs_fails(&ARGS, exit::BAD_CATALOG);
        assert_eq!(spaces(&test_home), Vec::<String>::new());
    }
}

#[test]
fn materialize_again_keeps_everything_and_a_live_mount_refuses() {
    let test_home = TestHome::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let path = test_home.materialize(CATALOG, "interop", "golden");
    assert_same_space(&path, &restored);
    let args: Vec<&str> = ARGS.into_iter().chain(["--json"]).collect();
    let again = json(&test_home.holofs_ok(&args));
    assert_eq!(again["is_changed"], false, "{again:#}");
    assert!(number_field(&again["counts"], "kept") > 90, "{again:#}");
    let mounted = test_home.mount(CATALOG, "interop", "golden", &[]);
    let said = stderr(&test_home.holofs_fails(&ARGS, exit::BUSY));
    assert!(said.contains(&format!("process {}", mounted.report()["pid"])), "{said}");
}

#[test]
fn fallbacks_and_dropped_bits_are_in_the_report() {
    let test_home = TestHome::golden(Regime::Gzip);
    let report = json(&test_home.holofs_ok(&["materialize", CATALOG, "x", "--strategy", "copy", "--json"]));
    let counts = &report["counts"];
    assert_eq!(number_field(counts, "copied") + counts["reflinked"].as_u64().unwrap_or(0), 86, "{report:#}");
    assert_eq!(number_field(counts, "relocated"), 48);
    if fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap() == 0 {
        assert_eq!(number_field(counts, "setuid_dropped"), 2, "{report:#}");
    }
}

#[test]
fn warm_lays_the_catalog_out_so_that_its_blobs_are_not_needed() {
    let test_home = TestHome::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let warm = || json(&test_home.holofs_ok(&["warm", CATALOG, "--json"]));
    let (first, second) = (warm(), warm());
    assert!(number_field(&first["counts"], "pristine_made") == 1, "{first:#}");
    let states = [&first, &second].map(|warmed| warmed["pristine"]["is_new"].as_bool());
    assert_eq!(states, [Some(true), Some(false)], "{first:#} {second:#}");
    // Nothing reads the hololib for it any more.
    let shared = blob_of(&test_home, "plain/no-needle.txt");
    fs::write(&shared, "garbage").unwrap();
    assert_same_space(&test_home.materialize(CATALOG, "interop", "golden"), &restored);
    let pristine = test_home.home().join("holofs/pristine");
    let trees =
        || fs::read_dir(&pristine).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(trees(), 1);
    let collected = json(&test_home.holofs_ok(&["gc", "--max-size", "0", "--json"]));
    assert_eq!((trees(), collected["derived"].as_array().unwrap().len()), (0, 1), "{collected:#}");
}

#[test]
fn doctor_measures_every_way_and_names_the_space_that_changed_what_is_shared() {
    let test_home = TestHome::golden(Regime::Gzip);
    let doctor = || json(&test_home.holofs_ok(&["doctor", "--json"]))["storage"].clone();
    let bare = doctor();
    assert_eq!(
        (number_field(&bare["health"], "files"), test_home.home().join("holofs").exists()),
        (0, false)
    );
    let hard = [&ARGS[..], &["--strategy", "hardlink"]].concat();
    test_home.holofs_ok(&hard);
    let found = doctor();
    let pair = &found["pairs"][0];
    let ways: Vec<&str> =
        pair["ways"].as_array().unwrap().iter().map(|way| way["name"].as_str().unwrap()).collect();
    assert_eq!(ways, ["snapshot", "reflink", "hardlink", "copy"], "{found:#}");
    assert!(pair["is_same_device"] == true && pair["ways"][3]["micros"].as_f64().unwrap() > 0.0, "{found:#}");
    assert_eq!(found["hololib"]["file_system"], pair["source"]["file_system"], "{found:#}");
    assert!(
        number_field(&found["health"], "files") > 0 && found["health"]["changed"] == serde_json::json!([])
    );
    let space = test_home.materialize(CATALOG, "interop", "golden");
    fs::write(space.join("plain/no-needle.txt"), "changed").unwrap();
    let shown = crate::common::stdout(&test_home.holofs_ok(&["doctor"]));
    let line = format!("changed through {}; created again", space.display());
    assert!(shown.contains("plain/no-needle.txt of catalog") && shown.contains(&line), "{shown}");
    assert_eq!(doctor()["health"]["changed"], serde_json::json!([]), "healed");
}
