//! Robots: `rcc run` by the official RCC in a space that HoloFS mounted, and `holofs run` of the same tasks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::mounted::is_mounted;
use crate::common::python::recorded_python;
use crate::common::rcc::{Rcc, rcc};
use crate::common::test_home::TestHome;
use crate::common::{said, stderr, stdout};

const ROBOT: &str = "tasks:\n  Hello:\n    shell: python hello.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n\
    PATH:\n  - .\nPYTHONPATH:\n  - .\nignoreFiles: []\n";
const TASK: &str = "import pathlib, requests, sys\npathlib.Path('output/done.txt').write_text(sys.prefix + ' ' + requests.__version__)\n";

/// A robot with a trivial task, for the environment of that blueprint.
fn robot(test_home: &TestHome, blueprint: &Path) -> PathBuf {
    let dir = test_home.scratch().join("robot");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(blueprint, dir.join("conda.yaml")).unwrap();
    fs::write(dir.join("robot.yaml"), ROBOT).unwrap();
    fs::write(dir.join("hello.py"), TASK).unwrap();
    dir
}

/// Runs the robot's task in a space, and returns the prefix of its Python and RCC's output.
fn run_robot(rcc: &Rcc, test_home: &TestHome, robot: &Path, space: &str) -> (PathBuf, String) {
    fs::remove_dir_all(robot.join("output")).ok();
    let yaml = robot.join("robot.yaml");
    let args = ["--no-build", "run", "-r", yaml.to_str().unwrap(), "--task", "Hello", "--space", space];
    let output = rcc.run(test_home, &args);
    let done =
        fs::read_to_string(robot.join("output/done.txt")).unwrap_or_else(|_| panic!("{}", said(&output)));
    (PathBuf::from(done.split(' ').next().unwrap()), stderr(&output) + &stdout(&output))
}

#[test]
fn run_of_a_robot_is_the_same_in_a_mount_as_in_a_tree_of_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let Some((catalog, blueprint)) = recorded_python(&test_home) else { return };
    let robot = robot(&test_home, &blueprint);
    let hash = stdout(&test_home.holofs_ok(&["hash", robot.join("conda.yaml").to_str().unwrap()]));
    assert!(catalog.starts_with(hash.trim_end()));
    let mounted = test_home.mount(&catalog, "robot", "user", &[]);
    for _ in 0..2 {
        let (prefix, said) = run_robot(&rcc, &test_home, &robot, "robot");
        assert_eq!(prefix, mounted.path());
        assert!(is_mounted(&prefix), "RCC took the mount away");
        assert!(!said.contains("dirty environment"), "{said}");
    }
    let dirty = &crate::common::json(&test_home.holofs_ok(&["list", "--json"]));
    let label = mounted.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(dirty[label]["holofs"]["dirty_bytes"], 0, "{dirty:#}");
    mounted.unmount();
    let (prefix, _) = run_robot(&rcc, &test_home, &robot, "theirs");
    assert!(!is_mounted(&prefix));
    let filed = test_home.materialize(&catalog, "filed", "user");
    assert_eq!(run_robot(&rcc, &test_home, &robot, "filed").0, filed);
}

/// Writes what a task sees to the directory for artifacts.
const SEEN: &str = r#"
import json, os, sys
names = ["PATH", "PYTHONPATH", "ROBOT_ROOT", "ROBOT_ARTIFACTS", "RCC_ENVIRONMENT_HASH", "RCC_HOLOTREE_SPACE_ROOT"]
seen = {name: os.environ.get(name) for name in names}
seen |= {"argv": sys.argv, "cwd": os.getcwd(), "prefix": sys.prefix, "prepared": os.path.exists("prepared")}
open(os.environ["ROBOT_ARTIFACTS"] + "/seen.json", "w").write(json.dumps(seen))
"#;

const TASKS: &str = r#"
tasks:
  In a shell:
    shell: python tools/seen.py 'a b' "c \"d\" \e" $HOME \~ "" x#y # not this
  Words:
    command: [python, tools/seen.py, a b, "", 1]
  Framework:
    robotTaskName: Do it
  Script:
    shell: sub/seen.sh one
condaConfigFile: conda.yaml
artifactsDir: out put/deep
preRunScripts:
- python tools/prepare.py 'one word'
- sh only_on_windows.sh
PATH: [., tools/bin]
PYTHONPATH: [tools, lib]
"#;

