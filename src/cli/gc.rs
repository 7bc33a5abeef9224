//! `holofs gc`: removes unused data.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::space::maintain::collect::{self, Collected, Options};

use super::context::Context;
use super::table::{bytes, counted};

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Shrink the raw store and the laid-out catalogs to this size each (K, M, G, T), least recently used first
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Also remove raw entries, laid-out catalogs, bytecode and remote environments not used for this many days
    #[arg(long, value_name = "DAYS")]
    pub unused: Option<u64>,
    /// Also remove blobs of the hololib that no catalog refers to
    #[arg(long)]
    pub hololib: bool,
}

/// Collects and reports.
pub fn main(context: &Context, args: &GcArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        dry_run: args.dry_run,
        max_size: args.max_size,
        unused: args.unused.map(|days| Duration::from_secs(days.saturating_mul(86_400))),
        hololib: args.hololib,
    };
    let lock = context.lock_hololib()?;
    #[cfg(unix)]
    let dead = crate::session::clear::dead_mounts(context, args.dry_run)?;
    #[cfg_attr(windows, allow(unused_mut, reason = "nothing is mounted there"))]
    let mut report = collect::collect(&context.home, options)?;
    #[cfg(unix)]
    {
        report.mounts = dead.cleared;
        report.kept.extend(dead.kept);
    }
    drop(lock);
    context.report(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Collected) -> Vec<String> {
    let done = if report.dry_run { "Would remove" } else { "Removed" };
    let mut lines = vec![
        format!(
            "{done} {} ({}); {} kept",
            counted(report.raw_entries, "raw entry"),
            bytes(report.raw_bytes),
            bytes(report.raw_bytes_left)
        ),
        format!(
            "{done} {} indexes, layouts and other files of catalogs that are removed or unused",
            report.derived.len()
        ),
        format!("{done} {} directories and names of remote environments", report.remotes.len()),
        format!("{done} {} ({})", counted(report.blobs, "blob"), bytes(report.blob_bytes)),
    ];
    lines.extend(report.mounts.iter().map(|path| format!("{done} the dead mount at {}", path.display())));
    lines.extend(report.trash.iter().map(|path| format!("{done} {}", path.display())));
    lines.extend(report.spaces.iter().map(|path| format!("{done} {}: its space is deleted", path.display())));
    lines.extend(report.leases.iter().filter_map(|lease| {
        let space = lease.mountpoint.as_ref()?;
        Some(format!("Kept what {} uses: it is mounted", space.display()))
    }));
    lines.extend(report.kept.iter().cloned());
    lines
}

/// Parses a size in bytes, with an optional unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper.trim_end_matches('B').trim_end_matches('I');
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let unit = units.iter().find_map(|(name, shift)| Some((upper.strip_suffix(name)?, *shift)));
    let (digits, shift) = unit.unwrap_or((upper, 0));
    let count: u64 =
        digits.trim().parse().map_err(|_| "a size is a number, optionally followed by K, M, G or T")?;
    count.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = ["0", "17", "2K", "2KiB", "3 mb", "1G", "1T"].map(parse_size);
        assert_eq!(sizes, [0, 17, 2048, 2048, 3 << 20, 1 << 30, 1 << 40].map(Ok));
        for text in ["", "K", "1X", "-1", "99999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
