//! A private home for one test: HOME and ROBOCORP_HOME in a temporary directory, and the program with exactly that environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::golden::{self, Regime};
use super::mounted::{self, Mounted};
use super::{PATIENCE, json, run, said, space_path};

/// A private home: `<temp>/user` is HOME, `<temp>/robocorp` is ROBOCORP_HOME. Removed when dropped, mounts included.
pub struct TestHome {
    // `drop` removes the mounts first, so that no live mount keeps the directory.
    temp: TempDir,
    user: PathBuf,
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl TestHome {
    /// An empty home.
    pub fn new() -> TestHome {
        let temp = tempfile::Builder::new().prefix("holofs-test.").tempdir().unwrap();
        // The base of a space is compared as text with the kernel's path, so it must contain no links.
        let root = temp.path().canonicalize().unwrap();
        let (user, home) = (root.join("user"), root.join("robocorp"));
        fs::create_dir_all(&user).unwrap();
        fs::create_dir_all(home.join("holotree")).unwrap();
        TestHome { temp, user, home, variables: Vec::new() }
    }

    /// A home with the golden hololib; its catalog is moved to this home's holotree.
    pub fn golden(regime: Regime) -> TestHome {
        let test_home = TestHome::new();
        golden::unpack_hololib(regime, &test_home.home, &test_home.holotree());
        test_home
    }

    /// A home at a given place that is not removed: for catalogs whose base is fixed. The caller must ensure exclusive use.
    pub fn at(user: &Path, home: &Path) -> TestHome {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.join("holotree")).unwrap();
        TestHome { temp, user: user.to_owned(), home: home.to_owned(), variables: Vec::new() }
    }

    /// This home, with more variables in the environment of its commands.
    pub fn with(mut self, variables: Vec<(&'static str, String)>) -> TestHome {
        self.variables = variables;
        self
    }

    /// HOME.
    pub fn user(&self) -> &Path {
        &self.user
    }

    /// ROBOCORP_HOME.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn holotree(&self) -> PathBuf {
        self.home.join("holotree")
    }

    pub fn hololib(&self) -> PathBuf {
        self.home.join("hololib")
    }

    /// A directory for other files of a test, on the same file system as the home.
    pub fn scratch(&self) -> PathBuf {
        let path = self.temp.path().join("scratch");
        fs::create_dir_all(&path).unwrap();
        path.canonicalize().unwrap()
    }

    /// The names of the catalogs, sorted, without their `.info`.
    pub fn catalogs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.hololib().join("catalog")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter(|name| name.contains("v12.") && !name.ends_with(".info")).collect();
        names.sort();
        names
    }

    /// Any command with this home's environment, and only PATH from the caller's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &self.user).env("ROBOCORP_HOME", &self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        // Only what a test reads is fetched, even on a machine so busy that a mount looks idle.
        command.env("HOLOFS_IDLE_FETCH", "off");
        // So any test can be run with either way of reading.
        command.envs(std::env::var_os("HOLOFS_IO").map(|io| ("HOLOFS_IO", io)));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The program, not started yet.
    pub fn holofs_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_holofs"));
        command.args(args);
        command
    }

    /// Runs the program to its end, with any result.
    pub fn holofs(&self, args: &[&str]) -> Output {
        self.holofs_command(args).output().unwrap()
    }

    /// Runs the program, which must succeed.
    pub fn holofs_ok(&self, args: &[&str]) -> Output {
        run(&mut self.holofs_command(args))
    }

    /// Runs the program, which must end with this exit code and print something on stderr.
    pub fn holofs_fails(&self, args: &[&str], code: i32) -> Output {
        let output = self.holofs(args);
        assert_eq!(output.status.code(), Some(code), "holofs {args:?}: {}", said(&output));
        assert!(!output.stderr.is_empty(), "holofs {args:?} failed without a word");
        output
    }

    /// `holofs record`; returns the file name of the new catalog.
    pub fn record(&self, dir: &Path, blueprint: &Path) -> String {
        let before = self.catalogs();
        self.holofs_ok(&[
            "record",
            dir.to_str().unwrap(),
            "--blueprint",
            blueprint.to_str().unwrap(),
            "--json",
        ]);
        let mut made = self.catalogs();
        made.retain(|name| !before.contains(name));
        assert_eq!(made.len(), 1, "record made the catalogs {made:?}");
        made.remove(0)
    }

    /// `holofs materialize`; returns the directory of the space.
    pub fn materialize(&self, catalog: &str, space: &str, controller: &str) -> PathBuf {
        // Setuid bits are compared too, and root drops them by default.
        let args = ["materialize", catalog, space, "--controller", controller, "--allow-setuid", "--json"];
        space_path(&json(&self.holofs_ok(&args)))
    }

    /// `holofs mount`; unmounted when the result is dropped.
    pub fn mount(&self, catalog: &str, space: &str, controller: &str, more: &[&str]) -> Mounted<'_> {
        Mounted::new(self, catalog, space, controller, more)
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        for path in mounted::below(&self.holotree()) {
            eprintln!("left mounted, now detached: {}", path.display());
            mounted::detach(&path);
        }
        // A background process of a run may still write shared bytecode; it must not do so while the directory is removed.
        let started = Instant::now();
        while !mounted::daemons_of(self).is_empty() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        make_writable(self.temp.path());
    }
}

/// Makes the temporary directory removable without privileges: golden trees have directories of mode 0.
fn make_writable(dir: &Path) {
    if dir.exists() {
        Command::new("chmod").args(["-R", "u+rwX"]).arg(dir).output().unwrap();
    }
}
