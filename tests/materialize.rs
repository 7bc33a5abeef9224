//! The command `materialize`: its errors and exit codes. The tree itself is the matter of `restore` and `equivalence`.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

mod common;

use std::fs;

use common::compare::assert_same_space;
use common::damage::{DAMAGE, blob_of};
use common::golden::{self, CATALOG, Regime};
use common::sandbox::Sandbox;
use common::{exit, json, number_field, stderr};

const ARGS: [&str; 6] = ["materialize", CATALOG, "interop", "--controller", "golden", "--allow-setuid"];

/// What is in the holotree besides locks.
fn spaces(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.holotree()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lck")).collect()
}

#[test]
fn a_damaged_blob_fails_the_space_by_name_and_leaves_nothing_half_done() {
    for (what, harm) in DAMAGE {
        let sandbox = Sandbox::golden(Regime::Gzip);
        let blob = blob_of(&sandbox, "bin/tool");
        harm(&blob);
        let said = stderr(&sandbox.holofs_fails(&ARGS, exit::DAMAGE));
        let digest = blob.file_name().unwrap().to_str().unwrap();
        assert!(said.contains("bin/tool") && said.contains(digest), "{what}: {said}");
        assert_eq!(spaces(&sandbox), Vec::<String>::new(), "{what}: something is left");
    }
}

#[test]
fn a_bad_catalog_has_its_own_exit_code_and_nothing_is_created() {
    let sandbox = Sandbox::golden(Regime::Raw);
    let catalog = sandbox.hololib().join("catalog").join(CATALOG);
    let whole = fs::read(&catalog).unwrap();
    let text = golden::inflate(&whole);
    // A relocation where the identity is not: inside the file, so only the content can tell.
    let shifted =
        text.replacen("[\n              35\n            ]", "[\n              34\n            ]", 1);
    assert_ne!(shifted, text);
    for bad in [whole[..whole.len() - 9].to_vec(), golden::deflate("[]"), golden::deflate(&shifted)] {
        fs::write(&catalog, &bad).unwrap();
        sandbox.holofs_fails(&ARGS, exit::BAD_CATALOG);
        assert_eq!(spaces(&sandbox), Vec::<String>::new());
    }
}

#[test]
fn a_second_run_keeps_everything_and_a_live_mount_is_in_the_way() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &sandbox.scratch());
    let path = sandbox.materialize(CATALOG, "interop", "golden");
    assert_same_space(&path, &restored);
    let args: Vec<&str> = ARGS.into_iter().chain(["--json"]).collect();
    let again = json(&sandbox.holofs_ok(&args));
    assert_eq!(again["is_changed"], false, "{again:#}");
    assert!(number_field(&again["counts"], "kept") > 90, "{again:#}");
    let mounted = sandbox.mount(CATALOG, "interop", "golden", &[]);
    let said = stderr(&sandbox.holofs_fails(&ARGS, exit::BUSY));
    assert!(said.contains(&format!("process {}", mounted.report()["pid"])), "{said}");
}

#[test]
fn fallbacks_and_dropped_bits_are_in_the_report() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let report = json(&sandbox.holofs_ok(&["materialize", CATALOG, "x", "--strategy", "copy", "--json"]));
    let counts = &report["counts"];
    assert_eq!(number_field(counts, "copied") + counts["reflinked"].as_u64().unwrap_or(0), 86, "{report:#}");
    assert_eq!(number_field(counts, "relocated"), 48);
    if fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap() == 0 {
        assert_eq!(number_field(counts, "setuid_dropped"), 2, "{report:#}");
    }
}
