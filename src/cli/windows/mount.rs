//! `holofs mount` where there is no FUSE: the space is laid out as files, which is told; and what takes mounts away says that
//! there are none. Options that only a mount can keep are not known here.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use crate::session::appear::{NO_FUSE, appear};
use crate::session::error::CannotMount;
use crate::session::method::{Method, Mode, Mounter, Refusal};
use crate::session::request::MountRequest;

use super::SpaceChoice;
use super::context::{Context, say_method};
use super::target;

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// What asks for the catalog: a conda.yaml, package.yaml or robot.yaml, a directory with one (default: this one); or the
    /// catalog itself: its hash, a unique prefix of it, its file name, or a path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    #[command(flatten)]
    pub space: SpaceChoice,
    /// How the space appears; here as files only
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
}

/// The words of a command that is about mounts.
#[derive(Debug, Args)]
pub struct NoMountsArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Lays the space out, unless it has to be a mount.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    let catalog = target::of_word(context, args.catalog.as_deref())?.catalog;
    let report = appear(context, &MountRequest::new(&catalog, &args.space.name(), args.mode))?;
    say_method(report.method, &report.reasons);
    context.report(&report, |report| report.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Every command that is about a mount: there is none.
pub fn no_mounts(_args: &NoMountsArgs) -> anyhow::Result<ExitCode> {
    let refused = vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)];
    Err(CannotMount { what: "anything, so no space is a mount".to_owned(), refused }.into())
}