/// A robot whose tasks note what they see.
fn noting_robot(test_home: &TestHome, blueprint: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = robot(test_home, blueprint);
    for below in ["tools/robot", "tools/bin/sub"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    let prepare = "import sys\nassert sys.argv[1:] == ['one word']\nopen('prepared', 'w')\n";
    for (name, text) in [
        ("robot.yaml", TASKS),
        ("tools/seen.py", SEEN),
        // In place of Robot Framework, which the environment lacks.
        ("tools/robot/__main__.py", SEEN),
        ("tools/prepare.py", prepare),
        ("tools/bin/sub/seen.sh", "#!/bin/sh\nexec python \"$ROBOT_ROOT/tools/seen.py\" \"$@\"\n"),
    ] {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// What the task saw that ran last; removes its traces.
fn seen(robot: &Path, output: &std::process::Output) -> serde_json::Value {
    let file = robot.join("out put/deep/seen.json");
    let text = fs::read_to_string(file).unwrap_or_else(|_| panic!("{}", said(output)));
    fs::remove_dir_all(robot.join("out put")).unwrap();
    fs::remove_file(robot.join("prepared")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn run_of_a_task_is_as_with_rcc() {
    let test_home = TestHome::new();
    let Some((_, blueprint)) = recorded_python(&test_home) else { return };
    let dir = noting_robot(&test_home, &blueprint);
    let yaml = dir.join("robot.yaml");
    let yaml = yaml.to_str().unwrap();
    let tasks: [(&str, &[&str]); 5] = [
        ("In a shell", &[]),
        ("In a shell", &["more", "than one"]),
        (" 'words' ", &["x"]),
        ("Framework", &[]),
        ("script", &[]),
    ];
    for (task, more) in tasks {
        let args = [&["run", yaml, "--task", task, "--space", "robot", "--"], more].concat();
        let ours = seen(&dir, &test_home.holofs_ok(&args));
        assert_eq!((&ours["cwd"], &ours["prepared"]), (&dir.to_str().unwrap().into(), &true.into()));
        for version in [17, 19] {
            let Some(rcc) = rcc(version) else { return };
            let args = ["--no-build", "run", "-r", yaml, "--task", task, "--space", "robot", "--"];
            let theirs = seen(&dir, &rcc.run(&test_home, &[&args, more].concat()));
            assert_eq!(ours, theirs, "{task} with RCC {version}");
        }
    }
}

#[test]
fn run_of_no_task_is_refused_as_by_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let Some((_, blueprint)) = recorded_python(&test_home) else { return };
    let dir = noting_robot(&test_home, &blueprint);
    let names = r#""Framework", "In a shell", "Script", "Words""#;
    for more in [&[][..], &["--task", "Other"]] {
        let args = [&["--no-build", "run", "--space", "robot"], more].concat();
        let theirs = rcc.try_run_in(&test_home, &dir, &args);
        assert!(stderr(&theirs).contains(&format!("Available task names are: {names}")), "{}", said(&theirs));
        let ours = test_home.holofs_command(&[&["run"], more].concat()).current_dir(&dir).output().unwrap();
        assert_eq!(ours.status.code(), Some(125), "{}", said(&ours));
        assert!(stderr(&ours).contains(names), "{}", said(&ours));
        assert!(stderr(&ours).ends_with("hint: choose one with --task NAME\n"), "{}", said(&ours));
    }
    for text in ["condaConfigFile: conda.yaml\n", "condaConfigFile: conda.yaml\ntasks: {a: {shell: b}}\n"] {
        fs::write(dir.join("robot.yaml"), text).unwrap();
        assert!(!rcc.try_run_in(&test_home, &dir, &["--no-build", "run"]).status.success(), "{text}");
        let ours = test_home.holofs_command(&["run"]).current_dir(&dir).output().unwrap();
        assert_eq!(ours.status.code(), Some(125), "{}", said(&ours));
    }
}

#[test]
fn task_does_not_start_after_a_script_that_failed() {
    let test_home = TestHome::new();
    let Some((_, blueprint)) = recorded_python(&test_home) else { return };
    let dir = noting_robot(&test_home, &blueprint);
    let run = |script: &str| {
        fs::write(dir.join("tools/prepare.py"), script).unwrap();
        let args = ["run", "--task", "Words"];
        let output = test_home.holofs_command(&args).current_dir(&dir).output().unwrap();
        assert!(!dir.join("out put/deep/seen.json").exists());
        output
    };
    let failed = run("raise SystemExit(3)");
    assert_eq!(failed.status.code(), Some(125), "{}", said(&failed));
    let what = "error: The command python tools/prepare.py one word failed, which runs before the task: exit status: 3";
    assert!(stderr(&failed).contains(what), "{}", said(&failed));
    let killed = run("import os; os.kill(os.getpid(), 15)");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(15), "{}", said(&killed));
}
