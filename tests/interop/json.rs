//! `--json` output where RCC has its own format equals that of the official RCC for the same home.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::golden::{self, Regime};
use crate::common::rcc::{Rcc, rcc};
use crate::common::test_home::TestHome;
use crate::common::{json, run, stdout};
use serde_json::Value;

const DAY: f64 = 86_400.0;

/// A home in which RCC restored two spaces.
fn home_with_spaces(rcc: &Rcc) -> TestHome {
    let test_home = TestHome::golden(Regime::Gzip);
    for (controller, space) in [("user", "plain"), ("other", "with a blank")] {
        rcc.restore(&test_home, &golden::file("golden.yaml"), controller, space);
    }
    test_home
}

/// Sets a file's time back by this many days.
fn age(path: &Path, days: f64) {
    let then = SystemTime::now() - Duration::from_secs_f64(days * DAY);
    File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

fn first_with_suffix(dir: &Path, suffix: &str) -> std::path::PathBuf {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().find(|path| path.to_str().unwrap().ends_with(suffix)).unwrap()
}

/// The output of both programs; ours without the fields that only HoloFS has.
fn both(rcc: &Rcc, test_home: &TestHome, args: &[&str]) -> (Value, Value) {
    let theirs = json(&rcc.run(test_home, &[&["holotree"], args].concat()));
    let mut ours = json(&test_home.holofs_ok(args));
    for space in ours.as_object_mut().into_iter().flatten().filter_map(|(_, value)| value.as_object_mut()) {
        space.remove("holofs");
    }
    (theirs, ours)
}

#[test]
fn list_prints_the_json_of_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = home_with_spaces(&rcc);
    let (theirs, ours) = both(&rcc, &test_home, &["list", "--json"]);
    assert_eq!(theirs.as_object().unwrap().len(), 2);
    assert_eq!(ours, theirs);
    for days in [0.4, 0.6, 1.4, 2.6, 40.0] {
        age(&first_with_suffix(&test_home.holotree(), ".use"), days);
        let (theirs, ours) = both(&rcc, &test_home, &["list", "--json"]);
        assert_eq!(ours, theirs, "{days} days");
    }
    fs::remove_file(first_with_suffix(&test_home.holotree(), ".use")).unwrap();
    let (theirs, ours) = both(&rcc, &test_home, &["list", "--json"]);
    assert_eq!(ours, theirs);
}

#[test]
fn list_adds_the_state_of_each_space() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = home_with_spaces(&rcc);
    let state = |label: &str| json(&test_home.holofs_ok(&["list", "--json"]))[label]["holofs"].clone();
    let mounted = test_home.mount(golden::CATALOG, "live", "user", &["--read-only"]);
    let label = mounted.path().file_name().unwrap().to_str().unwrap().to_owned();
    let live = state(&label);
    assert_eq!((live["state"].as_str(), live["mode"].as_str()), (Some("live"), Some("read-only")));
    assert_eq!(live["pid"].as_u64(), mounted.report()["pid"].as_u64());
    assert_eq!(live["dirty_bytes"].as_u64(), Some(0));
    mounted.unmount();
    assert_eq!(state(&label)["state"].as_str(), Some("absent"));
    let table = stdout(&test_home.holofs_ok(&["list"]));
    assert_eq!(table.matches(" files ").count(), 2, "{table}");
    let with_blank = table.lines().find(|line| line.contains("with a blank")).unwrap();
    assert!(with_blank.contains(" other "), "{table}");
}

#[test]
fn catalogs_prints_the_json_of_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = home_with_spaces(&rcc);
    for args in [&["catalogs", "--json"][..], &["catalogs", "--json", "--identity"]] {
        let (theirs, ours) = both(&rcc, &test_home, args);
        assert_eq!(ours, theirs, "{args:?}");
    }
    for top in ["1", "2", "3", "4", "7", "100"] {
        let (theirs, ours) = both(&rcc, &test_home, &["catalogs", "--json", "-t", top]);
        assert_eq!(ours, theirs, "top {top}");
    }
    age(&test_home.hololib().join("catalog").join(golden::CATALOG), 2.6);
    age(&first_with_suffix(&test_home.hololib().join("used"), ""), 1.7);
    let (theirs, ours) = both(&rcc, &test_home, &["catalogs", "--json"]);
    assert_eq!(ours, theirs);
    assert_eq!(ours[golden::BLUEPRINT]["days_since_last_use"], 1);
}

#[test]
fn catalogs_that_nobody_used_and_without_specification_are_shown_as_rcc_does() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Raw);
    let path = test_home.hololib().join("catalog").join(golden::CATALOG);
    let text = golden::inflate(&fs::read(&path).unwrap());
    let mut catalog: Value = serde_json::from_str(&text).unwrap();
    catalog["tree"]["files"].as_object_mut().unwrap().remove("identity.yaml").unwrap();
    fs::write(&path, golden::deflate(&serde_json::to_string_pretty(&catalog).unwrap())).unwrap();
    // HoloFS first: RCC leaves a mark of use when it lists.
    let ours = json(&test_home.holofs_ok(&["catalogs", "--json", "-i"]));
    let theirs = json(&rcc.run(&test_home, &["holotree", "catalogs", "--json", "-i"]));
    assert_eq!(ours, theirs);
    assert_eq!(ours[golden::BLUEPRINT]["days_since_last_use"], -1);
}

