//! The recipe for VS Code: its Python extension runs the interpreter by its path, without the variables of a run.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::python::recorded_python;
use crate::common::test_home::TestHome;
use crate::common::{project, run, stdout};

/// What the extension finds out about an interpreter before it accepts one.
const ASK: &str = "import json, sys, requests; print(json.dumps([sys.prefix, sys.executable, sys.maxsize > 2**32, requests.__file__]))";

/// `holofs mount` as on the page: the path of the space is all it prints.
fn mounted(test_home: &TestHome, blueprint: &Path) -> PathBuf {
    let args = ["mount", blueprint.to_str().unwrap(), "--space", "editor"];
    let output = stdout(&test_home.holofs_ok(&args));
    assert_eq!(output.lines().count(), 1, "{output}");
    PathBuf::from(output.trim_end())
}

/// The interpreter answers as one that is installed at `space`.
fn answers(space: &Path) {
    let python = space.join("bin/python");
    let asked = run(Command::new(&python).env_clear().args(["-I", "-c", ASK]));
    let found: (PathBuf, PathBuf, bool, PathBuf) = serde_json::from_str(&stdout(&asked)).unwrap();
    assert_eq!((found.0.as_path(), found.1.as_path(), found.2), (space, python.as_path(), true));
    assert!(found.3.starts_with(space), "{}", found.3.display());
}

#[test]
fn an_editor_uses_the_python_of_a_kept_mount_by_one_path() {
    let page = std::fs::read_to_string(project().join("docs/shells.md")).unwrap();
    assert!(page.contains("holofs mount conda.yaml --space editor"), "the page has another command");
    let test_home = TestHome::new();
    let Some((_, blueprint)) = recorded_python(&test_home) else { return };
    let space = mounted(&test_home, &blueprint);
    answers(&space);
    assert_eq!(mounted(&test_home, &blueprint), space, "while it is mounted");
    test_home.holofs_ok(&["unmount", "editor"]);
    // As after a restart of the machine.
    assert_eq!(mounted(&test_home, &blueprint), space);
    answers(&space);
    test_home.holofs_ok(&["unmount", "editor"]);
}
