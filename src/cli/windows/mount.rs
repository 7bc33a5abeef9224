//! `holofs mount` where there is no FUSE: the space is laid out as files, which is told; and what takes mounts away says that
//! there are none. Options that only a mount can keep are not known here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::store::index::Made;

use super::SpaceArgs;
use super::context::Context;
use super::exit_code::CannotMount;
use super::rung::{self, Mode, Refusal, Rung};

/// Why nothing is mounted.
pub const NO_FUSE: &str = "there is no FUSE on Windows";

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How the space appears; here as files only
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
}

impl MountArgs {
    /// A space that appears by `mode`.
    pub fn new(catalog: &str, space: &SpaceArgs, mode: Mode) -> MountArgs {
        MountArgs { catalog: catalog.to_owned(), space: space.clone(), mode }
    }
}

/// The words of a command that is about mounts.
#[derive(Debug, Args)]
pub struct NoMountsArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// What is reported, with the names that a mount's report has elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct MountReport {
    /// The space.
    pub path: PathBuf,
    /// The space's label.
    pub label: String,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The blueprint.
    pub blueprint: String,
    /// The daemon: none, since the space is plain files.
    pub pid: Option<u32>,
    /// `read-write`.
    pub mode: &'static str,
    /// How it appeared.
    pub rung: Rung,
    /// Why not in a better way.
    pub reasons: Vec<Refusal>,
    /// Entries of the catalog's tree.
    pub entries: u64,
    /// `opened`, or `compiled` where the catalog was seen for the first time (or its index was damaged).
    pub index: &'static str,
}

/// Lays the space out, unless it has to be a mount.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    match appear(context, args)? {
        Ok(report) => {
            context.report(&report, |report| report.path.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Makes the space appear as files, and tells why not better; there is no daemon that could fail.
pub fn appear(context: &Context, args: &MountArgs) -> anyhow::Result<Result<MountReport, ExitCode>> {
    let report = materialized(context, args)?;
    rung::tell(report.rung, &report.reasons);
    Ok(Ok(report))
}

/// Lays the space out as files.
pub fn materialized(context: &Context, args: &MountArgs) -> anyhow::Result<MountReport> {
    let (index, made, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    let refused = Refusal::new(Rung::Direct, NO_FUSE);
    let reasons = if args.mode == Mode::Materialize { Vec::new() } else { vec![refused] };
    if args.mode == Mode::Mount {
        return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
    }
    super::materialize::quietly(context, &args.catalog, &args.space)
        .with_context(|| format!("Cannot materialize (nor mount: {NO_FUSE})"))?;
    Ok(MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: None,
        mode: "read-write",
        rung: Rung::Materialize,
        reasons,
        entries: index.len(),
        index: if made == Made::Opened { "opened" } else { "compiled" },
    })
}

/// Every command that is about a mount: there is none.
pub fn no_mounts(_args: &NoMountsArgs) -> anyhow::Result<ExitCode> {
    let refused = vec![Refusal::new(Rung::Direct, NO_FUSE)];
    Err(CannotMount { what: "anything, so no space is a mount".to_owned(), refused }.into())
}