#[test]
fn export_lists_the_names_that_rcc_lists() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::golden(Regime::Gzip);
    let (theirs, ours) = both(&rcc, &test_home, &["export", "--json"]);
    assert_eq!(ours, theirs);
    assert_eq!(ours, serde_json::json!([golden::CATALOG]));
}

/// Keys with values that only RCC knows, or that are random.
const RCCS_OWN: [&str; 2] = ["RCC_EXE", "RCC_VERSION"];
const RANDOM: [&str; 3] = ["PYTHONPYCACHEPREFIX", "TEMP", "TMP"];

/// The pairs in order, without those that always differ.
fn comparable(list: &Value) -> Vec<(String, String)> {
    let pairs = list.as_array().unwrap().iter().map(|pair| {
        assert_eq!(pair.as_object().unwrap().len(), 2, "{pair}");
        let (key, value) = (crate::common::text_field(pair, "key"), crate::common::text_field(pair, "value"));
        let value = if RANDOM.contains(&key.as_str()) { "random".to_owned() } else { value };
        (key, value)
    });
    pairs.filter(|(key, _)| !RCCS_OWN.contains(&key.as_str())).collect()
}

fn same_variables(rcc: &Rcc, test_home: &TestHome) -> Vec<(String, String)> {
    let yaml = golden::file("golden.yaml");
    let args = ["variables", yaml.to_str().unwrap(), "--space", "plain", "--json"];
    let theirs = comparable(&json(&rcc.run(test_home, &[&["--no-build", "holotree"], &args[..]].concat())));
    let ours = comparable(&json(&test_home.holofs_ok(&args)));
    assert_eq!(ours, theirs);
    ours
}

#[test]
fn variables_equal_those_of_rcc_in_the_same_order() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = home_with_spaces(&rcc);
    let list = same_variables(&rcc, &test_home);
    assert!(list.iter().any(|(key, _)| key == "RCC_INSTALLATION_ID"), "{list:?}");
    let settings = [
        "certificates:\n  verify-ssl: false\n  ssl-no-revoke: true\n  legacy-renegotiation-allowed: true\n",
        "certificates:\n  ssl-no-revoke: true\nnetwork:\n  no-proxy: localhost,.x # here\n",
        "network:\n  https-proxy: \"http://p:1\"\n  http-proxy: http://u:p@p:2/\n",
        "certificates:\n  verify-ssl: true\n",
    ];
    for text in settings {
        fs::write(test_home.home().join("settings.yaml"), text).unwrap();
        same_variables(&rcc, &test_home);
    }
    for name in ["piprc", "ca-bundle.pem"] {
        fs::write(test_home.home().join(name), "").unwrap();
        let list = same_variables(&rcc, &test_home);
        assert!(list.iter().any(|(_, value)| value.ends_with(name)), "{list:?}");
    }
}

#[test]
fn variables_are_set_in_a_shell_that_evaluates_them() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = home_with_spaces(&rcc);
    let space = test_home.materialize(golden::CATALOG, "plain", "user");
    fs::write(
        test_home.home().join("settings.yaml"),
        "network:\n  http-proxy: \"http://it's $HOME/`x` y\"\n",
    )
    .unwrap();
    let binary = env!("CARGO_BIN_EXE_holofs");
    let script = format!(
        "eval \"$('{binary}' variables {} --space plain)\" && printf '%s\\n' \"$CONDA_PREFIX\" \"$http_proxy\" \"$CONDA_PROMPT_MODIFIER.\" \"$TEMP\"",
        golden::BLUEPRINT
    );
    let output = run(test_home.command("sh").args(["-c", &script]));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], [space.to_str().unwrap(), "http://it's $HOME/`x` y", "(rcc) ."]);
    assert!(
        Path::new(lines[3]).join("recycle.now").is_file(),
        "RCC does not know when to remove {}",
        lines[3]
    );
}

#[test]
fn variables_mounts_a_missing_space_and_leaves_it_mounted() {
    let test_home = TestHome::golden(Regime::Gzip);
    let args = ["variables", golden::BLUEPRINT, "--space", "new", "--json"];
    let list = comparable(&json(&test_home.holofs_ok(&args)));
    let root = list.iter().find(|(key, _)| key == "RCC_HOLOTREE_SPACE_ROOT").unwrap().1.clone();
    assert!(crate::common::mounted::is_mounted(Path::new(&root)));
    assert_eq!(comparable(&json(&test_home.holofs_ok(&args))), list);
    test_home.holofs_ok(&["unmount", "new"]);
}
