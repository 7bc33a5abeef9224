//! `holofs build`: uv creates the prefix, and both programs use the catalog.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::compare;
use crate::common::oracle::tree_of;
use crate::common::python::interpreter;
use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::uv::uv;
use crate::common::wheel::wheel_of;
use crate::common::{json, run, said, skip, stdout, text_field, until};

/// The interpreter that is copied.
pub fn python() -> String {
    interpreter().to_str().unwrap().to_owned()
}

/// The wheel of a package.
fn wheel(dir: &Path) -> PathBuf {
    wheel_of(dir, "tinytool", "1.0")
}

pub fn build(test_home: &TestHome, uv: &Path, args: &[&str]) -> Command {
    let mut command = test_home.holofs_command(&["build", "--json", "--python", &python()]);
    command.args(args).env("HOLOFS_UV", uv).env("UV_CACHE_DIR", test_home.scratch().join("uv"));
    command
}

/// A requirements.txt that needs no network.
pub fn requirements(test_home: &TestHome) -> String {
    let file = test_home.scratch().join("requirements.txt");
    fs::write(&file, format!("{}\n", wheel(&test_home.scratch()).display())).unwrap();
    file.to_str().unwrap().to_owned()
}

pub fn stage(test_home: &TestHome) -> Option<PathBuf> {
    let entries = fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap());
    let mut stages = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('h'));
    stages.next().map(|entry| entry.path())
}

#[test]
fn build_from_requirements_runs_elsewhere_and_is_done_once() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let output = build(&test_home, &uv, &["--check", "--offline", &file]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let built = json(&output);
    assert_eq!(built["is_new"], true);
    assert_eq!(stage(&test_home), None, "the stage is gone");
    let blueprint = text_field(&built, "blueprint");
    let run = test_home.holofs_ok(&["run", &blueprint, "a", "--", "tinytool"]);
    assert_eq!(stdout(&run).trim_end(), format!("tinytool in {}", space(&test_home, "a").display()));
    let extra =
        ["run", &blueprint, "a", "--", "python3", "-c", "import tinytoolextra; print(tinytoolextra.X)"];
    assert_eq!(stdout(&test_home.holofs_ok(&extra)), "1\n");
    // The second build needs no tool.
    let again = json(&build(&test_home, Path::new("/nonexistent/uv"), &[&file]).output().unwrap());
    assert_eq!((again["is_new"].as_bool(), text_field(&again, "blueprint")), (Some(false), blueprint));
}

fn space(test_home: &TestHome, name: &str) -> PathBuf {
    let output = json(&test_home.holofs_ok(&["list", "--json"]));
    let rows = output.as_object().unwrap().values();
    let row = rows.into_iter().find(|row| row["space"] == name).unwrap();
    text_field(row, "path").into()
}

#[test]
fn build_from_conda_yaml_has_the_blueprint_of_rcc_which_restores_it() {
    let (Some(uv), Some(rcc)) = (uv(), rcc(17)) else { return };
    let test_home = TestHome::new();
    let yaml = test_home.scratch().join("conda.yaml");
    let wheel = wheel(&test_home.scratch());
    let pip = format!("tinytool@file://{}", wheel.display());
    fs::write(&yaml, format!("channels:\n- conda-forge\ndependencies:\n- python\n- pip:\n  - {pip}\n"))
        .unwrap();
    let output = build(&test_home, &uv, &["--offline", yaml.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    let hash = test_home.holofs_ok(&["hash", yaml.to_str().unwrap()]);
    assert_eq!(stdout(&hash).trim_end(), blueprint);
    let (root, _) = rcc.restore(&test_home, &yaml, "user", "byrcc");
    let ours = test_home.materialize(&blueprint, "ours", "user");
    compare::assert_same_space(&root, &ours);
}

#[test]
fn build_that_is_interrupted_leaves_nothing_and_one_that_is_killed_is_cleaned_up_by_the_next() {
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    // A tool that never ends.
    let slow = tool(&test_home, "slow-uv", "#!/bin/sh\nexec sleep 60\n");
    for (signal, code, is_left) in [("INT", Some(130), false), ("KILL", None, true)] {
        let mut child =
            build(&test_home, &slow, &[&file]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        until(|| stage(&test_home).is_some_and(|stage| stage.join("bin/python3").exists()));
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert_eq!(stage(&test_home).is_some(), is_left, "{signal}");
    }
    assert_eq!(test_home.catalogs(), [""; 0]);
    let output = build(&test_home, Path::new("/nonexistent/uv"), &[&file]).output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(stage(&test_home), None, "what the killed build left is gone");
}

/// A program of the test's own: a script.
pub fn tool(test_home: &TestHome, name: &str, script: &str) -> PathBuf {
    let path = test_home.scratch().join(name);
    fs::write(&path, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&path));
    path
}

/// A uv that runs `hook` before or after the step `pip <step>`.
pub fn hooked_uv(test_home: &TestHome, uv: &Path, step: &str, is_after: bool, hook: &str) -> PathBuf {
    let uv = uv.display();
    let (before, after) = if is_after { ("", hook) } else { (hook, "") };
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'pip {step}'*) ;; *) exec {uv} \"$@\" ;; esac\n{before}\n{uv} \"$@\"\n{after}\n"
    );
    tool(test_home, "hooked-uv", &text)
}

