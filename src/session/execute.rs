//! A command in a space that is there: RCC's variables, a place for bytecode, signals and exit status.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::Context as _;

use crate::rcc::home::Settings;
use crate::space::Space;
use crate::space::bytecode;
use crate::store::index::Index;
use crate::sys::process::signals;

use super::context::Context;
use super::variables::{self, Variable};

/// Set by RCC to keep Python from writing bytecode.
const NO_BYTECODE: &str = "PYTHONDONTWRITEBYTECODE";
/// Where Python keeps bytecode, if not beside the sources.
const BYTECODE_PREFIX: &str = "PYTHONPYCACHEPREFIX";

/// A space that is there, and how to run in it.
pub struct Execution<'a> {
    /// The invocation.
    pub context: &'a Context,
    /// Where the space is.
    pub root: &'a Path,
    /// Its catalog's blueprint.
    pub blueprint: &'a str,
    /// The space and catalog for which Python may keep the bytecode it compiles.
    pub bytecode: Option<(&'a Space, &'a Index)>,
    /// It was not there before.
    pub is_new: bool,
}

impl Execution<'_> {
    /// Runs `command` to its end: its status becomes ours. What it need not wait for is done `meanwhile`.
    pub fn command(&self, command: &[OsString], meanwhile: impl FnOnce()) -> anyhow::Result<ExitStatus> {
        let temp = RunTemp::create(self.context)?;
        let variables = self.variables(&temp.0)?;
        let (program, arguments) = command.split_first().context("There is no command")?;
        let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        // What a terminal sends goes to the command by itself; what another process sends to us is passed on.
        let signals = signals::catch().context("Cannot handle signals")?;
        let mut child = Command::new(resolve(program, path.as_deref()))
            .args(arguments)
            .env_remove("VIRTUAL_ENV")
            .env_remove(NO_BYTECODE)
            .envs(variables)
            .spawn()
            .with_context(|| format!("Cannot run {}", program.display()))?;
        signals.pass_on(child.id()).context("Cannot pass signals on")?;
        self.read_bytecode_ahead();
        meanwhile();
        child.wait().context("Cannot wait for the command")
    }

    /// RCC's variables; with bytecode, Python also learns where to keep it.
    fn variables(&self, temp: &Path) -> anyhow::Result<Vec<Variable>> {
        let settings = Settings::read(&self.context.home)?;
        let sources = variables::Sources {
            home: &self.context.home,
            settings: &settings,
            root: self.root,
            blueprint: self.blueprint,
            temp,
            path: self.context.process.path.clone(),
        };
        let mut variables = variables::of(&sources)?;
        if let Some(prefix) = self.bytecode_prefix() {
            variables.retain(|(key, _)| key != NO_BYTECODE && key != BYTECODE_PREFIX);
            variables.push((BYTECODE_PREFIX.to_owned(), prefix.into_os_string()));
        }
        Ok(variables)
    }

    /// The space has just appeared, so Python may be about to read the bytecode from a cold disk: it is read ahead, at the
    /// lowest priority. Whoever ends does not wait for it.
    fn read_bytecode_ahead(&self) {
        let Some((_, index)) = self.bytecode.filter(|_| self.is_new) else { return };
        let shared = bytecode::shared_dir(
            &self.context.home,
            index,
            crate::sys::process::this_process::effective_uid(),
        );
        let read = move || {
            #[cfg(unix)]
            crate::sys::process::daemon::lower_priority();
            match bytecode::read_ahead(&shared) {
                Ok(bytes) => log::debug!("{bytes} bytes of bytecode read ahead"),
                Err(error) => log::debug!("No bytecode read ahead from {}: {error}", shared.display()),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("bytecode".into()).spawn(read) {
            log::debug!("No bytecode is read ahead: {error}");
        }
    }

    /// Bytecode only saves time: where it has no place, Python compiles as it does under RCC.
    fn bytecode_prefix(&self) -> Option<PathBuf> {
        let (space, index) = self.bytecode?;
        let uid = crate::sys::process::this_process::effective_uid();
        bytecode::prefix(&self.context.home, space, index, uid).unwrap_or_else(|error| {
            let level = if self.context.unkept().is_some() { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "No place for bytecode, so Python compiles what it imports: {error}");
            None
        })
    }
}

/// How the names of programs end, in the order in which each directory is searched for them.
const ENDINGS: &[&str] = if cfg!(windows) { &[".exe", ".com", ".bat", ".cmd", ""] } else { &[""] };

/// The program by the space's own PATH, which is not yet ours.
fn resolve(program: &OsString, path: Option<&std::ffi::OsStr>) -> PathBuf {
    let named = Path::new(program);
    if named.components().count() > 1 {
        return named.to_owned();
    }
    let dirs = path.map(std::env::split_paths).into_iter().flatten();
    let mut places =
        dirs.flat_map(|dir| ENDINGS.iter().map(move |ending| with_ending(&dir, program, ending)));
    places.find(|place| place.is_file()).unwrap_or_else(|| named.to_owned())
}

fn with_ending(dir: &Path, program: &OsString, ending: &str) -> PathBuf {
    let mut name = program.clone();
    name.push(ending);
    dir.join(name)
}

/// The run's own directory for temporary files, gone with the run.
struct RunTemp(PathBuf);

impl RunTemp {
    /// In the home, as RCC has it; where that cannot be written, in the system's place.
    fn create(context: &Context) -> anyhow::Result<RunTemp> {
        let parent = context.home.root().join("temp");
        let make = |parent: &Path| {
            std::fs::create_dir_all(parent)?;
            tempfile::Builder::new().prefix("holofs-").tempdir_in(parent)
        };
        let dir = make(&parent).or_else(|error| {
            let system = &context.process.temp_dir;
            log::debug!("Temporary files go to {}, since {}: {error}", system.display(), parent.display());
            make(system)
        });
        let dir = dir.with_context(|| format!("Cannot make a directory in {}", parent.display()))?;
        Ok(RunTemp(dir.keep()))
    }
}

impl Drop for RunTemp {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("Cannot remove {}: {error}", self.0.display());
        }
    }
}
