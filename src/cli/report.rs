//! `holofs report`: writes a page that shows what an environment contains and what runs used of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::inspect::compare::compare;
use crate::inspect::report;
use crate::inspect::run::Run;
use crate::inspect::touched::Share;

use super::context::Context;
use super::inspected::{Inspected, sentence};
use super::recorded;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Catalog: its hash, a unique prefix of it, its file name, a path, or a conda.yaml and the like
    pub catalog: String,
    /// Catalog to compare with
    #[arg(long, value_name = "CATALOG")]
    pub since: Option<String>,
    /// Recording of `holofs run --trace FILE` whose timeline to show; with two, also their differences
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Page to write
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Serialize)]
struct Written {
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    packages: usize,
    touched: Share,
}

/// Writes the page.
pub fn main(context: &Context, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let now = Inspected::open(context, &args.catalog)?;
    let touched = now.touched(context);
    let mut page = report::Page::new(&now.index, &now.packages, &touched);
    if let Some(since) = &args.since {
        let before = Inspected::open(context, since)?;
        let comparison = compare((&before.index, &before.packages), (&now.index, &now.packages));
        page.comparison = Some((before.index.blueprint().to_owned(), comparison));
    }
    for file in &args.trace {
        let recording = recorded::read(file)?;
        anyhow::ensure!(
            recording.catalog == now.index.id().to_string(),
            "{} is of another catalog: {} ({})",
            file.display(),
            recording.blueprint,
            recording.catalog
        );
        let run = Run::of(&recording, &now.index, &now.packages);
        page.runs.push(report::RunShown::new(&recording, &run, &now.index));
    }
    let html = page.to_html().context("Cannot create the page")?;
    std::fs::write(&args.output, html).with_context(|| format!("Cannot write {}", args.output.display()))?;
    let written = Written { path: args.output.clone(), packages: page.packages.len(), touched: page.touched };
    context
        .report(&written, |written| vec![written.path.display().to_string(), sentence(&written.touched)])?;
    Ok(ExitCode::SUCCESS)
}
