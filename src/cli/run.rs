//! `holofs run`: a command in a space that is there for the time of the command.
//!
//! The space is mounted (or materialized where nothing can be mounted), the command runs with the space's variables, and
//! its exit status is ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::fs::fuse::Io;
use crate::fs::fuse::awake::KeepAwake;
use crate::space::Space;
use crate::store::index::Index;
use crate::sys::mount::Detached;

use super::context::Context;
use super::daemon::{self, Launched};
use super::execute::Execution;
use super::exit_code::{Busy, CannotMount};
use super::isolate::{self, Isolated};
use super::mount::{self, MountArgs};
use super::rung::{self, Mode, Refusal, Rung};
use super::{SpaceArgs, unmount};

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
    /// How files are read; an isolated space has its own way
    #[arg(long, value_enum, default_value = "no-open", env = "HOLOFS_IO")]
    pub io: Io,
    /// While requests come quickly, let no idle processor halt (as for `mount`)
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_KEEP_AWAKE")]
    pub keep_awake: KeepAwake,
    /// Allow no change
    #[arg(long)]
    pub read_only: bool,
    /// Drop what was written to the space before
    #[arg(long)]
    pub fresh: bool,
    /// At the catalog's own recorded path, in a namespace of this command's own: nothing is relocated or seen outside, any
    /// number run side by side; read-only
    #[arg(long)]
    pub isolate: bool,
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

/// What was done, told before the command runs: as a line on stderr, since stdout is the command's.
#[derive(Debug, Serialize)]
struct Told<'a> {
    path: &'a Path,
    rung: Rung,
    reasons: &'a [Refusal],
    isolated: bool,
}

/// Runs the command.
pub fn main(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (index, _, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let mut reasons = Vec::new();
    let alone = args.isolate && args.mode != Mode::Materialize;
    if !alone && let Some(rung) = already_there(&space, &index.id().to_string())? {
        tell(context, &Told { path: &space.root, rung, reasons: &reasons, isolated: false });
        return execution(context, args, &space, &index, false).command(&args.command, || ());
    }
    let cannot = if args.mode == Mode::Auto && !alone { cannot_hold(&space) } else { None };
    reasons.extend(cannot.iter().map(|why| Refusal::new(Rung::Direct, why)));
    if alone || cannot.is_some() {
        match isolate::enter()? {
            Ok(fuse) => return run_isolated(context, args, fuse, index, &catalog, &reasons),
            Err(why) => reasons.push(Refusal::new(Rung::Namespace, why)),
        }
        if cannot.is_some() || args.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    in_space(context, args, &space, &index, reasons)
}

/// How the command runs in `space`, which `is_new` or was there.
fn execution<'a>(
    context: &'a Context,
    args: &RunArgs,
    space: &'a Space,
    index: &'a Index,
    is_new: bool,
) -> Execution<'a> {
    let bytecode = (!args.no_bytecode).then_some((space, index));
    let is_new = is_new && args.profile != Path::new("off");
    Execution { context, root: &space.root, blueprint: index.blueprint(), bytecode, is_new }
}

