//! `holofs du`: the bytes that a space has for itself, beside the store that all share.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::session::written;
use crate::space::files;
use crate::sys::fs::place::Place;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `du`.
#[derive(Debug, Args)]
pub struct DuArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
}

/// Bytes on disk.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Files that were written.
    written_files: u64,
    written_bytes: u64,
    /// What is known of them.
    state_bytes: u64,
    /// Files with the space's own path in them; made again when missing.
    relocated_files: u64,
    relocated_bytes: u64,
    total_bytes: u64,
}

/// Tells how much of the disk is the space's own.
pub fn main(context: &Context, args: &DuArgs) -> anyhow::Result<ExitCode> {
    let dir = written::state_dir(context, &args.space.name())?;
    let (written_files, written_bytes) = usage(&dir.below(files::UPPER_BYTES))?;
    let (relocated_files, relocated_bytes) = usage(&dir.below(files::RELOCATED))?;
    let (_, total_bytes) = usage(&dir)?;
    let state_bytes = total_bytes.saturating_sub(written_bytes + relocated_bytes);
    let report =
        Report { written_files, written_bytes, state_bytes, relocated_files, relocated_bytes, total_bytes };
    context.report(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> Vec<String> {
    let lines = [
        (report.written_bytes, format!("in {} written files", report.written_files)),
        (report.relocated_bytes, format!("in {} relocated files", report.relocated_files)),
        (report.state_bytes, "of state".to_owned()),
        (report.total_bytes, "in all".to_owned()),
    ];
    lines.map(|(bytes, of)| format!("{bytes:>12} bytes {of}")).into()
}

/// Files below `dir`, and the bytes they take; a live space changes meanwhile.
fn usage(dir: &Place) -> anyhow::Result<(u64, u64)> {
    match dir.open().and_then(|dir| dir.disk_usage()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((0, 0)),
        usage => usage.with_context(|| format!("Cannot list {}", dir.display())),
    }
}
