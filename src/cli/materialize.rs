//! `holofs materialize`: the same tree as a mount shows, as files.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use crate::rcc::home::Settings;
use crate::space::materialize::{self, Job, Options, Report, Strategy};
use crate::store::observe::Observer;

use super::SpaceArgs;
use super::context::{Context, say_waiting};
use super::progress::Progress;

/// The strategy, if the command line has none.
const VARIABLE: &str = "RCC_HOLOTREE_STRATEGY";

/// Arguments of `materialize`.
#[derive(Debug, Args)]
pub struct MaterializeArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How bytes get into place: auto, snapshot, reflink, hardlink or copy; hardlinks only when asked for. If not given:
    /// $RCC_HOLOTREE_STRATEGY, then holotree.restoration-strategy in settings.yaml, then auto
    #[arg(long)]
    pub strategy: Option<Strategy>,
    /// Lay the catalog out in the side store too, so that the next space of it is made without decoding
    #[arg(long)]
    pub warm: bool,
    /// Read the content of files that seem to be right
    #[arg(long)]
    pub verify: bool,
    /// As root, keep the setuid and setgid bits that the catalog has
    #[arg(long)]
    pub allow_setuid: bool,
    /// Threads to use (default: one per processor)
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
}

/// Materializes and reports.
pub fn main(context: &Context, args: &MaterializeArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        strategy: args.strategy.map_or_else(|| default_strategy(context), Ok)?,
        verify: args.verify,
        allow_setuid: args.allow_setuid,
        wait: context.wait,
        warm: args.warm,
        threads: args.threads,
    };
    let report = materialize(context, &args.catalog, &args.space, &options)?;
    context.report(&report, summary)?;
    Ok(ExitCode::SUCCESS)
}

/// Materializes for a run, without a word.
pub fn quietly(context: &Context, catalog: &str, space: &SpaceArgs) -> anyhow::Result<()> {
    let options = Options { strategy: default_strategy(context)?, wait: context.wait, ..Options::default() };
    materialize(context, catalog, space, &options).map(drop)
}

/// What the environment asks for, else the settings.
fn default_strategy(context: &Context) -> anyhow::Result<Strategy> {
    if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        return text.to_string_lossy().parse().context(VARIABLE);
    }
    match Settings::read(&context.home)?.restoration_strategy {
        Some(text) => text.parse().context("holotree.restoration-strategy in settings.yaml"),
        None => Ok(Strategy::default()),
    }
}

fn materialize(
    context: &Context,
    catalog: &str,
    space: &SpaceArgs,
    options: &Options,
) -> anyhow::Result<Report> {
    let (index, _, path) = context.index(catalog)?;
    let space = context.space(index.base(), space);
    let progress = Arc::new(Progress::new("Materializing", context.is_json()));
    let store = context.store_for_now(Arc::clone(&progress) as Arc<dyn Observer>)?;
    let job = Job::new(&context.home, &path, &index, &store, &space);
    #[cfg_attr(windows, allow(unused_mut, reason = "nothing is set aside there"))]
    let mut outcome = materialize::materialize(&job, options, &*progress, &say_waiting);
    progress.finish();
    #[cfg(unix)]
    super::sweep::after(&space.base, outcome.as_mut().ok());
    Ok(outcome?)
}

/// One line for people, and one for each weaker way that was taken.
fn summary(report: &Report) -> String {
    let count = |name: &str| report.counts.get(name).copied().unwrap_or_default();
    let tiers = ["snapshotted", "reflinked", "hardlinked", "copied", "relocated", "kept", "removed"];
    let told: Vec<String> =
        tiers.iter().filter(|name| count(name) > 0).map(|name| format!("{} {name}", count(name))).collect();
    let told = if told.is_empty() { "nothing to do".to_owned() } else { told.join(", ") };
    let mut text = format!("{}: {told} in {:.2} s", report.space.display(), report.seconds.total);
    if report.swept_by.is_some() {
        write!(text, "; {} directories set aside are being deleted", count("set_aside")).unwrap_or_default();
    }
    for (what, fallback) in &report.fallbacks {
        // Writing to a string cannot fail.
        write!(text, "\n{what} ({} times): {}", fallback.count, fallback.reason).unwrap_or_default();
    }
    text
}
