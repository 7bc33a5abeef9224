//! `holofs catalogs`: what the hololib has.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use crate::space::inventory::{self, CatalogRow, Shown};

use super::context::Context;
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
}

/// Lists. As in RCC, `--json` is an object by blueprint.
pub fn main(context: &Context, args: &CatalogsArgs) -> anyhow::Result<ExitCode> {
    let shown = Shown { identity: args.identity, top: args.top };
    let rows = inventory::catalogs(&context.home, shown)?;
    if context.is_json() {
        let by_blueprint: BTreeMap<_, _> = rows.iter().map(|row| (row.blueprint.clone(), row)).collect();
        context.report(&by_blueprint, |_| String::new())?;
    } else {
        context.report(&rows, |rows| text(rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(rows: &[CatalogRow]) -> String {
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
