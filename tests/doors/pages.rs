//! The shell blocks of README and docs/ are run, except those marked `no-run: REASON`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::golden::BLUEPRINT;
use crate::common::python::{interpreter, recorded_python};
use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::uv::uv;
use crate::common::{json, project, run, said, skip, text_field};

/// Blocks that are not run. Change this number when a block is added.
const NOT_RUN: usize = 2;

/// Shells that blocks are for, each with the options for a script that ends at the first error.
const SHELLS: [(&str, &[&str]); 3] = [
    ("sh", &["bash", "--norc", "-euc"]),
    ("zsh", &["zsh", "-fec"]),
    ("fish", &["fish", "--no-config", "-c"]),
];

/// Words in a block, and the program without which it cannot run. Not all machines have one.
const NEEDED: [(&str, &str); 7] = [
    ("rcc ", "rcc"),
    ("--parity", "rcc"),
    ("pip install", "pip"),
    ("holofs build", "uv"),
    ("package-lock.json", "npm"),
    ("jupyter", "jupyter"),
    ("hook zsh", "zsh"),
];

/// The robot of the pages: it runs in a space.
const ROBOT: &str =
    "tasks: {Hello: {shell: python job.py}}\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
const JOB: &str = "import os, sys\nassert sys.prefix == os.environ['RCC_HOLOTREE_SPACE_ROOT']\n";

/// A shell block: where it is, for which shell, why it is not run, and its text.
struct Block {
    place: String,
    shell: &'static [&'static str],
    reason: Option<String>,
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
            (Some(_), "```") => found.extend(open.take()),
            (Some(block), line) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, line) => open = begun(line, format!("{name}:{}", number + 1)),
        }
    }
    found
}

