//! `holofs commit`: makes a new catalog from a space with its changes.

use std::process::ExitCode;

use clap::Args;

use crate::session::commit::{self, Committed};

use super::SpaceArgs;
use super::context::Context;
use super::record::CatalogName;
use super::table::{bytes, counted};

/// Arguments of `commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    #[command(flatten)]
    pub name: CatalogName,
}

/// Commits and reports.
pub fn main(context: &Context, args: &CommitArgs) -> anyhow::Result<ExitCode> {
    let specification = args.name.specification()?;
    let committed = commit::commit(context, &args.space.name(), &specification)?;
    context.report(&committed, summary)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(committed: &Committed) -> String {
    format!(
        "{}: {}, {} of them written in the space ({}, {}); {} left out",
        committed.blueprint,
        counted(committed.files, "file"),
        committed.written_files,
        bytes(committed.written_bytes),
        counted(committed.new_blobs, "new blob"),
        counted(committed.left_out, "entry")
    )
}
