//! `holofs unmount`: takes a mounted space away and waits until its daemon is gone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::session::unmount::{Manner, find, unmount};

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Take it away even if it is in use; open files stay readable for a while
    #[arg(long)]
    pub lazy: bool,
    /// As --lazy, and end its daemon: open files answer errors
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    label: String,
}

/// Unmounts.
pub fn main(context: &Context, args: &UnmountArgs) -> anyhow::Result<ExitCode> {
    let space = find(context, &args.space.name())?;
    unmount(context, &space, Manner { lazy: args.lazy, force: args.force })?;
    let report = Report { path: space.root.clone(), label: space.label.as_str().to_owned() };
    context.report(&report, |report| format!("Unmounted {}", report.path.display()))?;
    Ok(ExitCode::SUCCESS)
}
