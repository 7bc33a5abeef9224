//! `holofs report`: writes a page that shows what an environment contains and what runs used of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::fs::fuse::profile::Profile;
use crate::inspect::compare::compare;
use crate::inspect::packages::Packages;
use crate::inspect::report;
use crate::inspect::run::Run;
use crate::inspect::touched::{Share, Touched};
use crate::rcc::catalog::Catalog;
use crate::session::error::NotFound;
use crate::store::index::Index;
use crate::store::observe::Tally;

use super::context::Context;
use super::trace;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Catalog: its hash, a unique prefix of it, its file name, or a path
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

/// A catalog and its content.
pub struct Inspected {
    /// The compiled catalog.
    pub index: Index,
    /// Its packages.
    pub packages: Packages,
}

impl Inspected {
    /// Opens the catalog that `what` names.
    pub fn open(context: &Context, what: &str) -> anyhow::Result<Inspected> {
        let (index, _, _) = context.index(what)?;
        let store = context.store_for_now(Arc::new(Tally::new()))?;
        let packages = Packages::of(&index, &*store);
        Ok(Inspected { index, packages })
    }

    /// Opens the catalog with that id, whatever its name in the hololib.
    pub fn of_id(context: &Context, id: &str) -> anyhow::Result<Inspected> {
        let found = context
            .home
            .catalogs()?
            .into_iter()
            .find(|path| Catalog::identify(path).is_ok_and(|found| found.to_string() == id));
        let path =
            found.ok_or_else(|| NotFound(format!("The catalog {id} is not in the hololib any more")))?;
        Inspected::open(context, &path.to_string_lossy())
    }

    /// What earlier runs used; empty if none was recorded.
    pub fn touched(&self, context: &Context) -> Touched {
        let id = self.index.id();
        let text = std::fs::read_to_string(context.home.profiles_dir().join(id.to_string()));
        let profile = text.ok().and_then(|text| Profile::from_text(&text, &id)).unwrap_or_default();
        Touched::of(&self.index, &profile)
    }
}

/// Writes the page.
pub fn main(context: &Context, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let now = Inspected::open(context, &args.catalog)?;
    let touched = now.touched(context);
    let mut page = report::Report::new(&now.index, &now.packages, &touched);
    if let Some(since) = &args.since {
        let before = Inspected::open(context, since)?;
        let comparison = compare((&before.index, &before.packages), (&now.index, &now.packages));
        page.comparison = Some((before.index.blueprint().to_owned(), comparison));
    }
    for file in &args.trace {
        let recording = trace::read(file)?;
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
    let html = page.to_html().context("Cannot make the page")?;
    std::fs::write(&args.output, html).with_context(|| format!("Cannot write {}", args.output.display()))?;
    let written = Written { path: args.output.clone(), packages: page.packages.len(), touched: page.touched };
    context
        .report(&written, |written| vec![written.path.display().to_string(), sentence(&written.touched)])?;
    Ok(ExitCode::SUCCESS)
}

/// A summary of the usage, in one line.
pub fn sentence(share: &Share) -> String {
    if share.files == 0 {
        return "No run of this environment was recorded yet".to_owned();
    }
    let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
    format!(
        "Runs touched {} of {} files ({:.1} %), {:.1} % of bytes",
        share.files,
        share.all_files,
        percent(share.files, share.all_files),
        percent(share.bytes, share.all_bytes)
    )
}
