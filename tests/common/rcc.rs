//! The official RCC, run in the home of a test. `scripts/rcc` downloads it, for tests only.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::test_home::TestHome;
use super::{project, run, said, skip, stderr, stdout};

/// An official RCC.
pub struct Rcc {
    binary: PathBuf,
}

/// How many files differ from the catalog, as RCC reports it.
#[derive(Debug, PartialEq, Eq)]
pub struct Dirty {
    pub dirty: u64,
    pub files: u64,
}

/// RCC 17 or 19; `None`, with the reason printed, where it is not available.
pub fn rcc(version: u32) -> Option<Rcc> {
    let script = project().join("scripts/rcc");
    let output = Command::new(&script).arg(version.to_string()).output().unwrap();
    if output.status.success() {
        return Some(Rcc { binary: PathBuf::from(stdout(&output).trim_end()) });
    }
    skip(&format!("No official RCC {version}: {}", said(&output)));
    None
}

impl Rcc {
    /// Runs `rcc --bundled ARGS` in the home; it must succeed.
    pub fn run(&self, test_home: &TestHome, args: &[&str]) -> Output {
        self.be_quiet(test_home);
        run(self.command(test_home).args(args))
    }

    /// Runs `rcc --bundled ARGS` in the home to its end, with any result.
    pub fn try_run(&self, test_home: &TestHome, args: &[&str]) -> Output {
        self.be_quiet(test_home);
        self.command(test_home).args(args).output().unwrap()
    }

    /// Like [`Rcc::try_run`], in this directory.
    pub fn try_run_in(&self, test_home: &TestHome, dir: &Path, args: &[&str]) -> Output {
        self.be_quiet(test_home);
        self.command(test_home).args(args).current_dir(dir).output().unwrap()
    }

    /// `rcc holotree variables`: creates or refreshes the space. Returns its directory and the dirty files.
    pub fn restore(
        &self,
        test_home: &TestHome,
        conda_yaml: &Path,
        controller: &str,
        space: &str,
    ) -> (PathBuf, Dirty) {
        let yaml = conda_yaml.to_str().unwrap();
        let args = ["--no-build", "holotree", "variables", yaml, "--timeline"];
        let output =
            self.run(test_home, &[&args[..], &["--controller", controller, "--space", space]].concat());
        let variable = "export RCC_HOLOTREE_SPACE_ROOT=";
        let root = stdout(&output).lines().find_map(|line| line.strip_prefix(variable).map(PathBuf::from));
        (root.unwrap_or_else(|| panic!("RCC names no space: {}", said(&output))), dirty(&output))
    }

    /// `rcc holotree import`.
    pub fn import(&self, test_home: &TestHome, zip: &Path) {
        self.run(test_home, &["holotree", "import", zip.to_str().unwrap()]);
    }

    fn command(&self, test_home: &TestHome) -> Command {
        let mut command = test_home.command(&self.binary);
        // The same home for both products.
        command.env("SEMA4AI_HOME", test_home.home()).arg("--bundled");
        command
    }

    /// The program, for a command that runs RCC itself.
    pub fn path(&self) -> &Path {
        &self.binary
    }

    /// RCC sends usage reports unless they are turned off; do that first in each home.
    pub fn be_quiet(&self, test_home: &TestHome) {
        if !test_home.home().join("rcc.yaml").exists() {
            run(self.command(test_home).args(["configuration", "identity", "--do-not-track"]));
        }
    }
}

/// Parses the timeline's line `- dirty 92/137 (duplicate: 0, links: 5)`.
fn dirty(output: &Output) -> Dirty {
    let text = stderr(output);
    let counts =
        text.lines().find_map(|line| line.split("- dirty ").nth(1)?.split(' ').next()?.split_once('/'));
    let Some((dirty, files)) = counts else {
        panic!("RCC counts nothing dirty or clean: {}", said(output));
    };
    Dirty { dirty: dirty.parse().unwrap(), files: files.parse().unwrap() }
}