#[test]
fn build_that_is_killed_at_any_step_records_nothing_and_the_next_one_works() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let steps = [
        ("compile", false, "KILL"),
        ("compile", true, "INT"),
        ("sync", false, "INT"),
        ("sync", true, "KILL"),
    ];
    for (step, is_after, signal) in steps {
        // It waits for the end of the build, which ends it.
        let hook = format!("kill -s {signal} $PPID; exec sleep 60");
        let hooked = hooked_uv(&test_home, &uv, step, is_after, &hook);
        let output = build(&test_home, &hooked, &["--offline", &file]).output().unwrap();
        let code = (signal == "INT").then_some(130);
        assert_eq!(output.status.code(), code, "{step} {is_after} {signal}: {}", said(&output));
        assert_eq!(stage(&test_home).is_some(), signal == "KILL", "{step} {is_after} {signal}");
        assert_eq!(test_home.catalogs(), [""; 0]);
    }
    // While it is recorded.
    let mut child = build(&test_home, &uv, &["--offline", &file]).stdout(Stdio::null()).spawn().unwrap();
    until(|| fs::read_dir(test_home.hololib().join("library")).is_ok_and(|mut found| found.next().is_some()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(test_home.catalogs(), [""; 0]);
    let output = build(&test_home, &uv, &["--offline", "--check", &file]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    assert!(
        stdout(&test_home.holofs_ok(&["run", &blueprint, "a", "--", "tinytool"]))
            .starts_with("tinytool in /")
    );
    test_home.holofs_ok(&["verify", &blueprint, "--parity"]);
}

#[test]
fn build_commit_push_and_a_lazy_run_elsewhere_make_one_session() {
    let (Some(uv), Some(rcc)) = (uv(), rcc(17)) else { return };
    let (from, to) = (TestHome::new(), TestHome::new());
    let (scratch, file) = (from.scratch(), requirements(&from));
    let show = |name: &str, output: std::process::Output| {
        assert!(output.status.success(), "{name}: {}", said(&output));
        eprintln!("$ holofs {name}\n{}", said(&output).trim_end());
        stdout(&output)
    };
    let mut first = from.holofs_command(&["build", "--offline", "--python", &python(), &file]);
    first.env("HOLOFS_UV", &uv).env("UV_CACHE_DIR", scratch.join("uv"));
    let shown = show("build requirements.txt", first.output().unwrap());
    let built = shown.split(':').next().unwrap().to_owned();
    let ran = show("run HASH work -- tinytool", from.holofs(&["run", &built, "work", "--", "tinytool"]));
    assert!(ran.starts_with("tinytool in /"), "{ran}");
    let (uv, other) = (uv.display(), wheel_of(&scratch, "othertool", "2.0"));
    let install = format!(
        "UV_CACHE_DIR={0}/uv {uv} pip install --offline --python \"$RCC_HOLOTREE_SPACE_ROOT/bin/python3\" {1}",
        scratch.display(),
        other.display()
    );
    let args = ["run", &built, "work", "--", "sh", "-c", &install];
    show("run HASH work -- uv pip install othertool", from.holofs(&args));
    let diff = show("diff work", from.holofs(&["diff", "work"]));
    assert!(diff.contains("othertool/__init__.py") && !diff.contains("tinytool/__init__.py"), "{diff}");

    let yaml = scratch.join("conda.yaml");
    fs::write(&yaml, "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n").unwrap();
    let blueprint = json(&from.holofs_ok(&["hash", "--json", "--show-blueprint", yaml.to_str().unwrap()]));
    let specification = scratch.join("identity.yaml");
    fs::write(&specification, text_field(&blueprint, "blueprint")).unwrap();
    let args = ["commit", "work", "--blueprint", specification.to_str().unwrap()];
    let shown = show("commit work --blueprint identity.yaml", from.holofs(&args));
    let new = text_field(&blueprint, "hash");
    assert!(shown.starts_with(&new), "{shown}");
    let remote = format!("file://{}#team", scratch.join("store").display());
    show("push HASH file://STORE#team", from.holofs(&["push", &new, &remote]));
    let ran = show(
        "run file://STORE#team lazy -- othertool",
        to.holofs(&["run", &remote, "lazy", "--", "othertool"]),
    );
    assert!(ran.starts_with("othertool in /"), "{ran}");
    assert_eq!(to.catalogs(), [""; 0], "only what was read is there");

    let (theirs, _) = rcc.restore(&from, &yaml, "user", "byrcc");
    compare::assert_same_space(&theirs, &from.materialize(&new, "ours", "user"));
    let ran = Command::new(theirs.join("bin/othertool")).output().unwrap();
    assert!(stdout(&ran).starts_with("othertool in /"), "{}", said(&ran));
}

#[test]
fn build_names_the_missing_tool_and_the_failed_step() {
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let missing = build(&test_home, Path::new("uv-that-is-not-there"), &[&file]).output().unwrap();
    let text = said(&missing);
    assert!(text.contains("Cannot find uv, which installs packages from PyPI"), "{text}");
    let failing = build(&test_home, Path::new("/bin/false"), &[&file]).output().unwrap();
    assert!(said(&failing).contains("Resolving the requirements failed"), "{}", said(&failing));
}

/// A requirements.txt of these wheels.
fn requirements_of(test_home: &TestHome, wheels: &[(&str, &str)]) -> String {
    let file = test_home.scratch().join("requirements.txt");
    let lines = wheels
        .iter()
        .map(|(name, version)| format!("{}\n", wheel_of(&test_home.scratch(), name, version).display()));
    fs::write(&file, lines.collect::<String>()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn build_after_one_changed_line_starts_from_the_nearest_catalog_and_is_as_from_nothing() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let made = |args: &[&str]| {
        let output = build(&test_home, &uv, &[&["--offline", "--check"], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        json(&output)
    };
    let first = made(&[&requirements_of(&test_home, &[("one", "1.0"), ("two", "1.0")])]);
    assert_eq!((first["base"].as_str(), first["base_refused"].as_str()), (None, None));
    let file = requirements_of(&test_home, &[("one", "2.0"), ("two", "1.0")]);
    let second = made(&[&file]);
    assert_eq!(second["base"], first["blueprint"], "{second:#}");
    let blueprint = text_field(&second, "blueprint");
    let code = "import one, two; print(one.VERSION, two.VERSION)";
    let run = test_home.holofs_ok(&["run", &blueprint, "a", "--", "python3", "-c", code]);
    assert_eq!(stdout(&run), "2.0 1.0\n");
    let run = test_home.holofs_ok(&["run", &blueprint, "a", "--", "one"]);
    assert_eq!(stdout(&run).trim_end(), format!("one in {}", space(&test_home, "a").display()));
    let upgraded = tree_of(&test_home.materialize(&blueprint, "compared", "user"));
    assert!(!upgraded.keys().any(|path| path.ends_with("one/old.py")));
    test_home.holofs_ok(&["remove", &blueprint]);
    let third = made(&["--from-nothing", &file]);
    assert_eq!((third["base"].as_str(), text_field(&third, "blueprint")), (None, blueprint.clone()));
    let from_nothing = tree_of(&test_home.materialize(&blueprint, "compared", "user"));
    assert_eq!(upgraded.keys().collect::<Vec<_>>(), from_nothing.keys().collect::<Vec<_>>());
    // RECORD has hashes of the scripts as they were at the path where they were installed.
    let differs = |path: &&PathBuf| upgraded[*path] != from_nothing[*path] && !path.ends_with("RECORD");
    assert_eq!(upgraded.keys().filter(differs).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    let kept = json(&test_home.holofs_ok(&["list", "--json"]));
    assert!(kept.as_object().unwrap().values().all(|row| row["controller"] != "holofs"), "{kept:#}");
}

#[test]
fn build_that_cannot_mount_the_nearest_catalog_starts_from_nothing_and_reports_why() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let first = requirements_of(&test_home, &[("one", "1.0"), ("two", "1.0")]);
    let output = build(&test_home, &uv, &["--offline", &first]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let file = requirements_of(&test_home, &[("one", "2.0"), ("two", "1.0")]);
    // Another command uses the space in which the upgrade would be made.
    let blueprint = text_field(&json(&output), "blueprint");
    let args = [
        "run",
        "--controller",
        "holofs",
        &blueprint,
        "holofs build",
        "--",
        "sh",
        "-c",
        "echo up; cat >/dev/null",
    ];
    let mut user = test_home.holofs_command(&args);
    let mut user = user.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said_up = [0; 3];
    std::io::Read::read_exact(user.stdout.as_mut().unwrap(), &mut said_up).unwrap();
    let output = build(&test_home, &uv, &["--offline", &file]).output().unwrap();
    drop(user.stdin.take());
    user.wait().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let built = json(&output);
    assert!(
        built["base"].is_null() && built["base_refused"].as_str().unwrap().contains("Cannot delete"),
        "{built:#}"
    );
}

#[test]
fn build_of_locked_requirements_resolves_them_only_if_they_are_incomplete() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let scratch = test_home.scratch();
    for name in ["tinytool", "needy"] {
        wheel_of(&scratch, name, "1.0");
    }
    let resolved = scratch.join("resolved");
    let hooked = hooked_uv(&test_home, &uv, "compile", false, &format!("touch {}", resolved.display()));
    let file = scratch.join("requirements.txt");
    let from = ["--from-nothing", "--offline", "--check", file.to_str().unwrap()];
    for (pins, is_resolved) in [("needy==1.0\ntinytool==1.0\n", false), ("needy==1.0\n", true)] {
        let head = "# This file was autogenerated by uv via the following command:";
        fs::write(&file, format!("{head}\n--find-links {}\n--no-index\n{pins}", scratch.display())).unwrap();
        let output = build(&test_home, &hooked, &from).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(resolved.exists(), is_resolved, "{pins}");
        let blueprint = text_field(&json(&output), "blueprint");
        let code = "import needy, tinytool; print(needy.VERSION, tinytool.VERSION)";
        let run = test_home.holofs_ok(&["run", &blueprint, "a", "--", "python3", "-c", code]);
        assert_eq!(stdout(&run), "1.0 1.0\n");
    }
}

#[test]
fn build_twice_at_once_makes_one_catalog() {
    let Some(uv) = uv() else { return };
    let test_home = TestHome::new();
    let file = requirements(&test_home);
    let start = || {
        let mut command = build(&test_home, &uv, &["--offline", &file]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let new = both.iter().map(|output| {
        assert!(output.status.success(), "{}", said(output));
        json(output)["is_new"].as_bool().unwrap()
    });
    assert_eq!(new.filter(|&new| new).count(), 1);
    assert_eq!(test_home.catalogs().len(), 1);
}

/// Packages with C extensions that find their libraries by RPATH, with console scripts, a pure Python package with a lot of data, and one
/// that exists only as a source distribution.
const REAL: &str = "channels:\n- conda-forge\ndependencies:\n- python\n- pip:\n  - numpy\n  - pandas\n  - requests\n  - Django\n  - docopt==0.6.2\n";

#[test]
fn build_of_real_packages_works_at_every_path_and_rcc_restores_it() {
    let (Some(uv), Some(rcc)) = (uv(), rcc(17)) else { return };
    let test_home = TestHome::new();
    let yaml = test_home.scratch().join("conda.yaml");
    fs::write(&yaml, REAL).unwrap();
    let mut command = build(&test_home, &uv, &["--check", yaml.to_str().unwrap()]);
    // uv's cache stays, so that only the first run downloads; certificates are this machine's.
    let cache = uv.ancestors().nth(3).unwrap().join("uv-cache");
    let output = command.env("UV_CACHE_DIR", cache).env("UV_NATIVE_TLS", "1").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    rcc.be_quiet(&test_home);
    let mut command = test_home.holofs_command(&["verify", &blueprint, "--parity", "--json"]);
    let output = command.env("HOLOFS_RCC", rcc.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let parity = json(&output)["parity"].clone();
    assert!(parity["ways"].as_array().unwrap().iter().all(|way| way["skipped"].is_null()), "{parity:#}");
    assert!(parity["entries"].as_u64().unwrap() > 5_000, "{parity:#}");
    let code =
        "import numpy, pandas, requests, django, docopt; print(numpy.eye(2).sum(), django.VERSION[0] > 3)";
    for mode in ["mount", "materialize"] {
        let args = ["run", "--mode", mode, &blueprint, mode, "--", "python3", "-c", code];
        assert_eq!(stdout(&test_home.holofs_ok(&args)), "2.0 True\n");
        let script = ["run", "--mode", mode, &blueprint, mode, "--", "django-admin", "--version"];
        assert!(!stdout(&test_home.holofs_ok(&script)).is_empty());
    }
}

#[test]
fn build_below_a_long_path_has_scripts_that_work() {
    let Some(uv) = uv() else { return };
    let outer = TestHome::new();
    // A shebang is truncated after 127 bytes by old kernels, after 255 by new ones.
    let home = outer.scratch().join("x".repeat(140)).join("home");
    fs::create_dir_all(&home).unwrap();
    let test_home = TestHome::at(outer.user(), &home);
    let file = requirements(&test_home);
    let output = build(&test_home, &uv, &["--offline", &file]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    let run = test_home.holofs_ok(&["run", &blueprint, "a", "--", "tinytool"]);
    assert!(stdout(&run).starts_with("tinytool in /"), "{}", said(&run));
}

#[test]
fn build_from_a_lock_file_of_npm_runs_from_a_mount() {
    if Command::new("npm").arg("--version").output().is_err() {
        return skip("There is no npm");
    }
    let test_home = TestHome::new();
    let dir = test_home.scratch().join("app");
    let tool = dir.join("tool");
    fs::create_dir_all(&tool).unwrap();
    let package = r#"{"name": "tool", "version": "1.0.0", "bin": {"tool": "cli.js"}}"#;
    fs::write(tool.join("package.json"), package).unwrap();
    fs::write(tool.join("cli.js"), "#!/usr/bin/env node\nconsole.log('tool at', __dirname)\n").unwrap();
    let pack = Command::new("npm").args(["pack", "--silent"]).current_dir(&tool).output().unwrap();
    assert!(pack.status.success(), "{}", said(&pack));
    let archive = tool.join("tool-1.0.0.tgz");
    let package =
        format!("{{\"name\": \"app\", \"dependencies\": {{\"tool\": \"file:{}\"}}}}", archive.display());
    fs::write(dir.join("package.json"), package).unwrap();
    let npm = |args: &[&str]| {
        let output = Command::new("npm").args(args).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    npm(&["install", "--package-lock-only", "--no-audit", "--no-fund"]);
    let lock = dir.join("package-lock.json");
    let built = json(&test_home.holofs_ok(&["build", "--json", lock.to_str().unwrap()]));
    let blueprint = text_field(&built, "blueprint");
    let code = "\"$RCC_HOLOTREE_SPACE_ROOT/node_modules/.bin/tool\"";
    let output = test_home.holofs_ok(&["run", &blueprint, "a", "--", "sh", "-c", code]);
    let expected = format!("tool at {}\n", space(&test_home, "a").join("node_modules/tool").display());
    assert_eq!(stdout(&output), expected);
}

/// No conda channel is reachable here, so a substitute creates the expected prefix.
#[test]
fn build_of_conda_packages_is_done_by_the_tool_and_restored_by_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let yaml = test_home.scratch().join("package.yaml");
    let text = "dependencies:\n  conda-forge:\n  - python=3.11.7\n  - ca-certificates\n  pypi:\n  - requests=2.31.0\n";
    fs::write(&yaml, text).unwrap();
    let script = "#!/bin/sh\n[ \"$1 $2 $3 $4\" = 'env create --yes --prefix' ] && [ \"$6\" = --file ] || exit 9\n\
                  grep -q '^- ca-certificates$' \"$7\" || exit 8\nmkdir -p \"$5/bin\" && echo \"#!$5/bin/x\" > \"$5/bin/tool\"\n";
    let tool = tool(&test_home, "micromamba", script);
    let mut command = test_home.holofs_command(&["build", "--json", yaml.to_str().unwrap()]);
    let output = command.env("HOLOFS_CONDA", &tool).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    assert_eq!(stdout(&test_home.holofs_ok(&["hash", yaml.to_str().unwrap()])).trim_end(), blueprint);
    rcc.be_quiet(&test_home);
    let mut command = test_home.holofs_command(&["verify", &blueprint, "--parity", "--json"]);
    let output = command.env("HOLOFS_RCC", rcc.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let ways = json(&output)["parity"]["ways"].clone();
    assert!(ways.as_array().unwrap().iter().all(|way| way["skipped"].is_null()), "{ways:#}");
}
