//! Foreign names in output for terminals, shells, logs and JSON: they are shown, and have no effect.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::golden::{self, CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{is_root, said, skip};

/// Every sequence that could affect a terminal or a CI system, in names of files, spaces and messages.
const HOSTILE: [&str; 5] =
    ["a\x1b]0;owned\x07b", "c\n::error::planted", "d\r\u{9b}2Ke", "##[error]f", "g\u{202e}h"];

/// `output` shows names and has no other effect.
fn shows_only(output: &Output, args: &[&str]) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(bytes.clone())
            .unwrap_or_else(|_| panic!("{args:?}: not UTF-8: {}", said(output)));
        let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.chars().any(acts), "{args:?}: {text:?}");
        for line in text.lines() {
            assert!(!line.trim_start().starts_with("::"), "{args:?}: {text:?}");
            assert!(!line.contains("##["), "{args:?}: {text:?}");
        }
    }
}

/// Hostile names wherever another user can put one: in the space, in the hololib, in our state, in RCC's marks.
fn planted(test_home: &TestHome, space: &Path) {
    let library = test_home.hololib().join("library");
    for (at, name) in HOSTILE.iter().enumerate() {
        fs::write(space.join(name), "x").unwrap();
        fs::create_dir_all(library.join(format!("a{at}"))).unwrap();
        fs::write(library.join(format!("a{at}")).join(name), "x").unwrap();
        fs::write(test_home.hololib().join("catalog").join(format!("{name}v12.linux_amd64")), "x").unwrap();
        fs::write(test_home.hololib().join("catalog").join(format!("{at:016x}v12.linux_amd64")), name)
            .unwrap();
    }
    fs::write(library.join("a0").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    let odd = OsStr::from_bytes(b"\xffv12.linux_amd64");
    fs::write(test_home.hololib().join("catalog").join(odd), "x").unwrap();
    let entries = fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap().path());
    for meta in entries.filter(|path| path.extension().is_some_and(|end| end == "meta")).collect::<Vec<_>>() {
        let mut value: serde_json::Value =
            serde_json::from_str(&golden::inflate(&fs::read(&meta).unwrap())).unwrap();
        value["controller"] = HOSTILE[0].into();
        value["space"] = HOSTILE[1].into();
        fs::write(&meta, golden::deflate(&value.to_string())).unwrap();
    }
}

#[test]
fn names_of_others_are_shown_by_every_command_and_do_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = test_home.materialize(CATALOG, "files", "user");
    let mounted = is_root().then(|| test_home.mount(CATALOG, "live", "user", &[]));
    planted(&test_home, mounted.as_ref().map_or(&space, |mounted| mounted.path()));
    let bad = format!("no{}", HOSTILE[1]);
    let zip = test_home.scratch().join(HOSTILE[0]);
    fs::write(&zip, "no zip").unwrap();
    let (zip, yaml) = (zip.to_str().unwrap(), test_home.scratch().join("c\nd.yaml"));
    fs::write(&yaml, format!("dependencies: [\"{}\"", HOSTILE[0])).unwrap();
    let yaml = yaml.to_str().unwrap();
    let commands: [&[&str]; 30] = [
        &["list"],
        &["catalogs"],
        &["check"],
        &["check", "--repair"],
        &["gc", "--dry-run"],
        &["gc"],
        &["diff", "live"],
        &["du", "live"],
        &["stats", "live"],
        &["doctor"],
        &["export", zip, &bad],
        &["import", zip],
        &["hash", yaml],
        &["hash", &bad],
        &["mount", &bad, "x"],
        &["mount", CATALOG, HOSTILE[0]],
        &["mount", CATALOG, "##[error]f"],
        &["materialize", &bad, "x"],
        &["materialize", CATALOG, HOSTILE[1]],
        &["warm", &bad],
        &["warm", CATALOG],
        &["run", &bad, "x", "--", "true"],
        &["run", CATALOG, "files", "--", HOSTILE[0]],
        &["unmount", HOSTILE[4]],
        &["reset", "live", HOSTILE[0]],
        &["delete", HOSTILE[4]],
        &["remove", &bad],
        &["record", zip, "--blueprint", yaml],
        &[HOSTILE[0]],
        &["list", HOSTILE[1]],
    ];
    for args in commands {
        for more in [&[][..], &["--json"], &["-vv"]] {
            // Before the arguments, because everything after `--` belongs to the command.
            let args = [more, args].concat();
            shows_only(&test_home.holofs(&args), &args);
        }
    }
}

#[test]
fn report_of_paths_that_are_not_utf_8_is_json() {
    let test_home = TestHome::golden(Regime::Gzip);
    let dir = test_home.hololib().join("library/aa");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"\xffodd")), "x").unwrap();
    let output = test_home.holofs(&["check", "--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert!(report.to_string().contains(r"library/aa/\\xffodd"), "{report}");
}

#[test]
fn variables_of_a_catalog_never_reach_a_shell_as_a_command() {
    let test_home = TestHome::new();
    let stage = test_home.holotree().join(golden::IDENTITY);
    fs::create_dir_all(stage.join("bin")).unwrap();
    let write =
        |text: serde_json::Value| fs::write(stage.join("rcc_activate.json"), text.to_string()).unwrap();
    let blueprint = golden::file("golden.yaml");
    let proof = test_home.scratch().join("proof");
    write(serde_json::json!({ format!("A;touch {};B", proof.display()): "x" }));
    let bad = test_home.record(&stage, &blueprint);
    let refused = test_home.holofs(&["variables", &bad, "--space", "bad", "--mode", "materialize"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "false\n");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("which is not a valid variable name"),
        "{}",
        said(&refused)
    );
    let run = test_home.holofs(&["run", &bad, "bad", "--mode", "materialize", "--", "true"]);
    assert!(!run.status.success(), "{}", said(&run));
    let hard = format!("$(touch {0});`touch {0}`'\";\n touch {0} #\x1b[2J", proof.display());
    fs::remove_file(test_home.hololib().join("catalog").join(&bad)).unwrap();
    write(serde_json::json!({ "GOOD": hard, "PS1": "$(id)" }));
    let good = test_home.record(&stage, &blueprint);
    let shown = test_home.holofs_ok(&["variables", &good, "--space", "good", "--mode", "materialize"]);
    shows_only(&shown, &["variables"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(!text.contains("PS1"), "{text}");
    let output = test_home
        .command("sh")
        .args(["-c", "eval \"$1\"; printf '%s' \"$GOOD\"", "sh", &text])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), hard);
    assert!(!proof.exists());
}

#[test]
fn read_of_a_missing_blob_without_end_fills_no_log() {
    if !is_root() {
        return skip("a mount of one's own needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "s", "user", &[]);
    fs::remove_dir_all(test_home.hololib().join("library")).unwrap();
    fs::create_dir(test_home.hololib().join("library")).unwrap();
    // Some are in the raw store already, because files are relocated in the background.
    let find = Command::new("find").arg(mounted.path()).args(["-type", "f"]).output().unwrap();
    let files = String::from_utf8_lossy(&find.stdout).into_owned();
    let lacking =
        files.lines().find(|file| fs::read(file).is_err_and(|error| error.raw_os_error() == Some(5)));
    let lacking = lacking.expect("no file lacks its blob");
    let failed = (0..3000).filter(|_| fs::read(lacking).is_err()).count();
    let log = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap()).join("log");
    mounted.unmount();
    let log = fs::read_to_string(log).unwrap();
    let lines = log.lines().count();
    assert!(failed >= 2000 && lines < 1000, "{failed} failed, {lines} lines: {log}");
    assert!(log.contains("more lines like those from"), "{log}");
}
