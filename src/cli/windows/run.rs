//! `holofs run` where there is no FUSE: the space is laid out as files, and the command runs in it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::space::Space;

use super::SpaceArgs;
use super::context::Context;
use super::execute::Execution;
use super::mount::{self, MountArgs};
use super::rung::{self, Mode, Rung};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How the space appears; here as files only
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    /// Let Python write no bytecode, as RCC does
    #[arg(long)]
    pub no_bytecode: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Runs the command.
#[allow(clippy::print_stderr, reason = "stdout is the command's")]
pub fn main(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (index, _, _) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let report = mount::materialized(context, &MountArgs::new(&args.catalog, &args.space, args.mode))?;
    if context.is_json() {
        let (path, rung, reasons) = (&report.path, report.rung, &report.reasons);
        let told = serde_json::json!({
            "path": path, "rung": rung, "reasons": reasons, "isolated": false, "unkept": context.unkept(),
        });
        eprintln!("{told}");
    } else {
        rung::tell(report.rung, &report.reasons);
    }
    let bytecode = (!args.no_bytecode).then_some((&space, &index));
    let execution =
        Execution { context, root: &space.root, blueprint: index.blueprint(), bytecode, is_new: false };
    execution.command(&args.command, || ())
}

/// No space is mounted already.
pub fn already_there(_space: &Space, _catalog: &str) -> anyhow::Result<Option<Rung>> {
    Ok(None)
}
