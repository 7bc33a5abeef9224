//! The external tools: an interpreter that copies itself, uv, micromamba. Their output goes to the log, except what a step returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[cfg(unix)]
use crate::sys::process::{command::dies_with_us, family};

use crate::space::record::Recorder;

use super::locked::is_locked;
use super::{BuildError, CHECK_IMPORTS, Imports, InputKind, Inputs, Options};

/// Copies the interpreter that runs it; with `--check`, checks the copy that runs it.
const INTERPRETER: &str = include_str!("interpreter.py");
/// The number of log lines shown when a step fails.
const LAST_LINES: usize = 12;
/// The interval at which a running tool is polled.
const PAUSE: Duration = Duration::from_millis(5);

/// The paths of the tools: names are looked up in PATH.
#[derive(Debug, Clone)]
pub struct Tools {
    /// uv.
    pub uv: PathBuf,
    /// micromamba, mamba or conda, the best first.
    pub conda: Vec<PathBuf>,
    /// rcc.
    pub rcc: PathBuf,
    /// npm.
    pub npm: PathBuf,
}

impl Default for Tools {
    fn default() -> Tools {
        let conda = ["micromamba", "mamba", "conda"].map(PathBuf::from).to_vec();
        Tools { uv: "uv".into(), conda, rcc: "rcc".into(), npm: "npm".into() }
    }
}

/// The steps of one build.
#[derive(Clone, Copy)]
pub struct Steps<'a> {
    /// The tools.
    pub tools: &'a Tools,
    /// The prefix.
    pub stage: &'a Path,
    /// How to build.
    pub options: &'a Options,
    /// The log file for their output.
    pub log: &'a Path,
    /// When the build started.
    pub started: Instant,
}

/// Lock files.
struct Locks {
    files: Vec<PathBuf>,
    /// They are known to be complete: they list everything that their packages need.
    is_whole: bool,
}

impl Locks {
    fn whole(files: Vec<PathBuf>) -> Locks {
        Locks { files, is_whole: true }
    }
}

