//! `holofs build`: uv makes the prefix, and both programs use the catalog.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::compare;
use crate::common::rcc::rcc;
use crate::common::sandbox::Sandbox;
use crate::common::uv::uv;
use crate::common::{json, said, stdout, text_field, until};

/// The interpreter that is copied: this machine's own.
fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    stdout(&output).trim_end().to_owned()
}

/// A package with a console script, a `.pth` file and data, as a wheel.
fn wheel(dir: &Path) -> PathBuf {
    let script = r#"
import sys, zipfile
files = {
    "tinytool/__init__.py": "NAME = 'tinytool'\ndef main():\n    print('tinytool in', __import__('sys').prefix)\n",
    "tinytool.pth": "tinytool_extra\n",
    "tinytool_extra/tinyextra.py": "X = 1\n",
    "tinytool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinytool\nVersion: 1.0\n",
    "tinytool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tinytool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntinytool = tinytool:main\n",
}
record = "".join("%s,,\n" % name for name in files) + "tinytool-1.0.dist-info/RECORD,,\n"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
    wheel.writestr("tinytool-1.0.dist-info/RECORD", record)
"#;
    let path = dir.join("tinytool-1.0-py3-none-any.whl");
    let status = Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
    assert!(status.success());
    path
}

fn build(sandbox: &Sandbox, uv: &Path, args: &[&str]) -> Command {
    let mut command = sandbox.holofs_command(&["build", "--json", "--python", &python()]);
    command.args(args).env("HOLOFS_UV", uv).env("UV_CACHE_DIR", sandbox.scratch().join("uv"));
    command
}

/// A requirements.txt that needs no network.
fn requirements(sandbox: &Sandbox) -> String {
    let file = sandbox.scratch().join("requirements.txt");
    fs::write(&file, format!("{}\n", wheel(&sandbox.scratch()).display())).unwrap();
    file.to_str().unwrap().to_owned()
}

fn stage(sandbox: &Sandbox) -> Option<PathBuf> {
    let entries = fs::read_dir(sandbox.holotree()).unwrap().map(|entry| entry.unwrap());
    let mut stages = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('h'));
    stages.next().map(|entry| entry.path())
}

#[test]
fn build_from_requirements_runs_elsewhere_and_is_done_once() {
    let Some(uv) = uv() else { return };
    let sandbox = Sandbox::new();
    let file = requirements(&sandbox);
    let output = build(&sandbox, &uv, &["--check", "--offline", &file]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let built = json(&output);
    assert_eq!(built["is_new"], true);
    assert_eq!(stage(&sandbox), None, "the stage is gone");
    let blueprint = text_field(&built, "blueprint");
    let run = sandbox.holofs_ok(&["run", &blueprint, "a", "--", "tinytool"]);
    assert_eq!(stdout(&run).trim_end(), format!("tinytool in {}", space(&sandbox, "a").display()));
    let extra = ["run", &blueprint, "a", "--", "python3", "-c", "import tinyextra; print(tinyextra.X)"];
    assert_eq!(stdout(&sandbox.holofs_ok(&extra)), "1\n");
    // The second time no tool is needed.
    let again = json(&build(&sandbox, Path::new("/nonexistent/uv"), &[&file]).output().unwrap());
    assert_eq!((again["is_new"].as_bool(), text_field(&again, "blueprint")), (Some(false), blueprint));
}

fn space(sandbox: &Sandbox, name: &str) -> PathBuf {
    let output = json(&sandbox.holofs_ok(&["list", "--json"]));
    let rows = output.as_object().unwrap().values();
    let row = rows.into_iter().find(|row| row["space"] == name).unwrap();
    text_field(row, "path").into()
}

#[test]
fn build_from_conda_yaml_has_the_blueprint_of_rcc_which_restores_it() {
    let (Some(uv), Some(rcc)) = (uv(), rcc(17)) else { return };
    let sandbox = Sandbox::new();
    let yaml = sandbox.scratch().join("conda.yaml");
    let wheel = wheel(&sandbox.scratch());
    let pip = format!("tinytool@file://{}", wheel.display());
    fs::write(&yaml, format!("channels:\n- conda-forge\ndependencies:\n- python\n- pip:\n  - {pip}\n"))
        .unwrap();
    let output = build(&sandbox, &uv, &["--offline", yaml.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let blueprint = text_field(&json(&output), "blueprint");
    let hash = sandbox.holofs_ok(&["hash", yaml.to_str().unwrap()]);
    assert_eq!(stdout(&hash).trim_end(), blueprint);
    let (root, _) = rcc.restore(&sandbox, &yaml, "user", "byrcc");
    let ours = sandbox.materialize(&blueprint, "ours", "user");
    compare::assert_same_space(&root, &ours);
}

#[test]
fn build_that_is_interrupted_leaves_nothing_and_one_that_is_killed_is_cleaned_up_by_the_next() {
    let sandbox = Sandbox::new();
    let file = requirements(&sandbox);
    // A tool that never ends.
    let slow = sandbox.scratch().join("slow-uv");
    fs::write(&slow, "#!/bin/sh\nexec sleep 60\n").unwrap();
    Command::new("chmod").args(["755", slow.to_str().unwrap()]).status().unwrap();
    for (signal, code, is_left) in [("INT", Some(130), false), ("KILL", None, true)] {
        let mut child =
            build(&sandbox, &slow, &[&file]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        until(|| stage(&sandbox).is_some_and(|stage| stage.join("bin/python3").exists()));
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert_eq!(stage(&sandbox).is_some(), is_left, "{signal}");
    }
    assert_eq!(sandbox.catalogs(), [""; 0]);
    let output = build(&sandbox, Path::new("/nonexistent/uv"), &[&file]).output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(stage(&sandbox), None, "what the killed build left is gone");
}

#[test]
fn build_says_which_tool_is_missing_and_what_failed() {
    let sandbox = Sandbox::new();
    let file = requirements(&sandbox);
    let missing = build(&sandbox, Path::new("uv-that-is-not-there"), &[&file]).output().unwrap();
    let text = said(&missing);
    assert!(text.contains("Cannot find uv, which installs packages from PyPI"), "{text}");
    let failing = build(&sandbox, Path::new("/bin/false"), &[&file]).output().unwrap();
    assert!(said(&failing).contains("Installing packages failed"), "{}", said(&failing));
}
