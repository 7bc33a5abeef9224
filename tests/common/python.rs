//! A real Python environment, as RCC would build it: `scripts/python-env` creates it from this machine's Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::test_home::TestHome;
use super::{project, said, skip, stdout};

/// The name of the directory in which it is built.
pub const STAGE: &str = "h0c0ffee_493f813dad24d3t";

/// A Python prefix with requests in it at `stage`, and a copy of its blueprint outside of it.
fn real_python(test_home: &TestHome, stage: &Path) -> Option<PathBuf> {
    let mut script = Command::new(project().join("scripts/python-env"));
    let output = script.arg(stage).args(["--packages", "requests"]).output().unwrap();
    if !output.status.success() {
        skip(&format!("No Python environment: {}", said(&output)));
        return None;
    }
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::copy(stage.join("identity.yaml"), &blueprint).unwrap();
    Some(blueprint)
}

/// Records it and removes the directory, as RCC does; returns its catalog and its blueprint.
pub fn recorded_python(test_home: &TestHome) -> Option<(String, PathBuf)> {
    let stage = test_home.holotree().join(STAGE);
    let blueprint = real_python(test_home, &stage)?;
    let catalog = test_home.record(&stage, &blueprint);
    fs::remove_dir_all(&stage).unwrap();
    Some((catalog, blueprint))
}

/// This machine's Python.
pub fn interpreter() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    PathBuf::from(stdout(&output).trim_end())
}
