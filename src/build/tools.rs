//! The tools that do the work: an interpreter that copies itself, uv, micromamba. Everything they write goes to the log.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{BuildError, CHECK_IMPORTS, Imports, Inputs, Kind, Options};

/// Copies the interpreter that runs it.
const COPY_INTERPRETER: &str = include_str!("interpreter.py");
/// So many lines of a log are shown when a step fails.
const LAST_LINES: usize = 12;
/// How often a tool that works is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the tools are: names are looked up in PATH.
#[derive(Debug, Clone)]
pub struct Tools {
    /// uv.
    pub uv: PathBuf,
    /// micromamba, mamba or conda, the best first.
    pub conda: Vec<PathBuf>,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { uv: "uv".into(), conda: ["micromamba", "mamba", "conda"].map(PathBuf::from).to_vec() }
    }
}

/// The steps of one build.
pub struct Steps<'a> {
    /// The tools.
    pub tools: &'a Tools,
    /// The prefix.
    pub stage: &'a Path,
    /// How to build.
    pub options: &'a Options,
    /// Where their output goes.
    pub log: &'a Path,
}

impl Steps<'_> {
    /// Fills the stage.
    pub fn install(&self, inputs: &Inputs) -> Result<(), BuildError> {
        match inputs.kind {
            Kind::Conda => self.conda(inputs),
            Kind::CondaPip => {
                self.interpreter(inputs)?;
                let file = self.log.with_extension("requirements");
                let list = inputs.requirements.join("\n");
                std::fs::write(&file, list + "\n").map_err(self.unwritable(&file))?;
                self.packages("install", &["--requirement".as_ref(), &file])
            }
            Kind::Requirements => {
                self.interpreter(inputs)?;
                let files = inputs.files.iter().flat_map(|file| [Path::new("--requirement"), file]);
                self.packages("install", &files.collect::<Vec<_>>())
            }
            Kind::PyLock => {
                self.interpreter(inputs)?;
                self.packages("sync", &inputs.files.iter().map(PathBuf::as_path).collect::<Vec<_>>())
            }
            Kind::Project => {
                self.interpreter(inputs)?;
                let file = self.log.with_extension("requirements");
                self.export(inputs, &file)?;
                self.packages("install", &["--requirement".as_ref(), &file])
            }
        }
    }

    /// A copy of the interpreter that was asked for.
    fn interpreter(&self, inputs: &Inputs) -> Result<(), BuildError> {
        let wanted = self.options.python.as_deref().or(inputs.python.as_deref());
        let python = self.find_python(wanted)?;
        let mut command = Command::new(python);
        command.args(["-I", "-c", COPY_INTERPRETER]).arg(self.stage);
        self.run("Copying the interpreter", &mut command)
    }

    /// The path of an interpreter, as uv finds (or, unless that is forbidden, downloads) it.
    fn find_python(&self, wanted: Option<&str>) -> Result<PathBuf, BuildError> {
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

    /// What cannot be imported in the stage.
    pub fn check_imports(&self) -> Result<Imports, BuildError> {
        let mut command = Command::new(self.stage.join("bin/python3"));
        command.args(["-I", "-B", "-c", CHECK_IMPORTS]);
        let text = self.output("Importing every module", &mut command)?;
        // The program that prints it is ours.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// What a step prints.
    fn output(&self, step: &str, command: &mut Command) -> Result<String, BuildError> {
        let program = PathBuf::from(command.get_program());
        let output =
            self.started(command.stdin(Stdio::null()).stderr(self.log_file()?).output(), &program)?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(self.step_failed(step, output.status)),
        }
    }

    /// The locked requirements of a project.
    fn export(&self, inputs: &Inputs, to: &Path) -> Result<(), BuildError> {
        let project = inputs.files.first().and_then(|file| file.parent()).unwrap_or(Path::new("."));
        let lock = if self.options.frozen { "--locked" } else { "--frozen" };
        let mut command = self.uv();
        command.args(["export", "--quiet", lock, "--no-emit-project", "--format", "requirements-txt"]);
        command.arg("--project").arg(project).arg("--output-file").arg(to);
        self.run("Exporting the lock file", &mut command)
    }

    /// `uv pip install` or `uv pip sync` into the stage. The stage is only read and goes, so files are linked from uv's cache.
    fn packages(&self, verb: &str, what: &[&Path]) -> Result<(), BuildError> {
        if what.is_empty() {
            return Ok(());
        }
        let mut command = self.uv();
        command.args(["pip", verb, "--no-python-downloads", "--link-mode", "hardlink", "--python"]);
        command.arg(self.stage.join("bin/python3")).args(what);
        command.args(self.options.index_url.as_ref().map(|url| format!("--index-url={url}")));
        self.run("Installing packages", &mut command)
    }

    fn uv(&self) -> Command {
        let mut command = Command::new(&self.tools.uv);
        command.args(self.options.offline.then_some("--offline")).env_remove("VIRTUAL_ENV");
        command
    }

    /// micromamba makes the whole prefix, pip's packages included.
    fn conda(&self, inputs: &Inputs) -> Result<(), BuildError> {
        let file = self.log.with_extension("environment.yaml");
        std::fs::write(&file, &inputs.specification).map_err(self.unwritable(&file))?;
        for tool in &self.tools.conda {
            let mut command = Command::new(tool);
            command.args(["env", "create", "--yes", "--prefix"]).arg(self.stage).arg("--file").arg(&file);
            command.args(self.options.offline.then_some("--offline"));
            match self.run("Creating the conda environment", &mut command) {
                Err(BuildError::NoTool { .. }) => {}
                other => return other,
            }
        }
        Err(no_conda())
    }

    /// Runs a step to its end.
    fn run(&self, step: &str, command: &mut Command) -> Result<(), BuildError> {
        log::debug!("{step}: {command:?}");
        let status = self.status(command)?;
        if status.success() { Ok(()) } else { Err(self.step_failed(step, status)) }
    }

    fn succeeds(&self, command: &mut Command) -> Result<bool, BuildError> {
        Ok(self.status(command)?.success())
    }

    /// Waits for a tool, which is ended if somebody ends the build.
    fn status(&self, command: &mut Command) -> Result<ExitStatus, BuildError> {
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(self.log_file()?).stderr(self.log_file()?);
        let mut tool = self.started(command.spawn(), &program)?;
        loop {
            if let Some(status) = self.started(tool.try_wait(), &program)? {
                return if self.is_interrupted() { Err(BuildError::Interrupted) } else { Ok(status) };
            }
            if self.is_interrupted() {
                self.started(tool.kill().and_then(|()| tool.wait()), &program)?;
                return Err(BuildError::Interrupted);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    fn started<T>(&self, outcome: io::Result<T>, program: &Path) -> Result<T, BuildError> {
        outcome.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if program == self.tools.uv => no_uv(),
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

fn no_uv() -> BuildError {
    BuildError::NoTool {
        tool: "uv",
        what: "packages from PyPI",
        install: "install it (pip install uv), or name it with HOLOFS_UV",
    }
}

fn no_conda() -> BuildError {
    BuildError::NoTool {
        tool: "micromamba, mamba or conda",
        what: "packages of conda",
        install: "install micromamba, or name it with HOLOFS_CONDA; RCC builds such an environment too (rcc holotree variables)",
    }
}
