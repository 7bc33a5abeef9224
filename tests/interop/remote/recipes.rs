//! The recipes for CI in docs/remote.md: their commands, as the page has them, against a registry with a password.
//!
//! The environment is recorded before, and `holofs build` does nothing: packages cannot be downloaded here. Its `python` is a script
//! that reads a file of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::services::{Login, Registry};
use super::{contents, recorded};
use crate::common::golden::IDENTITY;
use crate::common::test_home::TestHome;
use crate::common::{project, run, said, stdout};

/// The commands of the recipes, in the order of the page: of GitHub, then of GitLab.
struct Recipes {
    github: Vec<String>,
    gitlab: Vec<String>,
}

fn recipes() -> Recipes {
    let page = fs::read_to_string(project().join("docs/remote.md")).unwrap();
    let blocks: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [github, gitlab] = blocks[..] else { panic!("{} recipes", blocks.len()) };
    Recipes { github: steps(github), gitlab: scripts(gitlab) }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Each `run:` of a workflow.
fn steps(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_run = |(_, line): &(usize, &&str)| line.trim_start().starts_with("- run: ");
    let step = |(at, line): (usize, &&str)| match line.trim_start().strip_prefix("- run: ").unwrap() {
        "|" => {
            let block = lines[at + 1..].iter().take_while(|next| indent(next) > indent(line));
            block.map(|line| line.trim()).collect::<Vec<_>>().join("\n")
        }
        command => command.to_owned(),
    };
    lines.iter().enumerate().filter(is_run).map(step).collect()
}

/// Each `script:` and `before_script:` of a pipeline.
fn scripts(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_script = |(_, line): &(usize, &&str)| line.trim_end().ends_with("script:");
    let script = |(at, line): (usize, &&str)| {
        let items = lines[at + 1..].iter().take_while(|next| indent(next) > indent(line));
        items.map(|item| item.trim_start().strip_prefix("- ").unwrap()).collect::<Vec<_>>().join("\n")
    };
    lines.iter().enumerate().filter(is_script).map(script).collect()
}

/// Records an environment for the conda.yaml that is returned, and makes a directory with the programs of a job.
fn prepared(from: &TestHome) -> (PathBuf, PathBuf) {
    let bin = from.scratch().join("bin");
    let stage = from.holotree().join(IDENTITY).join("bin");
    let write = |dir: &Path, name: &str, text: &str| {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(&stage, "python", "cat \"${0%/*}/../lib/file-4000\" >/dev/null && echo \"python $*\"");
    recorded(from, &contents(), "recipe=1");
    write(
        &bin,
        "holofs",
        &format!("[ \"$1\" != build ] || exit 0\nexec {} \"$@\"", env!("CARGO_BIN_EXE_holofs")),
    );
    (from.scratch().join("conda.yaml"), bin)
}

/// A job in a home: its commands, in a checkout.
fn job(home: &TestHome, (yaml, bin): &(PathBuf, PathBuf), script: &str, vars: &[(&str, &str)]) -> Command {
    let dir = home.scratch().join("checkout");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(yaml, dir.join("conda.yaml")).unwrap();
    let mut command = home.command("bash");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command.args(["--norc", "-euc", script]).env("PATH", path).current_dir(dir).envs(vars.iter().copied());
    command
}

#[test]
fn recipe_for_github_pushes_once_and_runs_lazily() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(registry) = Registry::start(&from.scratch(), &Login::Password) else { return };
    // docker/login-action does this.
    [&from, &to].into_iter().for_each(|home| registry.log_in(home));
    let steps: Vec<String> =
        recipes().github.iter().map(|step| step.replace("ghcr.io", &registry.address())).collect();
    let [environment, test] = &steps[..] else { panic!("{steps:?}") };
    let (made, summary) = (prepared(&from), from.scratch().join("summary"));
    let vars = [("GITHUB_REPOSITORY", "Team/Robot"), ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap())];
    run(&mut job(&from, &made, environment, &vars));
    let said_once = fs::read_to_string(&summary).unwrap();
    assert!(said_once.contains("MiB"), "{said_once}");
    let tested = run(&mut job(&to, &made, test, &vars));
    assert_eq!(stdout(&tested), "python -m pytest\n", "{}", said(&tested));
    assert_eq!(to.catalogs(), [""; 0], "it ran before all of it was there");
    run(&mut job(&from, &made, environment, &vars));
    assert_eq!(fs::read_to_string(&summary).unwrap(), said_once, "it was pushed again");
}

#[test]
fn recipe_for_gitlab_pushes_and_runs_lazily() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(registry) = Registry::start(&from.scratch(), &Login::Password) else { return };
    let scripts = recipes().gitlab;
    let [before, environment, test] = &scripts[..] else { panic!("{scripts:?}") };
    let (made, address) = (prepared(&from), registry.address());
    let image = format!("{address}/team/robot");
    let vars = [
        ("CI_REGISTRY", address.as_str()),
        ("CI_REGISTRY_IMAGE", &image),
        ("CI_REGISTRY_USER", "user"),
        ("CI_REGISTRY_PASSWORD", "secret"),
    ];
    let pushed = run(&mut job(&from, &made, &format!("{before}\n{environment}"), &vars));
    assert!(stdout(&pushed).contains("MiB"), "{}", said(&pushed));
    let tested = run(&mut job(&to, &made, &format!("{before}\n{test}"), &vars));
    assert_eq!(stdout(&tested), "python -m pytest\n", "{}", said(&tested));
    assert_eq!(to.catalogs(), [""; 0], "it ran before all of it was there");
}
