//! What selects a catalog: a name, a file, a directory, or the current directory; and where the command of `run` begins.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::golden::{self, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, json, said, skip, space_path, stderr, stdout};

/// A home with the golden catalog, and a robot that names it.
fn robot() -> (TestHome, PathBuf) {
    let test_home = TestHome::golden(Regime::Gzip);
    let dir = test_home.scratch().join("robot");
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::copy(golden::file("golden.yaml"), dir.join("conda.yaml")).unwrap();
    fs::write(dir.join("robot.yaml"), "condaConfigFile: conda.yaml\nartifactsDir: output\n").unwrap();
    fs::write(dir.join("package.yaml"), "dependencies: {pypi: [a=1]}\n").unwrap();
    (test_home, dir)
}

fn in_dir(test_home: &TestHome, dir: &Path, args: &[&str]) -> Output {
    test_home.holofs_command(args).current_dir(dir).output().unwrap()
}

/// Runs a command that prints the blueprint and the label, and returns both.
fn seen(test_home: &TestHome, dir: &Path, before: &[&str]) -> (String, String) {
    let script = "echo $RCC_ENVIRONMENT_HASH ${RCC_HOLOTREE_SPACE_ROOT##*/}";
    let output = in_dir(test_home, dir, &[before, &["sh", "-c", script]].concat());
    assert!(output.status.success(), "{before:?}: {}", said(&output));
    let text = stdout(&output);
    let (blueprint, label) = text.trim_end().split_once(' ').unwrap();
    (blueprint.to_owned(), label.to_owned())
}

/// The end of the label of a space of the controller `user`.
const USER: &str = "_5a1fac3_9fcd2534";

#[test]
fn run_accepts_a_catalog_a_file_a_directory_or_the_current_directory() {
    let (test_home, dir) = robot();
    let conda = dir.join("conda.yaml");
    let path = test_home.hololib().join("catalog").join(golden::CATALOG);
    let [conda, robot, path] = [&conda, &dir, &path].map(|path| path.to_str().unwrap());
    let forms: [&[&str]; 12] = [
        &["run", conda],
        &["run", conda, "--"],
        &["run", robot],
        &["run", "robot.yaml", "--space", "user"],
        &["run", "--space=user", "."],
        &["run"],
        &["run", "--"],
        &["run", golden::BLUEPRINT],
        &["run", golden::CATALOG, "-s", "user"],
        &["run", path],
        &["run", &golden::BLUEPRINT[..3], "user", "--"],
        &["run", golden::BLUEPRINT, "user", "--controller", "user", "--"],
    ];
    for before in forms {
        let (blueprint, label) = seen(&test_home, &dir, before);
        assert_eq!(blueprint, golden::BLUEPRINT, "{before:?}");
        assert!(label.ends_with(USER), "{before:?}: {label}");
    }
    let (_, other) = seen(&test_home, &dir, &["run", golden::BLUEPRINT, "other", "--"]);
    assert!(!other.ends_with(USER), "{other}");
}

