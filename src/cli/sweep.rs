//! `holofs sweep`: the process that deletes what materialize set aside.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::session::sweep;

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Directory of spaces
    pub base: PathBuf,
}

/// Deletes what was set aside.
pub fn main(args: &SweepArgs) -> anyhow::Result<ExitCode> {
    sweep::main(&args.base)?;
    Ok(ExitCode::SUCCESS)
}
