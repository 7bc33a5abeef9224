//! `holofs run`: a command in a space that is there for the time of the command.
//!
//! The space is mounted (or materialized where nothing can be mounted), the command runs with the space's variables, and
//! its exit status is ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::bytecode;
use crate::space::Space;
use crate::sys::signals;
use crate::tree::Index;

use super::context::Context;
use super::exit_code::{Busy, CANNOT_MOUNT};
use super::mount::MountArgs;
use super::variables::Variable;
use super::{SpaceArgs, daemon, materialize, unmount, variables};

/// Set by RCC to keep Python from writing bytecode.
const NO_BYTECODE: &str = "PYTHONDONTWRITEBYTECODE";
/// Where Python keeps bytecode, if not beside the sources.
const BYTECODE_PREFIX: &str = "PYTHONPYCACHEPREFIX";

/// How the space appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Mount; materialize where nothing can be mounted
    Auto,
    /// Mount or fail
    Mount,
    /// Materialize
    Materialize,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How the space appears
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    /// Allow no change
    #[arg(long)]
    pub read_only: bool,
    /// Drop what was written to the space before
    #[arg(long)]
    pub fresh: bool,
    /// What runs read first: auto, off, or a file (as for `mount`)
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    pub profile: PathBuf,
    /// Let Python write no bytecode, as RCC does
    #[arg(long)]
    pub no_bytecode: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Runs the command.
pub fn main(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (index, _, _) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let ours = match appear(context, args, &space, &index.id().to_string())? {
        Ok(ours) => ours,
        Err(code) => return Ok(code),
    };
    let run = Run { context, space: &space, index: &index, bytecode: !args.no_bytecode };
    let outcome = run.command(&args.command);
    if ours {
        disappear(&space)?;
    }
    Ok(ExitCode::from(code_of(outcome?)))
}

/// Makes the space appear: true if it is mounted for us alone and has to go again.
fn appear(
    context: &Context,
    args: &RunArgs,
    space: &Space,
    catalog: &str,
) -> anyhow::Result<Result<bool, ExitCode>> {
    if space.live_holder().is_some() {
        return match space.mount_state()? {
            Some(state) if state.catalog == catalog => Ok(Ok(false)),
            _ => Err(Busy(format!(
                "{} is in use with another catalog; unmount it first",
                space.root.display()
            ))
            .into()),
        };
    }
    if args.mode == Mode::Materialize {
        materialize::quietly(context, &args.catalog, &args.space)?;
        return Ok(Ok(false));
    }
    let mount = MountArgs {
        catalog: args.catalog.clone(),
        space: args.space.clone(),
        foreground: false,
        read_only: args.read_only,
        allow_other: false,
        fresh: args.fresh,
        profile: args.profile.clone(),
        daemon: false,
    };
    match daemon::launch(&mount)? {
        Ok(_) => Ok(Ok(true)),
        Err(code) if args.mode == Mode::Auto && code == ExitCode::from(CANNOT_MOUNT) => {
            log::warn!("Materializing {}, because it cannot be mounted", space.root.display());
            materialize::quietly(context, &args.catalog, &args.space)?;
            Ok(Ok(false))
        }
        Err(code) => Ok(Err(code)),
    }
}

/// Takes our mount away; whoever still uses it keeps its open files.
fn disappear(space: &Space) -> anyhow::Result<()> {
    let Err(error) = unmount::unmount(space, false) else { return Ok(()) };
    if error.is::<Busy>() {
        log::warn!("{error}: unmounting it lazily");
        return unmount::detach(&space.root);
    }
    Err(error)
}

/// A space that is there, and how to run in it.
struct Run<'a> {
    context: &'a Context,
    space: &'a Space,
    index: &'a Index,
    bytecode: bool,
}

impl Run<'_> {
    fn command(&self, command: &[OsString]) -> anyhow::Result<ExitStatus> {
        let temp = RunTemp::create(&self.context.home.root().join("temp"))?;
        let variables = self.variables(&temp.0)?;
        let (program, arguments) = command.split_first().context("There is no command")?;
        let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        let mut child = Command::new(resolve(program, path.as_deref()))
            .args(arguments)
            .env_remove("VIRTUAL_ENV")
            .env_remove(NO_BYTECODE)
            .envs(variables)
            .spawn()
            .with_context(|| format!("Cannot run {}", program.display()))?;
        forward_signals(&child)?;
        child.wait().context("Cannot wait for the command")
    }

    /// RCC's variables; with bytecode, Python also learns where to keep it.
    fn variables(&self, temp: &Path) -> anyhow::Result<Vec<Variable>> {
        let sources = variables::Sources {
            home: &self.context.home,
            root: &self.space.root,
            blueprint: self.index.blueprint(),
            temp,
            path: std::env::var_os("PATH"),
        };
        let mut variables = variables::of(&sources)?;
        if let Some(prefix) = self.bytecode_prefix() {
            variables.retain(|(key, _)| key != NO_BYTECODE && key != BYTECODE_PREFIX);
            variables.push((BYTECODE_PREFIX.to_owned(), prefix.into_os_string()));
        }
        Ok(variables)
    }

    /// Bytecode only saves time: where it has no place, Python compiles as it does under RCC.
    fn bytecode_prefix(&self) -> Option<PathBuf> {
        if !self.bytecode {
            return None;
        }
        let uid = crate::sys::this_process::effective_uid();
        bytecode::prefix(&self.context.home, self.space, self.index, uid).unwrap_or_else(|error| {
            log::warn!("No place for bytecode, so Python compiles what it imports: {error}");
            None
        })
    }
}

/// The program by the space's own PATH, which is not yet ours.
fn resolve(program: &OsString, path: Option<&std::ffi::OsStr>) -> PathBuf {
    let named = Path::new(program);
    if named.components().count() > 1 {
        return named.to_owned();
    }
    let dirs = path.map(std::env::split_paths).into_iter().flatten();
    dirs.map(|dir| dir.join(named)).find(|place| place.is_file()).unwrap_or_else(|| named.to_owned())
}

/// What a terminal sends goes to the command by itself; what another process sends to us is passed on.
fn forward_signals(child: &Child) -> anyhow::Result<()> {
    let pid = child.id();
    signals::pass_on(pid).context("Cannot handle signals")
}

/// As a shell has it: the status, or 128 and the signal.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// The run's own directory for temporary files, gone with the run.
struct RunTemp(PathBuf);

impl RunTemp {
    fn create(parent: &Path) -> anyhow::Result<RunTemp> {
        std::fs::create_dir_all(parent).with_context(|| format!("Cannot make {}", parent.display()))?;
        let dir = tempfile::Builder::new().prefix("holofs-").tempdir_in(parent);
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
