//! The shell blocks of README and docs/ are run, except those marked `no-run`, which need something unavailable here or wait for input.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::golden::BLUEPRINT;
use crate::common::python::recorded_python;
use crate::common::test_home::TestHome;
use crate::common::{project, said};

/// Blocks that are not run. Change this number when a block is added.
const NOT_RUN: usize = 10;

const ROBOT: &str =
    "tasks: {Hello: {shell: python job.py}}\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";

/// A shell block: where it is, whether it is run, and its text.
struct Block {
    place: String,
    runs: bool,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut pages: Vec<PathBuf> = fs::read_dir(project().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(project().join("README.md"));
    pages.sort();
    pages.iter().flat_map(|page| of_page(page)).collect()
}

fn of_page(page: &Path) -> Vec<Block> {
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    let name = page.file_name().unwrap().to_string_lossy().into_owned();
    for (number, line) in fs::read_to_string(page).unwrap().lines().enumerate() {
        match (&mut open, line) {
            (None, "```sh" | "```sh no-run") => {
                let place = format!("{name}:{}", number + 1);
                open = Some(Block { place, runs: line == "```sh", text: String::new() });
            }
            (Some(_), "```") => found.extend(open.take()),
            (Some(block), line) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

/// A home with a real Python, a directory with the files that pages mention, programs that the environment lacks, and its hash.
fn world() -> Option<(TestHome, PathBuf, PathBuf, String)> {
    let test_home = TestHome::new();
    let (catalog, blueprint) = recorded_python(&test_home)?;
    let dir = test_home.scratch().join("work");
    let programs = test_home.scratch().join("programs");
    for dir in [&dir, &programs] {
        fs::create_dir_all(dir).unwrap();
    }
    for below in [".local/share/bash-completion/completions", ".local/share/man/man1", ".config/direnv/lib"] {
        fs::create_dir_all(test_home.user().join(below)).unwrap();
    }
    fs::copy(blueprint, dir.join("conda.yaml")).unwrap();
    fs::write(dir.join("robot.yaml"), ROBOT).unwrap();
    fs::write(dir.join("job.py"), "import requests\n").unwrap();
    let path = programs.join("pytest");
    fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Some((test_home, dir, programs, catalog[..16].to_owned()))
}

#[test]
fn shell_blocks_of_the_pages_work() {
    let all = blocks();
    // This test cannot run the command that runs all tests.
    let is_script = |block: &Block| block.text.starts_with("scripts/");
    let (run, left): (Vec<&Block>, Vec<&Block>) = all.iter().partition(|it| it.runs && !is_script(it));
    let names: Vec<&str> = left.iter().filter(|it| !is_script(it)).map(|it| it.place.as_str()).collect();
    assert_eq!(names.len(), NOT_RUN, "{names:?}");
    assert!(run.len() >= 7, "{}", run.len());
    let program = Path::new(env!("CARGO_BIN_EXE_holofs")).parent().unwrap();
    let mut failed = Vec::new();
    let Some((test_home, dir, programs, hash)) = world() else { return };
    for block in run {
        let path = std::env::var("PATH").unwrap();
        let mut bash = test_home.command("bash");
        bash.args(["--norc", "-euc", &block.text.replace("HASH", &hash).replace(BLUEPRINT, &hash)])
            .current_dir(&dir);
        bash.env("PATH", format!("{}:{}:{path}", program.display(), programs.display()));
        let output = bash.stdin(std::process::Stdio::null()).output().unwrap();
        if !output.status.success() {
            failed.push(format!("{}:\n{}\n{}", block.place, block.text, said(&output)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