/// The block that begins with this line.
fn begun(line: &str, place: String) -> Option<Block> {
    let line = line.strip_prefix("```")?;
    let (language, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (_, shell) = SHELLS.into_iter().find(|(name, _)| *name == language)?;
    let reason = rest.strip_prefix("no-run: ").map(str::to_owned);
    assert!(reason.is_some() || rest.is_empty(), "{place}: {rest:?} is not a reason: no-run: REASON");
    Some(Block { place, shell, reason, text: String::new() })
}

/// A home with a real Python, a directory with the files that pages mention, and programs that are not everywhere.
struct World {
    test_home: TestHome,
    dir: PathBuf,
    programs: PathBuf,
    hash: String,
}

impl World {
    fn new() -> Option<World> {
        let test_home = TestHome::new();
        let (catalog, blueprint) = recorded_python(&test_home)?;
        let (dir, programs) = (test_home.scratch().join("work"), test_home.scratch().join("programs"));
        for dir in [&dir, &programs] {
            fs::create_dir_all(dir).unwrap();
        }
        for below in
            [".local/share/bash-completion/completions", ".local/share/man/man1", ".config/direnv/lib"]
        {
            fs::create_dir_all(test_home.user().join(below)).unwrap();
        }
        fs::copy(blueprint, dir.join("conda.yaml")).unwrap();
        fs::write(dir.join("robot.yaml"), ROBOT).unwrap();
        fs::write(dir.join("job.py"), JOB).unwrap();
        let zip = dir.join("hololib.zip");
        test_home.holofs_ok(&["export", &catalog, "--zipfile", zip.to_str().unwrap()]);
        let world = World { test_home, dir, programs, hash: catalog[..16].to_owned() };
        world.add_programs();
        world.add_inputs_of_builds();
        Some(world)
    }

    fn add_programs(&self) {
        let pytest = self.programs.join("pytest");
        fs::write(&pytest, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&pytest, fs::Permissions::from_mode(0o755)).unwrap();
        let add = |name: &str, program: &Path| symlink(program, self.programs.join(name)).unwrap();
        if let Some(rcc) = rcc(17) {
            rcc.be_quiet(&self.test_home);
            add("rcc", rcc.path());
        }
        if let Some(uv) = uv() {
            add("pip", &uv.with_file_name("pip"));
            add("uv", &uv);
        }
        if let Some(python) = crate::kernel::jupyter() {
            add("jupyter", &python.with_file_name("jupyter"));
        }
    }

    /// Requirements and a project that need no network, and a lock file of npm.
    fn add_inputs_of_builds(&self) {
        let wheel = crate::common::wheel::wheel_of(&self.dir, "tinytool", "1.0");
        let name = wheel.file_name().unwrap().to_str().unwrap();
        let package = "{\"name\": \"app\", \"dependencies\": {\"eslint\": \"file:eslint-1.0.0.tgz\"}}";
        let project = "[project]\nname = 'app'\nversion = '1'\nrequires-python = '>=3.9'\ndependencies = ['tinytool']\n\
            [tool.uv.sources]\n";
        let project = format!("{project}tinytool = {{path = '{name}'}}\n");
        for (file, text) in [
            ("requirements.txt", wheel.to_str().unwrap()),
            ("pyproject.toml", &project),
            (
                "package.json",
                "{\"name\": \"eslint\", \"version\": \"1.0.0\", \"files\": [\"job.js\"], \"bin\": {\"eslint\": \"job.js\"}}",
            ),
            ("job.js", "#!/usr/bin/env node\n"),
        ] {
            fs::write(self.dir.join(file), text).unwrap();
        }
        if self.has("uv") {
            run(&mut self.shell(SHELLS[0].1, "uv lock"));
        }
        if self.has("npm") {
            run(&mut self.shell(SHELLS[0].1, "npm pack --silent"));
            fs::write(self.dir.join("package.json"), package).unwrap();
            run(&mut self.shell(SHELLS[0].1, "npm install --package-lock-only --no-audit --no-fund"));
        }
    }

    fn has(&self, program: &str) -> bool {
        let path = self.path();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    }

    fn path(&self) -> String {
        let holofs = Path::new(env!("CARGO_BIN_EXE_holofs")).parent().unwrap().display().to_string();
        format!("{holofs}:{}:{}", self.programs.display(), std::env::var("PATH").unwrap())
    }

    fn shell(&self, shell: &[&str], text: &str) -> Command {
        let mut command = self.test_home.command(shell[0]);
        command.args(&shell[1..]).arg(text).current_dir(&self.dir).stdin(Stdio::null());
        let caches = [("UV_CACHE_DIR", "uv"), ("npm_config_cache", "npm")];
        command.envs(caches.map(|(name, below)| (name, self.test_home.scratch().join(below))));
        command.env("PATH", self.path()).env("UV_OFFLINE", "1");
        command
    }

    /// The hash in a block: of what it builds first, else of the recorded environment.
    fn hash_in(&self, text: &str) -> String {
        let Some(build) =
            text.lines().find(|line| line.starts_with("holofs build ") && text.contains("HASH"))
        else {
            return self.hash.clone();
        };
        let build = build.split('#').next().unwrap().trim();
        text_field(&json(&run(&mut self.shell(SHELLS[0].1, &format!("{build} --json")))), "blueprint")
    }

    fn output(&self, block: &Block) -> Output {
        let hash = self.hash_in(&block.text);
        let text = block.text.replace(BLUEPRINT, &hash).replace(&BLUEPRINT[..8], &hash);
        // The version in the pages is not on all machines.
        let text = text.replace("--python 3.12", &format!("--python {}", interpreter().display()));
        let text = text.replace("HASH", &hash).replace("verify CATALOG", &format!("verify {hash}"));
        self.shell(block.shell, &text).output().unwrap()
    }
}

#[test]
fn shell_blocks_of_the_pages_work() {
    let all = blocks();
    // This test cannot run the command that runs all tests.
    let all = all.iter().filter(|block| !block.text.starts_with("scripts/"));
    let (to_run, left): (Vec<&Block>, Vec<&Block>) = all.partition(|block| block.reason.is_none());
    let names: Vec<&str> = left.iter().map(|block| block.place.as_str()).collect();
    assert_eq!(names.len(), NOT_RUN, "{names:?}");
    assert!(left.iter().all(|block| block.reason.as_ref().is_some_and(|why| why.len() > 10)));
    assert!(to_run.len() >= 20, "{}", to_run.len());
    let Some(world) = World::new() else { return };
    let mut failed = Vec::new();
    for block in to_run {
        let needed =
            NEEDED.iter().filter(|(words, _)| block.text.contains(words)).map(|(_, program)| program);
        if let Some(missing) = needed.chain([&block.shell[0]]).find(|program| !world.has(program)) {
            skip(&format!("{}: no {missing}", block.place));
            continue;
        }
        let output = world.output(block);
        if !output.status.success() {
            failed.push(format!("{}:\n{}\n{}", block.place, block.text, said(&output)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