/// Runs the command in its space, which appears by the highest rung that holds.
fn in_space(
    context: &Context,
    args: &RunArgs,
    space: &Space,
    index: &Index,
    mut reasons: Vec<Refusal>,
) -> anyhow::Result<ExitCode> {
    let mount = mount_args(args);
    if args.mode != Mode::Materialize {
        match daemon::launch(context, &mount)? {
            Launched::Mounted(report) => {
                reasons.extend(report.reasons);
                return while_mounted(context, args, space, index, report.rung, &reasons);
            }
            Launched::Failed(code) => return Ok(code),
            Launched::Refused(refused) => reasons.extend(refused.refused),
        }
        match isolate::probe()? {
            Ok(()) => return in_namespace(context, args, space, index, &reasons),
            Err(why) => reasons.push(Refusal::new(Rung::Namespace, why)),
        }
        if args.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    let report = mount::materialized(context, &mount, reasons)?;
    let told = Told { path: &space.root, rung: report.rung, reasons: &report.reasons, isolated: false };
    tell(context, &told);
    execution(context, args, space, index, true).command(&args.command, || ())
}

/// Runs the command with the space mounted in a namespace of its own, at the space's usual place.
fn in_namespace(
    context: &Context,
    args: &RunArgs,
    space: &Space,
    index: &Index,
    reasons: &[Refusal],
) -> anyhow::Result<ExitCode> {
    crate::sys::mount::namespace::enter().context("Cannot enter a namespace of our own")?;
    match daemon::launch_copy(context, &mount_args(args))? {
        Launched::Mounted(report) => while_mounted(context, args, space, index, report.rung, reasons),
        Launched::Refused(refused) => Err(refused.into()),
        Launched::Failed(code) => Ok(code),
    }
}

/// Runs the command in the space that was mounted for it, and takes the mount away.
fn while_mounted(
    context: &Context,
    args: &RunArgs,
    space: &Space,
    index: &Index,
    rung: Rung,
    reasons: &[Refusal],
) -> anyhow::Result<ExitCode> {
    tell(context, &Told { path: &space.root, rung, reasons, isolated: false });
    let outcome = execution(context, args, space, index, true).command(&args.command, || ());
    disappear(space)?;
    outcome
}

/// Runs the command at the catalog's own path.
fn run_isolated(
    context: &Context,
    args: &RunArgs,
    fuse: Detached,
    index: Index,
    catalog: &Path,
    reasons: &[Refusal],
) -> anyhow::Result<ExitCode> {
    let isolated = Isolated::begin(context, fuse, index, &args.space)?;
    let Isolated { space, index } = &isolated;
    tell(context, &Told { path: &space.root, rung: Rung::Namespace, reasons, isolated: true });
    let mark = || space.mark_catalog_used(catalog, index.blueprint());
    execution(context, args, space, index, true).command(&args.command, mark)
}

/// The rung of a space that is mounted already with this catalog.
pub fn already_there(space: &Space, catalog: &str) -> anyhow::Result<Option<Rung>> {
    if space.live_holder().is_none() {
        return Ok(None);
    }
    match space.mount_state()? {
        Some(state) if state.catalog == catalog => {
            let rung = serde_json::from_value(serde_json::Value::String(state.rung));
            Ok(Some(rung.unwrap_or(Rung::Direct)))
        }
        _ => {
            let root = space.root.display();
            Err(Busy(format!("{root} is in use with another catalog; unmount it first")).into())
        }
    }
}

/// Why the space can be neither mounted nor materialized at its own place, whatever the rung: nothing can be written there.
fn cannot_hold(space: &Space) -> Option<String> {
    let written = |dir: &Path| tempfile::tempfile_in(dir).map(drop);
    let base = space.ensure_base().map_err(anyhow::Error::from).and_then(|()| Ok(written(&space.base)?));
    let state = || {
        space.ensure_state_dir().map_err(anyhow::Error::from).and_then(|()| Ok(written(&space.state_dir)?))
    };
    match base {
        Err(error) => Some(format!("{} cannot be written: {}", space.base.display(), error.root_cause())),
        Ok(()) => state()
            .err()
            .map(|error| format!("{} cannot be written: {}", space.state_dir.display(), error.root_cause())),
    }
}

fn mount_args(args: &RunArgs) -> MountArgs {
    MountArgs {
        io: args.io,
        keep_awake: args.keep_awake,
        read_only: args.read_only,
        fresh: args.fresh,
        profile: args.profile.clone(),
        ..MountArgs::new(&args.catalog, &args.space, args.mode)
    }
}

/// One line, before the command says anything.
#[allow(clippy::print_stderr)]
fn tell(context: &Context, told: &Told<'_>) {
    let unkept = context.unkept();
    if context.is_json() {
        let mut told = serde_json::json!(told);
        told["unkept"] = serde_json::json!(unkept);
        return eprintln!("{told}");
    }
    let parts = [rung::line(told.rung, told.reasons), unkept.map(str::to_owned)];
    let line = parts.into_iter().flatten().collect::<Vec<String>>().join("; ");
    if !line.is_empty() {
        eprintln!("holofs: {line}");
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
