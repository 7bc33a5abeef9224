//! Foreign names on their way to a terminal, a shell, a log and JSON: they are shown, and have no effect.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::golden::{self, CATALOG, Regime};
use crate::common::sandbox::Sandbox;
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
fn planted(sandbox: &Sandbox, space: &Path) {
    let library = sandbox.hololib().join("library");
    for (at, name) in HOSTILE.iter().enumerate() {
        fs::write(space.join(name), "x").unwrap();
        fs::create_dir_all(library.join(format!("a{at}"))).unwrap();
        fs::write(library.join(format!("a{at}")).join(name), "x").unwrap();
        fs::write(sandbox.hololib().join("catalog").join(format!("{name}v12.linux_amd64")), "x").unwrap();
        fs::write(sandbox.hololib().join("catalog").join(format!("{at:016x}v12.linux_amd64")), name).unwrap();
    }
    fs::write(library.join("a0").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    let odd = OsStr::from_bytes(b"\xffv12.linux_amd64");
    fs::write(sandbox.hololib().join("catalog").join(odd), "x").unwrap();
    let entries = fs::read_dir(sandbox.holotree()).unwrap().map(|entry| entry.unwrap().path());
    for meta in entries.filter(|path| path.extension().is_some_and(|end| end == "meta")).collect::<Vec<_>>() {
        let mut told: serde_json::Value =
            serde_json::from_str(&golden::inflate(&fs::read(&meta).unwrap())).unwrap();
        told["controller"] = HOSTILE[0].into();
        told["space"] = HOSTILE[1].into();
        fs::write(&meta, golden::deflate(&told.to_string())).unwrap();
    }
}

#[test]
fn names_of_others_are_shown_by_every_command_and_do_nothing() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let space = sandbox.materialize(CATALOG, "files", "user");
    let mounted = is_root().then(|| sandbox.mount(CATALOG, "live", "user", &[]));
    planted(&sandbox, mounted.as_ref().map_or(&space, |mounted| mounted.path()));
    let bad = format!("no{}", HOSTILE[1]);
    let zip = sandbox.scratch().join(HOSTILE[0]);
    fs::write(&zip, "no zip").unwrap();
    let (zip, yaml) = (zip.to_str().unwrap(), sandbox.scratch().join("c\nd.yaml"));
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
            shows_only(&sandbox.holofs(&args), &args);
        }
    }
}

#[test]
fn report_of_paths_that_are_not_utf_8_is_json() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let dir = sandbox.hololib().join("library/aa");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"\xffodd")), "x").unwrap();
    let output = sandbox.holofs(&["check", "--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert!(report.to_string().contains(r"library/aa/\\xffodd"), "{report}");
}

#[test]
fn variables_of_a_catalog_never_reach_a_shell_as_a_command() {
    let sandbox = Sandbox::new();
    let stage = sandbox.holotree().join(golden::IDENTITY);
    fs::create_dir_all(stage.join("bin")).unwrap();
    let write =
        |text: serde_json::Value| fs::write(stage.join("rcc_activate.json"), text.to_string()).unwrap();
    let blueprint = golden::file("golden.yaml");
    let proof = sandbox.scratch().join("proof");
    write(serde_json::json!({ format!("A;touch {};B", proof.display()): "x" }));
    let bad = sandbox.record(&stage, &blueprint);
    let refused = sandbox.holofs(&["variables", &bad, "--space", "bad", "--mode", "materialize"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "false\n");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("which is no name of a variable"),
        "{}",
        said(&refused)
    );
    let run = sandbox.holofs(&["run", &bad, "bad", "--mode", "materialize", "--", "true"]);
    assert!(!run.status.success(), "{}", said(&run));
    let hard = format!("$(touch {0});`touch {0}`'\";\n touch {0} #\x1b[2J", proof.display());
    fs::remove_file(sandbox.hololib().join("catalog").join(&bad)).unwrap();
    write(serde_json::json!({ "GOOD": hard, "PS1": "$(id)" }));
    let good = sandbox.record(&stage, &blueprint);
    let shown = sandbox.holofs_ok(&["variables", &good, "--space", "good", "--mode", "materialize"]);
    shows_only(&shown, &["variables"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(!text.contains("PS1"), "{text}");
    let output = sandbox
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
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(CATALOG, "s", "user", &[]);
    fs::remove_dir_all(sandbox.hololib().join("library")).unwrap();
    fs::create_dir(sandbox.hololib().join("library")).unwrap();
    // Some are in the raw store already, because files are relocated in the background.
    let find = Command::new("find").arg(mounted.path()).args(["-type", "f"]).output().unwrap();
    let files = String::from_utf8_lossy(&find.stdout).into_owned();
    let lacking =
        files.lines().find(|file| fs::read(file).is_err_and(|error| error.raw_os_error() == Some(5)));
    let lacking = lacking.expect("no file lacks its blob");
    let failed = (0..3000).filter(|_| fs::read(lacking).is_err()).count();
    let log = sandbox.home().join("holofs/spaces").join(mounted.path().file_name().unwrap()).join("log");
    mounted.unmount();
    let log = fs::read_to_string(log).unwrap();
    let lines = log.lines().count();
    assert!(failed >= 2000 && lines < 1000, "{failed} failed, {lines} lines: {log}");
    assert!(log.contains("more lines like those from"), "{log}");
}
