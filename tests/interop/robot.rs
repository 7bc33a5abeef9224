//! `rcc run` of a robot, by the official RCC, in a space that HoloFS mounted.
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
