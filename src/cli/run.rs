//! `holofs run`: a command in a space that is there for the time of the command.
//!
//! The space is mounted (or materialized where nothing can be mounted), the command runs with the space's variables, and
//! its exit status is ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::space::Space;

use super::appear::{Mode, Wish, appear};
use super::context::Context;
use super::execute::Execution;
use super::exit_code::Busy;
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
    let wish = Wish {
        catalog: &args.catalog,
        catalog_id: &index.id().to_string(),
        args: &args.space,
        mode: args.mode,
        read_only: args.read_only,
        fresh: args.fresh,
        profile: &args.profile,
    };
    let ours = match appear(context, &wish, &space)? {
        Ok(ours) => ours,
        Err(code) => return Ok(code),
    };
    let execution = Execution { context, space: &space, index: &index, bytecode: !args.no_bytecode };
    let outcome = execution.command(&args.command);
    if ours {
        disappear(&space)?;
    }
    outcome
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
