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
    let values = xattr::get(&space.root, STATS);
    let values = values.with_context(|| format!("Cannot query {}", space.root.display()))?;
    let stats: Value = serde_json::from_slice(&values).context("The daemon's answer is invalid")?;
    context.report(&stats, table)?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each number.
fn table(stats: &Value) -> Vec<String> {
    let mut lines = vec![format!("{:<20} {:>12}", "io", stats["io"].as_str().unwrap_or_default())];
    let groups = ["requests", "counts"].into_iter().filter_map(|group| stats[group].as_object());
    lines.extend(groups.flatten().map(|(name, count)| format!("{name:<20} {count:>12}")));
    let latency = stats["latency"].as_object().into_iter().flatten();
    lines.extend(latency.map(|(kind, values)| {
        format!(
            "time of {kind:<12} p50 {} us, p99 {} us, longest {} us",
            values["p50_us"], values["p99_us"], values["max_us"]
        )
    }));
    lines.push(format!("{:<20} {:>12}", "primed", stats["primed"]));
    let fallbacks = stats["fallbacks"].as_object().into_iter().flatten();
    lines.extend(fallbacks.map(|(what, values)| {
        format!(
            "fallback: {what}, {} times: {}",
            values["count"],
            values["reason"].as_str().unwrap_or_default()
        )
    }));
    lines
}
