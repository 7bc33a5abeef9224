//! `holofs catalogs`: what the hololib has.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
#[cfg(unix)]
use clap::Subcommand;

#[cfg(unix)]
use crate::inspect::compare::{Change, Comparison, compare};
use crate::space::inventory::{self, CatalogRow, Shown};

use super::context::Context;
#[cfg(unix)]
use super::report::Inspected;
use super::table::{bytes, table};

/// Arguments of `catalogs`.
#[derive(Debug, Args)]
pub struct CatalogsArgs {
    /// Show the specification of each (with --json)
    #[arg(short, long)]
    pub identity: bool,
    /// Show the files of so many largest sizes (with --json)
    #[arg(short, long = "top", value_name = "N", default_value_t = 0)]
    pub top: usize,
    #[cfg(unix)]
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What else can be done with catalogs.
#[cfg(unix)]
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show what changed from one catalog to another: packages, files, bytes
    Diff {
        /// The older one
        before: String,
        /// The newer one
        after: String,
        /// Show every file
        #[arg(long)]
        files: bool,
    },
}

/// Lists. As in RCC, `--json` is an object by blueprint.
pub fn main(context: &Context, args: &CatalogsArgs) -> anyhow::Result<ExitCode> {
    #[cfg(unix)]
    if let Some(Action::Diff { before, after, files }) = &args.action {
        return diff(context, before, after, *files);
    }
    let shown = Shown { identity: args.identity, top: args.top };
    let rows = inventory::catalogs(&context.home, shown)?;
    if context.is_json() {
        let by_blueprint: BTreeMap<_, _> = rows.iter().map(|row| (row.blueprint.clone(), row)).collect();
        context.report(&by_blueprint, |_| Vec::new())?;
    } else {
        context.report(&rows, |rows| text(rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn diff(context: &Context, before: &str, after: &str, files: bool) -> anyhow::Result<ExitCode> {
    let (before, after) = (Inspected::open(context, before)?, Inspected::open(context, after)?);
    let comparison = compare((&before.index, &before.packages), (&after.index, &after.packages));
    context.report(&comparison, |comparison| changes(comparison, files))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn changes(comparison: &Comparison, files: bool) -> Vec<String> {
    let shown = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
    let packages = comparison.packages.iter();
    let rows: Vec<Vec<String>> = packages
        .map(|package| vec![package.name.clone(), shown(&package.before), shown(&package.after)])
        .collect();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.extend(table(&["Package", "Before", "After"], &[], &rows));
    }
    if files {
        lines.extend(comparison.files.iter().map(|file| match file.change {
            Change::Added => format!("A {}", file.path),
            Change::Removed => format!("R {}", file.path),
            Change::Changed => format!("C {}", file.path),
        }));
    }
    let (new, same) = (bytes(comparison.new_bytes), bytes(comparison.same_bytes));
    lines.push(format!("{} files differ; {new} are new, {same} are the same", comparison.files.len()));
    lines
}

fn text(rows: &[CatalogRow]) -> Vec<String> {
    let head =
        ["Blueprint", "Platform", "Dirs", "Files", "Size", "Relocated", "Spaces live in", "Age", "Idle"];
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&head, &[2, 3, 4, 5, 7, 8], &rows)
}

fn cells(row: &CatalogRow) -> Vec<String> {
    let idle =
        if row.days_since_last_use < 0 { "-".to_owned() } else { format!("{}d", row.days_since_last_use) };
    vec![
        row.blueprint.clone(),
        row.platform.clone(),
        row.directories.to_string(),
        row.files.to_string(),
        bytes(row.bytes),
        row.relocations.to_string(),
        row.holotree.clone(),
        format!("{}d", row.age_in_days),
        idle,
    ]
}
