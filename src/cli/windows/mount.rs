//! `holofs mount` without FUSE: lays the space out as files, which is reported; commands about mounts report that there are none.
//! Options that only a mount can satisfy do not exist here.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::session::appear::{NO_FUSE, appear};
use crate::session::error::CannotMount;
use crate::session::method::{Method, Mode, Mounter, Refusal};
use crate::session::request::MountRequest;

use super::SpaceChoice;
use super::config;
use super::context::{Context, say_method};
use super::target;

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// A conda.yaml, package.yaml, robot.yaml or a directory with one (default: .); or a catalog: hash, prefix, file name, path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    #[command(flatten)]
    pub space: SpaceChoice,
    /// Method to provide the space; here only as files
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_MODE"), env = "HOLOFS_MODE")]
    pub mode: Mode,
}

/// The arguments of a command about mounts.
#[derive(Debug, Args)]
pub struct NoMountsArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Lays the space out, unless a mount is required.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    let catalog = target::of_word(context, args.catalog.as_deref())?.catalog;
    let report = appear(context, &MountRequest::new(&catalog, &args.space.name(), args.mode))?;
    say_method(report.method, &report.reasons);
    context.report(&report, |report| report.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Every command about mounts: reports that there are none.
pub fn no_mounts(_args: &NoMountsArgs) -> anyhow::Result<ExitCode> {
    let refused = vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)];
    Err(CannotMount { what: "anything, so no space is a mount".to_owned(), refused }.into())
}
