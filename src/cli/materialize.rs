//! `holofs materialize`: the same tree as in a mount, as files.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;

use crate::session::lay_out::{default_strategy, lay_out};
use crate::space::materialize::{MaterializeReport, Options, Strategy};

use super::SpaceChoice;
use super::context::Context;
use super::remotes::{self, RemoteUseArgs};
use super::target;

/// Arguments of `materialize`.
#[derive(Debug, Args)]
pub struct MaterializeArgs {
    /// A conda.yaml, package.yaml, robot.yaml or a directory with one (default: .); or a catalog: hash, prefix, file name, path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    #[command(flatten)]
    pub space: SpaceChoice,
    /// auto, snapshot, reflink, hardlink (never by auto) or copy; default: $RCC_HOLOTREE_STRATEGY, settings.yaml, auto
    #[arg(long)]
    pub strategy: Option<Strategy>,
    /// Also lay out the catalog as a pristine tree, so that its next space needs no decoding
    #[arg(long)]
    pub warm: bool,
    /// Also read the content of files that seem unchanged
    #[arg(long)]
    pub verify: bool,
    /// Drop earlier changes: reset every file, whatever its size and time
    #[arg(long)]
    pub fresh: bool,
    /// Keep the catalog's setuid and setgid bits (as root)
    #[arg(long)]
    pub allow_setuid: bool,
    /// Number of threads (default: one per processor)
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
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
    let find = || target::of_word(context, args.catalog.as_deref());
    let named = remotes::or_pulled(context, &args.remote, find)?.catalog;
    let catalog = remotes::local(context, &named, &args.remote)?;
    let report = lay_out(context, &catalog, &args.space.name(), &options, args.fresh)?;
    context.report(&report, summary)?;
    Ok(ExitCode::SUCCESS)
}

/// One line of summary, and one for each fallback that was used.
fn summary(report: &MaterializeReport) -> Vec<String> {
    let count = |name: &str| report.counts.get(name).copied().unwrap_or_default();
    let tiers = ["snapshotted", "reflinked", "hardlinked", "copied", "relocated", "kept", "removed"];
    let done: Vec<String> =
        tiers.iter().filter(|name| count(name) > 0).map(|name| format!("{} {name}", count(name))).collect();
    let done = if done.is_empty() { "nothing to do".to_owned() } else { done.join(", ") };
    let mut text = format!("{}: {done} in {:.2} s", report.space.display(), report.seconds.total);
    if report.swept_by.is_some() {
        text.push_str(&format!("; {} directories set aside are being deleted", count("set_aside")));
    }
    let weaker = report.fallbacks.iter();
    let weaker =
        weaker.map(|(what, fallback)| format!("{what} ({} times): {}", fallback.count, fallback.reason));
    std::iter::once(text).chain(weaker).collect()
}