#[test]
fn run_in_a_separate_space_leaves_nothing() {
    let (test_home, dir) = robot();
    let [(_, first), (_, second)] =
        [(); 2].map(|()| seen(&test_home, &dir, &["run", "--space", "auto", "conda.yaml"]));
    assert_ne!(first, second);
    let left = |dir: &Path| {
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    for dir in [test_home.holotree(), test_home.home().join("holofs/spaces")] {
        let names = left(&dir);
        let ours = |name: &&std::ffi::OsString| {
            [&first, &second].iter().any(|label| name.to_string_lossy().contains(label.as_str()))
        };
        assert_eq!(names.iter().find(ours), None, "in {}", dir.display());
    }
}

#[test]
fn run_finds_the_directories_of_its_robot() {
    let (test_home, dir) = robot();
    let text = "condaConfigFile: conda.yaml\nartifactsDir: output\nPATH: [bin]\nPYTHONPATH: [., lib]\n";
    fs::write(dir.join("robot.yaml"), text).unwrap();
    fs::create_dir(dir.join("bin")).unwrap();
    let script = "echo $ROBOT_ROOT; echo $ROBOT_ARTIFACTS; echo $PYTHONPATH; echo ${PATH%%:*}";
    let output = in_dir(&test_home, test_home.user(), &["run", dir.to_str().unwrap(), "sh", "-c", script]);
    let root = dir.to_str().unwrap();
    let expected = format!("{root}\n{root}/output\n{root}:{root}/lib\n{root}/bin\n");
    assert_eq!(stdout(&output), expected, "{}", said(&output));
}

#[test]
fn mount_materialize_and_variables_take_files_too() {
    let (test_home, dir) = robot();
    let mounted = json(&in_dir(&test_home, &dir, &["mount", "conda.yaml", "--json"]));
    assert!(space_path(&mounted).to_str().unwrap().ends_with(USER));
    let variables = in_dir(&test_home, &dir, &["variables", "--json"]);
    let root = space_path(&mounted);
    assert!(stdout(&variables).contains(root.to_str().unwrap()), "{}", said(&variables));
    assert!(stdout(&variables).contains("ROBOT_ROOT"), "{}", said(&variables));
    test_home.holofs_ok(&["unmount", "user"]);
    let laid = json(&in_dir(&test_home, &dir, &["materialize", ".", "-s", "files", "--json"]));
    assert!(space_path(&laid).join("bin").is_dir());
}

#[test]
fn run_without_a_catalog_names_the_command_that_makes_one() {
    let (test_home, dir) = robot();
    let output = in_dir(&test_home, &dir, &["run", "package.yaml", "true"]);
    assert_eq!(output.status.code(), Some(exit::NOT_BEGUN), "{}", said(&output));
    for word in ["package.yaml", "holofs build", "rcc holotree variables", "holofs import", "holofs pull"] {
        assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
    }
    let output = in_dir(&test_home, &dir.join("empty"), &["run", "true"]);
    assert_eq!(output.status.code(), Some(exit::NOT_BEGUN), "{}", said(&output));
    assert!(stderr(&output).contains("no robot.yaml, no package.yaml, no conda.yaml"), "{}", stderr(&output));
}

#[test]
fn mount_and_run_refuse_a_catalog_of_another_platform() {
    let (test_home, dir) = robot();
    let catalogs = test_home.hololib().join("catalog");
    let text = golden::inflate(&fs::read(catalogs.join(golden::CATALOG)).unwrap());
    let foreign = text.replacen("\"linux_amd64\"", "\"darwin_arm64\"", 1);
    let name = format!("{}v12.darwin_arm64", golden::BLUEPRINT);
    fs::write(catalogs.join(&name), golden::deflate(&foreign)).unwrap();
    let (blueprint, _) = seen(&test_home, &dir, &["run", golden::BLUEPRINT]);
    assert_eq!(blueprint, golden::BLUEPRINT);
    for args in
        [&["run", &name, "true"][..], &["mount", &name], &["materialize", &name], &["variables", &name]]
    {
        let output = in_dir(&test_home, &dir, args);
        let code = if args[0] == "run" { exit::NOT_BEGUN } else { exit::BAD_CATALOG };
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(stderr(&output).contains("another platform"), "{}", stderr(&output));
    }
    fs::remove_file(catalogs.join(golden::CATALOG)).unwrap();
    let output = in_dir(&test_home, &dir, &["run", "conda.yaml", "true"]);
    assert_eq!(output.status.code(), Some(exit::NOT_BEGUN), "{}", said(&output));
}

/// A catalog that was recorded below another user's home, which does not exist here.
#[test]
fn run_of_a_catalog_of_another_home_uses_its_own_path_and_mount_refuses() {
    let (test_home, dir) = robot();
    let alice = test_home.scratch().join("alice");
    let base = alice.join(".robocorp/holotree");
    let path = test_home.hololib().join("catalog").join(golden::CATALOG);
    let text = golden::inflate(&fs::read(&path).unwrap());
    let moved = text.replacen(test_home.holotree().to_str().unwrap(), base.to_str().unwrap(), 1);
    assert_ne!(moved, text);
    fs::write(&path, golden::deflate(&moved)).unwrap();
    if !is_root() {
        return skip("Only root could make what is not its own");
    }
    for args in [
        &["mount", golden::BLUEPRINT][..],
        &["materialize", golden::BLUEPRINT],
        &["variables", golden::BLUEPRINT],
    ] {
        let output = test_home.holofs_fails(args, exit::CANNOT_MOUNT);
        let text = stderr(&output);
        assert!(text.contains(base.to_str().unwrap()) && text.contains("holofs run"), "{text}");
        assert!(!alice.exists(), "{args:?} made {}", alice.display());
    }
    let script = "echo $RCC_HOLOTREE_SPACE_ROOT; ls $RCC_HOLOTREE_SPACE_ROOT/bin >/dev/null && echo there";
    let output = in_dir(&test_home, &dir, &["run", "conda.yaml", "sh", "-c", script]);
    assert_eq!(
        stdout(&output),
        format!("{}/{}\nthere\n", base.display(), golden::IDENTITY),
        "{}",
        said(&output)
    );
    assert!(!base.join(golden::IDENTITY).exists());
    test_home.holofs_ok(&["gc"]);
}
