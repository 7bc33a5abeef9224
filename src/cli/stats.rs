//! `holofs stats`: shows request counters of a mounted space.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::fs::fuse::STATS;
use crate::session::unmount;
use crate::sys::fs::xattr;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    space: SpaceArgs,
}

/// Queries the daemon, through the mount.
pub fn main(context: &Context, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let space = unmount::find(context, &args.space.name())?;
    let told = xattr::get(&space.root, STATS);
    let told = told.with_context(|| format!("Cannot ask {}", space.root.display()))?;
    let stats: Value = serde_json::from_slice(&told).context("The daemon's answer makes no sense")?;
    context.report(&stats, table)?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each number.
fn table(stats: &Value) -> Vec<String> {
    let mut lines = vec![format!("{:<20} {:>12}", "io", stats["io"].as_str().unwrap_or_default())];
    let groups = ["requests", "counts"].into_iter().filter_map(|group| stats[group].as_object());
    lines.extend(groups.flatten().map(|(name, count)| format!("{name:<20} {count:>12}")));
    let latency = stats["latency"].as_object().into_iter().flatten();
    lines.extend(latency.map(|(kind, told)| {
        format!(
            "time of {kind:<12} p50 {} us, p99 {} us, longest {} us",
            told["p50_us"], told["p99_us"], told["max_us"]
        )
    }));
    lines.push(format!("{:<20} {:>12}", "primed", stats["primed"]));
    let fallbacks = stats["fallbacks"].as_object().into_iter().flatten();
    lines.extend(fallbacks.map(|(what, told)| {
        format!("fallback: {what}, {} times: {}", told["count"], told["reason"].as_str().unwrap_or_default())
    }));
    lines
}
