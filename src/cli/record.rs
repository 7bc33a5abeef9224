//! `holofs record`: records a finished directory in the hololib.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::space::record::{self, Options, RecordError, Recorded};
use crate::sys::process::signals;

use super::context::Context;
use super::exit_code::{self, INTERRUPTED};
use super::progress::Progress;
use super::table::{bytes, counted};

/// Arguments of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Directory; its name (24 letters, digits and `_`) is what a space's label replaces
    pub dir: PathBuf,
    #[command(flatten)]
    pub name: CatalogName,
}

/// What names the catalog.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct CatalogName {
    /// Specification file (a conda.yaml as RCC writes it into identity.yaml), whose hash names the catalog
    #[arg(long, value_name = "FILE")]
    pub blueprint: Option<PathBuf>,
    /// Any text, whose hash names the catalog
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
}

impl CatalogName {
    /// The text whose hash names the catalog.
    pub fn specification(&self) -> anyhow::Result<String> {
        match (&self.blueprint, &self.name) {
            (Some(file), _) => {
                std::fs::read_to_string(file).with_context(|| format!("Cannot read {}", file.display()))
            }
            (None, name) => Ok(name.clone().unwrap_or_default()),
        }
    }
}

/// Records and reports.
pub fn main(context: &Context, args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let specification = args.name.specification()?;
    let progress = Progress::new("Recording", context.is_json());
    let lock = context.lock_hololib()?;
    // Only now: a signal ends the wait for the lock at once.
    let interrupted = signals::interruption().context("Cannot handle signals")?;
    let options = Options { interrupted, ..Options::new(specification) };
    let outcome = record::record(&args.dir, &context.home, &options, &progress);
    drop(lock);
    progress.finish();
    match outcome {
        Err(error @ RecordError::Interrupted) => {
            Ok(exit_code::fail_as(&error.into(), context.is_json(), INTERRUPTED))
        }
        outcome => {
            context.report(&outcome?, summary)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn summary(report: &Recorded) -> Vec<String> {
    let text = format!(
        "{}: {}, {}, {}, {} in {}; {} written, {} already present, in {:.2} s",
        report.catalog.display(),
        counted(report.files, "file"),
        counted(report.directories, "directory"),
        bytes(report.bytes),
        counted(report.relocations, "relocation"),
        counted(report.relocated_files, "file"),
        counted(report.blobs_written, "blob"),
        report.blobs_present,
        report.seconds
    );
    let notes = report.warnings.iter().map(|warning| format!("Note: {warning}"));
    std::iter::once(text).chain(notes).collect()
}