/// Sets the flag when it is dropped, however that happens.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Steps<'_> {
    /// Copies `python` into the stage, and installs the requirements of `inputs`, while `recorder` stores what is finished.
    pub fn install(
        &self,
        inputs: &Inputs,
        python: &Path,
        recorder: &mut Recorder<'_>,
    ) -> Result<(), BuildError> {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| recorder.follow(self.stage, &ended));
            let _ended = Ended(&ended);
            self.fill(inputs, python)
        })
    }

    /// Copies `python` into the stage, and installs the requirements of `inputs`.
    fn fill(&self, inputs: &Inputs, python: &Path) -> Result<(), BuildError> {
        let mut copy = Command::new(python);
        copy.args(["-I", "-c", INTERPRETER]).arg(self.stage);
        // Resolving for the original gives the same result as for its copy, so both steps run at the same time.
        let (copied, locks) =
            both(|| self.run("Copying the interpreter", &mut copy), || self.locks(inputs, python));
        copied?;
        let mut check = Command::new(self.python());
        check.args(["-B", "-c", INTERPRETER, "--check"]).arg(self.stage);
        // The stage is only read, and then removed: files are linked from uv's cache.
        let (checked, synced) = both(
            || self.run("Checking the copied interpreter", &mut check),
            || self.sync(inputs, &locks?, "hardlink"),
        );
        checked.and(synced)
    }

    /// Makes the packages of the prefix match `inputs`: existing ones stay, others are removed.
    #[cfg(unix)]
    pub fn packages(&self, inputs: &Inputs, link_mode: &str) -> Result<(), BuildError> {
        let locks = self.locks(inputs, &self.python())?;
        self.sync(inputs, &locks, link_mode)
    }

    /// The lock files of `inputs`, resolved for `python` if they are not locked yet; none if their tool has installed the packages.
    fn locks(&self, inputs: &Inputs, python: &Path) -> Result<Locks, BuildError> {
        match inputs.kind {
            InputKind::Conda | InputKind::Node => Ok(Locks::whole(Vec::new())),
            InputKind::PyLock => Ok(Locks::whole(inputs.files.clone())),
            InputKind::Project => self.export(inputs).map(|lock| Locks::whole(vec![lock])),
            InputKind::Requirements | InputKind::CondaPip => {
                let files = self.requirements(inputs)?;
                let is_locked =
                    |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| is_locked(&text));
                if files.iter().all(is_locked) {
                    return Ok(Locks { files, is_whole: false });
                }
                self.resolve(&files, python).map(|lock| Locks::whole(vec![lock]))
            }
        }
    }

    /// Files with the requirements of `inputs`.
    fn requirements(&self, inputs: &Inputs) -> Result<Vec<PathBuf>, BuildError> {
        if inputs.kind == InputKind::Requirements {
            return Ok(inputs.files.clone());
        }
        let file = self.log.with_extension("requirements.in");
        let list = inputs.requirements.join("\n") + "\n";
        std::fs::write(&file, list).map_err(self.unwritable(&file))?;
        Ok(vec![file])
    }

    /// Makes the packages of the prefix match the lock files. If these turn out to be incomplete, they are resolved.
    fn sync(&self, inputs: &Inputs, locks: &Locks, link_mode: &str) -> Result<(), BuildError> {
        let synced = self.sync_files(&locks.files, link_mode);
        if locks.is_whole {
            return synced;
        }
        match synced {
            Ok(()) if self.is_whole()? => return Ok(()),
            Ok(()) | Err(BuildError::Step { .. }) => {}
            Err(error) => return Err(error),
        }
        log::info!("The requirements say that they are locked, but they are not complete: they are resolved");
        let lock = self.resolve(&self.requirements(inputs)?, &self.python())?;
        self.sync_files(&[lock], link_mode)
    }

    /// True if everything that the installed packages need is installed.
    fn is_whole(&self) -> Result<bool, BuildError> {
        let mut command = self.uv();
        command.args(["pip", "check", "--no-python-downloads", "--python"]).arg(self.python());
        self.succeeds(&mut command)
    }

    /// Resolves requirements for the interpreter `python`. Returns the lock file.
    fn resolve(&self, files: &[PathBuf], python: &Path) -> Result<PathBuf, BuildError> {
        let lock = self.lock_file();
        let mut command = self.uv();
        command.args(["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-python-downloads"]);
        command.args(["--emit-index-url", "--emit-find-links", "--python"]).arg(python);
        if files.iter().any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains("--hash"))) {
            command.arg("--generate-hashes");
        }
        command.arg("--output-file").arg(&lock).args(files);
        self.options.indexes.pass_to(&mut command);
        self.run("Resolving the requirements", &mut command)?;
        Ok(lock)
    }

    fn lock_file(&self) -> PathBuf {
        self.log.with_extension("lock.txt")
    }

    /// The path of an interpreter, as found (or, unless forbidden, downloaded) by uv.
    pub fn find_python(&self, inputs: &Inputs) -> Result<PathBuf, BuildError> {
        let wanted = self.options.python.as_deref().or(inputs.python.as_deref());
        if let Some(path) = wanted.map(Path::new).filter(|path| path.is_absolute()) {
            return Ok(path.to_owned());
        }
        if let Some(version) = wanted
            && !self.options.offline
        {
            let mut install = self.uv();
            install.args(["python", "find", "--no-project", "--system", version]);
            if !self.succeeds(&mut install)? {
                let mut install = self.uv();
                install.args(["python", "install", version]);
                self.run("Installing Python", &mut install)?;
            }
        }
        let mut find = self.uv();
        find.args(["python", "find", "--no-project", "--system"]).args(wanted);
        Ok(PathBuf::from(self.output("Finding Python", &mut find)?.trim()))
    }

    /// As [`Steps::check_imports`], if requested by the options.
    pub fn check_if_wanted(&self) -> Result<Option<Imports>, BuildError> {
        self.options.check.then(|| self.check_imports()).transpose()
    }

    /// The modules that cannot be imported in the stage.
    fn check_imports(&self) -> Result<Imports, BuildError> {
        let mut command = Command::new(self.python());
        command.args(["-I", "-B", "-c", CHECK_IMPORTS]);
        let text = self.output("Importing every module", &mut command)?;
        // The output comes from our own program.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// The output of a step.
    fn output(&self, step: &str, command: &mut Command) -> Result<String, BuildError> {
        let dir = self.log.parent().unwrap_or(Path::new("."));
        // A file without a name: unlike a pipe, it needs no reader, and does not stay open if a process of the tool does.
        let mut said = tempfile::tempfile_in(dir).map_err(self.unwritable(dir))?;
        let stdout = said.try_clone().map_err(self.unwritable(dir))?;
        let status = self.status(command, stdout)?;
        if !status.success() {
            return Err(self.step_failed(step, status));
        }
        let mut bytes = Vec::new();
        said.rewind().and_then(|()| said.read_to_end(&mut bytes)).map_err(self.unwritable(dir))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The locked requirements of a project.
    fn export(&self, inputs: &Inputs) -> Result<PathBuf, BuildError> {
        let to = self.lock_file();
        let project = inputs.files.first().and_then(|file| file.parent()).unwrap_or(Path::new("."));
        let lock = if self.options.frozen { "--locked" } else { "--frozen" };
        let mut command = self.uv();
        command.args(["export", "--quiet", lock, "--no-emit-project", "--emit-index-url"]);
        command.args(["--format", "requirements-txt"]);
        command.arg("--project").arg(project).arg("--output-file").arg(&to);
        self.run("Exporting the lock file", &mut command)?;
        Ok(to)
    }

    /// Makes the packages of the prefix match the lock files.
    fn sync_files(&self, locks: &[PathBuf], link_mode: &str) -> Result<(), BuildError> {
        if locks.is_empty() {
            return Ok(());
        }
        let mut command = self.uv();
        command.args(["pip", "sync", "--no-python-downloads", "--allow-empty-requirements"]);
        command.args(["--link-mode", link_mode, "--python"]).arg(self.python()).args(locks);
        self.options.indexes.pass_to(&mut command);
        self.run("Installing packages", &mut command)
    }

    fn python(&self) -> PathBuf {
        self.stage.join("bin/python3")
    }

    fn uv(&self) -> Command {
        let mut command = Command::new(&self.tools.uv);
        command.args(self.options.offline.then_some("--offline")).env_remove("VIRTUAL_ENV");
        command
    }

    /// micromamba creates the whole prefix, including pip's packages.
    pub fn conda(&self, inputs: &Inputs) -> Result<(), BuildError> {
        let file = self.log.with_extension("environment.yaml");
        std::fs::write(&file, &inputs.specification).map_err(self.unwritable(&file))?;
        for tool in &self.tools.conda {
            let mut command = Command::new(tool);
            command.args(["env", "create", "--yes", "--prefix"]).arg(self.stage).arg("--file").arg(&file);
            self.options.indexes.pass_to(&mut command);
            command.args(self.options.offline.then_some("--offline"));
            match self.run("Creating the conda environment", &mut command) {
                Err(BuildError::NoTool { .. }) => {}
                other => return other,
            }
        }
        Err(no_conda())
    }

    /// Installs the `node_modules` of a lock file. Package scripts run, as with npm.
    pub fn node(&self, inputs: &Inputs) -> Result<(), BuildError> {
        let lock = inputs.files.first().cloned().unwrap_or_default();
        for name in ["package-lock.json", "package.json"] {
            let (from, to) = (lock.with_file_name(name), self.stage.join(name));
            std::fs::copy(&from, &to).map_err(|source| BuildError::Read { path: from, source })?;
        }
        let mut command = Command::new(&self.tools.npm);
        command.args(["ci", "--no-audit", "--no-fund", "--prefix"]).arg(self.stage);
        command.args(self.options.offline.then_some("--offline"));
        command.args(self.options.indexes.default.as_ref().map(|url| format!("--registry={url}")));
        command.current_dir(self.stage);
        self.run("Installing packages of npm", &mut command)
    }

    /// RCC creates the environment and its catalog itself, in a separate space.
    pub fn by_rcc(&self, inputs: &Inputs, home: &Path) -> Result<(), BuildError> {
        let mut command = Command::new(&self.tools.rcc);
        command.args(["holotree", "variables", "--controller", "holofs", "--space", "holofs build"]);
        command.args(&inputs.files).env("ROBOCORP_HOME", home).env("SEMA4AI_HOME", home);
        self.run("Building with RCC", &mut command)
    }

    /// Runs a step until it ends.
    fn run(&self, step: &str, command: &mut Command) -> Result<(), BuildError> {
        log::debug!("{step}: {command:?}");
        let status = self.status(command, self.log_file()?)?;
        if status.success() { Ok(()) } else { Err(self.step_failed(step, status)) }
    }

    fn succeeds(&self, command: &mut Command) -> Result<bool, BuildError> {
        Ok(self.status(command, self.log_file()?)?.success())
    }

    /// Waits for a tool; ends it if the build is interrupted.
    fn status(&self, command: &mut Command, stdout: File) -> Result<ExitStatus, BuildError> {
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(stdout).stderr(self.log_file()?);
        // A tool that outlives a killed build would continue to write into the stage of the next one, which has the same path.
        #[cfg(unix)]
        dies_with_us(command);
        let mut tool = self.started(command.spawn(), &program)?;
        loop {
            if let Some(status) = self.started(tool.try_wait(), &program)? {
                return self.go_on().map(|()| status);
            }
            if let Err(interrupted) = self.go_on() {
                self.started(end(&mut tool), &program)?;
                return Err(interrupted);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Fails if the build was interrupted.
    pub fn go_on(&self) -> Result<(), BuildError> {
        if self.options.interrupted.load(Ordering::Relaxed) { Err(BuildError::Interrupted) } else { Ok(()) }
    }

    fn started<T>(&self, outcome: io::Result<T>, program: &Path) -> Result<T, BuildError> {
        outcome.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if program == self.tools.uv => no_uv(),
            io::ErrorKind::NotFound if program == self.tools.rcc => no_rcc(),
            io::ErrorKind::NotFound if program == self.tools.npm => no_npm(),
            io::ErrorKind::NotFound if self.tools.conda.iter().any(|tool| tool == program) => no_conda(),
            _ => BuildError::Start { program: program.to_owned(), source },
        })
    }

    fn log_file(&self) -> Result<File, BuildError> {
        OpenOptions::new().append(true).open(self.log).map_err(self.unwritable(self.log))
    }

    fn unwritable(&self, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
        let path = path.to_owned();
        move |source| BuildError::Stage { doing: "Writing", path, source }
    }

    fn step_failed(&self, step: &str, status: ExitStatus) -> BuildError {
        let text = std::fs::read_to_string(self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        BuildError::Step { step: step.to_owned(), status, log: self.log.to_owned(), last_lines: last }
    }
}

/// Does both at the same time.
fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

/// Ends a tool and what it started.
#[cfg(unix)]
fn end(tool: &mut Child) -> io::Result<()> {
    family::kill(tool)
}

/// Ends a tool.
#[cfg(windows)]
fn end(tool: &mut Child) -> io::Result<()> {
    tool.kill().and_then(|()| tool.wait()).map(drop)
}

fn no_uv() -> BuildError {
    BuildError::NoTool {
        tool: "uv",
        what: "packages from PyPI",
        install: "install it (pip install uv), or name it with HOLOFS_UV",
    }
}

fn no_rcc() -> BuildError {
    BuildError::NoTool {
        tool: "rcc",
        what: "environments as RCC makes them",
        install: "install it, or name it with HOLOFS_RCC",
    }
}

fn no_npm() -> BuildError {
    BuildError::NoTool {
        tool: "npm",
        what: "packages of Node.js",
        install: "install Node.js, or name it with HOLOFS_NPM",
    }
}

fn no_conda() -> BuildError {
    BuildError::NoTool {
        tool: "micromamba, mamba or conda",
        what: "packages of conda",
        install: "install micromamba, or name it with HOLOFS_CONDA; RCC builds such an environment too (rcc holotree variables)",
    }
}
