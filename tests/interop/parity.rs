//! `holofs verify --parity`: a mount, files and RCC's restore are the same tree.

use std::fs;
use std::path::Path;

use crate::common::golden::{CATALOG, Regime};
use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::{json, run, said, stdout};

fn verify(test_home: &TestHome, rcc: &Path, args: &[&str]) -> std::process::Output {
    let mut command = test_home.holofs_command(&[&["verify", CATALOG, "--parity"], args].concat());
    command.env("HOLOFS_RCC", rcc).output().unwrap()
}

#[test]
fn verify_parity_compares_the_mount_the_files_and_what_rcc_restores() {
    for (version, regime) in [(17, Regime::Gzip), (19, Regime::Gzip), (17, Regime::Raw)] {
        let Some(rcc) = rcc(version) else { return };
        let test_home = TestHome::golden(regime);
        rcc.be_quiet(&test_home);
        let output = verify(&test_home, rcc.path(), &["--json"]);
        assert!(output.status.success(), "{version}: {}", said(&output));
        let report = json(&output);
        let ways = report["parity"]["ways"].as_array().unwrap();
        let tried: Vec<&str> = ways.iter().map(|way| way["way"].as_str().unwrap()).collect();
        assert_eq!(tried, ["files", "mount", "rcc"]);
        assert!(ways.iter().all(|way| way["skipped"].is_null()), "{report:#}");
        assert!(report["parity"]["entries"].as_u64().unwrap() > 100);
        assert_eq!(json(&test_home.holofs_ok(&["list", "--json"])), serde_json::json!({}), "nothing is left");
    }
}

#[test]
fn verify_parity_lists_what_differs() {
    let test_home = TestHome::golden(Regime::Gzip);
    // A program that restores like RCC and damages one file.
    let fake = test_home.scratch().join("rcc");
    let holofs = env!("CARGO_BIN_EXE_holofs");
    let text = format!(
        "#!/bin/sh\nroot=$({holofs} materialize --controller holofs {CATALOG} 'holofs verify' --json \
         | sed -n 's/.*\"path\": \"\\(.*\\)\",/\\1/p' | head -1)\necho more >> \"$root/identity.yaml\"\n"
    );
    fs::write(&fake, text).unwrap();
    run(std::process::Command::new("chmod").arg("755").arg(&fake));
    let output = verify(&test_home, &fake, &[]);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    let text = stdout(&output);
    assert!(text.contains("rcc: identity.yaml: "), "{text}");
    assert!(
        text.contains("files and mount and rcc: ") && text.trim_end().contains("entries, not equal"),
        "{text}"
    );
}

#[test]
fn verify_names_the_blob_that_is_damaged() {
    let test_home = TestHome::golden(Regime::Gzip);
    let good = test_home.holofs_ok(&["verify", CATALOG]);
    assert!(stdout(&good).contains("all blobs are good"), "{}", said(&good));
    let blob = crate::common::damage::blob_of(&test_home, "identity.yaml");
    fs::write(&blob, "x").unwrap();
    let output = test_home.holofs(&["verify", CATALOG, "--parity"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let name = blob.file_name().unwrap().to_str().unwrap();
    assert!(stdout(&output).contains(name), "{}", said(&output));
}
