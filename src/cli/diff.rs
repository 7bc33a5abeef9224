//! `holofs diff`: what was written to a space, path by path.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::fs::upper::Access;
use crate::fs::vfs::{Difference, Differs, Kind};

use crate::session::written;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    mode: Vec<String>,
}

/// Tells how a space differs from its catalog.
pub fn main(context: &Context, args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let state_dir = written::state_dir(context, &args.space.name())?;
    let differences = match written::index(context, &state_dir)? {
        Some(index) => written::open(context, &args.space.name(), index, Access::ReadOnly)?.differences()?,
        None => Vec::new(),
    };
    let of = |what| differences.iter().filter(|it| it.what == what).map(shown).collect();
    let report = Report {
        added: of(Differs::Added),
        changed: of(Differs::Changed),
        removed: of(Differs::Removed),
        mode: of(Differs::Mode),
    };
    context.report(&report, |_| {
        let lines = differences.iter().map(|it| format!("{} {}", letter(it.what), shown(it)));
        lines.collect::<Vec<_>>()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A directory ends with a slash, as `ls -p` has it.
fn shown(difference: &Difference) -> String {
    format!("{}{}", difference.path, if difference.kind == Kind::Dir { "/" } else { "" })
}

fn letter(what: Differs) -> char {
    match what {
        Differs::Added => 'A',
        Differs::Changed => 'C',
        Differs::Removed => 'R',
        Differs::Mode => 'M',
    }
}
