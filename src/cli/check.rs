//! `holofs check`: verifies every blob, raw entry and catalog.

use std::process::ExitCode;

use clap::Args;

use crate::space::maintain::verify::{self, BadBlob, CatalogVerdict, Checked};

use super::context::Context;
use super::exit_code::BAD_BLOB;
use super::progress::Progress;
use super::settled::settled;
use super::table::{bytes, counted};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Move bad blobs aside, restore them from the raw store if possible, and remove bad raw entries
    #[arg(long)]
    pub repair: bool,
}

/// Checks and reports; damage sets the exit code, even if it was repaired.
pub fn main(context: &Context, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let check = || {
        let progress = Progress::new("Checking", context.is_json());
        let outcome = verify::check(&context.home, args.repair, &progress);
        progress.finish();
        Ok(outcome?)
    };
    let report = match args.repair {
        true => {
            let _lock = context.lock_hololib()?;
            check()?
        }
        false => settled(context, check, Checked::is_damaged)?,
    };
    context.report(&report, verdict)?;
    Ok(if report.is_damaged() { ExitCode::from(BAD_BLOB) } else { ExitCode::SUCCESS })
}

/// The findings as lines.
pub fn verdict(report: &Checked) -> Vec<String> {
    let mut lines: Vec<String> = report.catalogs.iter().filter_map(bad_catalog).collect();
    lines.extend(report.bad_blobs.iter().map(bad_blob));
    lines.extend(report.bad_raw.iter().map(|bad| {
        let done = if bad.removed { "removed" } else { "--repair removes it; it is recreated when needed" };
        format!("Raw entry {} does not match its name: {done}", bad.entry)
    }));
    lines.extend(report.strays.iter().map(|path| format!("Note: {} is not a blob", path.display())));
    if report.unreferenced > 0 {
        lines.push(format!("Note: {} without a catalog", counted(report.unreferenced, "blob")));
    }
    let word = if report.is_damaged() { "damage found" } else { "no problems found" };
    lines.push(format!(
        "{}, {} ({}), {} ({}): {word}",
        counted(report.catalogs.len(), "catalog"),
        counted(report.blobs, "blob"),
        bytes(report.blob_bytes),
        counted(report.raw_entries, "raw entry"),
        bytes(report.raw_bytes)
    ));
    lines
}

fn bad_catalog(verdict: &CatalogVerdict) -> Option<String> {
    let CatalogVerdict { catalog, problem, missing, damaged } = verdict;
    match problem {
        Some(problem) => Some(format!("Catalog {catalog}: {problem}")),
        None if missing + damaged > 0 => {
            Some(format!("Catalog {catalog} lacks blobs: {missing} missing, {damaged} damaged"))
        }
        None => None,
    }
}

fn bad_blob(bad: &BadBlob) -> String {
    let moved =
        bad.moved_to.as_ref().map(|path| format!("; moved to {}", path.display())).unwrap_or_default();
    let healed = if bad.healed { "; created again from the raw store" } else { "" };
    format!("{}{moved}{healed}", bad.problem)
}
