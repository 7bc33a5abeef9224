//! `holofs import`: a hololib.zip into the hololib, every name and every blob checked.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::space::archive::{self, Imported, Options};

use super::context::Context;
use super::progress::Progress;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The files
    #[arg(required = true, value_name = "ZIP")]
    pub files: Vec<PathBuf>,
    /// Import blobs of the other kind than the hololib has; HoloFS can use them then, RCC cannot
    #[arg(long)]
    pub mixed: bool,
}

/// Imports one after the other.
pub fn main(context: &Context, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    if let Some(url) = args.files.iter().find(|file| file.to_string_lossy().contains("://")) {
        bail!("Cannot import {}: only files are imported; download it first", url.display());
    }
    let lock = context.lock_hololib()?;
    let mut reports = Vec::new();
    for file in &args.files {
        let progress = Progress::new("Importing", context.is_json());
        let outcome = archive::import(&context.home, file, Options { mixed: args.mixed }, &progress);
        progress.finish();
        reports.push(outcome?);
    }
    drop(lock);
    context.report(&reports, |reports| reports.iter().map(summary).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn summary(report: &Imported) -> String {
    let Imported { blobs_written, blobs_present, blobs_repaired, blobs_ignored, files_ignored, .. } = report;
    let new =
        if report.catalogs.is_empty() { "no new catalog".to_owned() } else { report.catalogs.join(", ") };
    format!(
        "{}: {new}; {blobs_written} blobs written, {blobs_present} there before, {blobs_repaired} repaired, {blobs_ignored} ignored{}",
        report.zip.display(),
        if *files_ignored > 0 { format!("; {files_ignored} other files ignored") } else { String::new() }
    )
}
