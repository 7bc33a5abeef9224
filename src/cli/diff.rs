//! `holofs diff`: the changes in a space, path by path; mounted or as files.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::fs::upper::Access;
use crate::fs::vfs::Kind;
use crate::session::{plain, written};
use crate::space::{Differs, materialize};
use crate::sys::fs::name::RelPath;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// For a space laid out as files, read every file, even if its time is unchanged
    #[arg(long)]
    pub verify: bool,
}

#[derive(Debug, Serialize)]
struct DiffReport {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    mode: Vec<String>,
}

/// Reports how a space differs from its catalog.
pub fn main(context: &Context, args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let differences = differences(context, args)?;
    let of = |what| differences.iter().filter(|it| it.1 == what).map(|it| it.0.clone()).collect();
    let report = DiffReport {
        added: of(Differs::Added),
        changed: of(Differs::Changed),
        removed: of(Differs::Removed),
        mode: of(Differs::Mode),
    };
    context.report(&report, |_| {
        let lines = differences.iter().map(|it| format!("{} {}", letter(it.1), it.0));
        lines.collect::<Vec<_>>()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The changed paths, as shown, and how they differ.
fn differences(context: &Context, args: &DiffArgs) -> anyhow::Result<Vec<(String, Differs)>> {
    let name = args.space.name();
    let written = match written::state_dir(context, &name) {
        Ok(state_dir) => Ok(written::index(context, &state_dir)?),
        Err(error) => Err(error),
    };
    if let Ok(Some(index)) = written {
        let found = written::open(context, &name, index, Access::ReadOnly)?.differences()?;
        return Ok(found.iter().map(|it| (shown(&it.path, it.kind == Kind::Dir), it.what)).collect());
    }
    let Some(standing) = plain::find(context, &name)? else { return Ok(written.map(|_| Vec::new())?) };
    let found = materialize::differences(&standing.index, &standing.space, args.verify)
        .with_context(|| format!("Cannot walk {}", standing.space.root.display()))?;
    Ok(found.iter().map(|it| (shown(&it.path, it.is_dir), it.what)).collect())
}

/// A directory ends with a slash, as with `ls -p`.
fn shown(path: &RelPath, is_dir: bool) -> String {
    format!("{path}{}", if is_dir { "/" } else { "" })
}

fn letter(what: Differs) -> char {
    match what {
        Differs::Added => 'A',
        Differs::Changed => 'C',
        Differs::Removed => 'R',
        Differs::Mode => 'M',
    }
}
