//! `holofs df`: disk usage, and how much removing each catalog would free.

use std::process::ExitCode;

use clap::Args;

use crate::inspect::usage::{self, Usage};

use super::context::Context;
use super::table::{bytes as size, counted, table};
use super::terminal;

/// Arguments of `df`.
#[derive(Debug, Args)]
pub struct DfArgs {}

/// Measures and reports.
pub fn main(context: &Context, _args: &DfArgs) -> anyhow::Result<ExitCode> {
    let usage = usage::usage(&context.home)?;
    for dir in &usage.unreadable {
        terminal::warn(&format!("Cannot list {}: it is not counted", dir.display()));
    }
    context.report(&usage, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(usage: &Usage) -> Vec<String> {
    let parts: Vec<Vec<String>> = usage
        .parts
        .iter()
        .filter(|(_, taken)| taken.entries > 0)
        .map(|(name, taken)| vec![(*name).to_owned(), taken.entries.to_string(), size(taken.bytes)])
        .chain([vec!["total".to_owned(), usage.total.entries.to_string(), size(usage.total.bytes)]])
        .collect();
    let catalogs: Vec<Vec<String>> = usage
        .catalogs
        .iter()
        .map(|row| vec![row.blueprint.clone(), size(row.exclusive_bytes), size(row.shared_bytes)])
        .collect();
    let spaces: Vec<Vec<String>> = usage
        .spaces
        .iter()
        .map(|(name, taken)| vec![name.clone(), taken.entries.to_string(), size(taken.bytes)])
        .collect();
    let mut lines = table(&["Part", "Entries", "Size"], &[1, 2], &parts);
    for (head, rows) in [(["Catalog", "Frees", "Shared"], &catalogs), (["Space", "Entries", "Size"], &spaces)]
    {
        if !rows.is_empty() {
            lines.push(String::new());
            lines.extend(table(&head, &[1, 2], rows));
        }
    }
    if usage.reflinked.entries > 0 {
        let (files, bytes) = (counted(usage.reflinked.entries, "file"), size(usage.reflinked.bytes));
        lines.push(String::new());
        lines.push(format!("Shared with files counted before: {bytes} in {files}; `du` counts these again"));
    }
    if usage.unnamed_blobs.entries > 0 {
        let (blobs, bytes) = (counted(usage.unnamed_blobs.entries, "blob"), size(usage.unnamed_blobs.bytes));
        lines.push(String::new());
        lines.push(format!("Without a catalog: {blobs} ({bytes}); `holofs gc --hololib` removes them"));
    }
    lines
}
