//! `holofs run`: a command in a space that is there for the time of the command.
//!
//! The space is mounted (or materialized where nothing can be mounted), the command runs with the space's variables, and
//! its exit status is ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;

use crate::home::Settings;
use crate::space::Space;
use crate::sys::signals;

use super::appear::{Mode, Wish, appear};
use super::context::Context;
use super::exit_code::Busy;
use super::{SpaceArgs, unmount, variables};

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
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Runs the command.
pub fn main(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (index, _, _) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let wish = Wish {
        catalog: &args.catalog,
        catalog_id: &index.id().to_string(),
        args: &args.space,
        mode: args.mode,
        read_only: args.read_only,
        fresh: args.fresh,
    };
    let ours = match appear(context, &wish, &space)? {
        Ok(ours) => ours,
        Err(code) => return Ok(code),
    };
    let outcome = run(context, &space, index.blueprint(), &args.command);
    if ours {
        disappear(&space)?;
    }
    Ok(ExitCode::from(code_of(outcome?)))
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

fn run(
    context: &Context,
    space: &Space,
    blueprint: &str,
    command: &[OsString],
) -> anyhow::Result<ExitStatus> {
    let temp = RunTemp::create(&context.home.root().join("temp"))?;
    let settings = Settings::read(&context.home)?;
    let sources = variables::Sources {
        home: &context.home,
        settings: &settings,
        root: &space.root,
        blueprint,
        temp: &temp.0,
        path: std::env::var_os("PATH"),
    };
    let variables = variables::of(&sources)?;
    let (program, arguments) = command.split_first().context("There is no command")?;
    let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let mut child = Command::new(resolve(program, path.as_deref()))
        .args(arguments)
        .env_remove("VIRTUAL_ENV")
        .envs(variables)
        .spawn()
        .with_context(|| format!("Cannot run {}", program.display()))?;
    forward_signals(&child)?;
    child.wait().context("Cannot wait for the command")
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
