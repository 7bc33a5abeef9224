//! `holofs du`: the bytes that belong only to a space, without the shared store.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::session::{plain, written};
use crate::space::files;
use crate::store::fingerprints;
use crate::sys::fs::beneath::Dir;
use crate::sys::fs::place::Place;

use super::SpaceArgs;
use super::context::Context;
use super::table::counted;

/// Arguments of `du`.
#[derive(Debug, Args)]
pub struct DuArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
}

/// Bytes on disk.
#[derive(Debug, Default, Serialize)]
struct UsageReport {
    /// Written files.
    written_files: u64,
    written_bytes: u64,
    /// Their metadata.
    state_bytes: u64,
    /// Files that contain the space's own path; recreated when missing.
    relocated_files: u64,
    relocated_bytes: u64,
    /// Files of a space that is laid out, including those that share their content with the store (reflinks, hard links).
    laid_out_files: u64,
    laid_out_bytes: u64,
    total_bytes: u64,
}

/// Reports how much disk space belongs only to the space.
pub fn main(context: &Context, args: &DuArgs) -> anyhow::Result<ExitCode> {
    let standing = plain::find(context, &args.space.name())?;
    let (laid_out_files, laid_out_bytes) = match &standing {
        Some(standing) => laid_out(&standing.space.root)?,
        None => (0, 0),
    };
    let dir = match (written::state_dir(context, &args.space.name()), standing) {
        (Err(_), Some(standing)) => standing.space.state_dir,
        (dir, _) => dir?,
    };
    let (written_files, written_bytes) = usage(&dir.below(files::UPPER_BYTES), &|_| true)?;
    let is_content = |name: &OsStr| name != fingerprints::NAME;
    let (relocated_files, relocated_bytes) = usage(&dir.below(files::RELOCATED), &is_content)?;
    let (_, kept_bytes) = usage(&dir, &|_| true)?;
    let report = UsageReport {
        written_files,
        written_bytes,
        state_bytes: kept_bytes.saturating_sub(written_bytes + relocated_bytes),
        relocated_files,
        relocated_bytes,
        laid_out_files,
        laid_out_bytes,
        total_bytes: kept_bytes + laid_out_bytes,
    };
    context.report(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &UsageReport) -> Vec<String> {
    let mut lines = vec![
        (report.written_bytes, format!("in {}", counted(report.written_files, "written file"))),
        (report.relocated_bytes, format!("in {}", counted(report.relocated_files, "relocated file"))),
        (report.state_bytes, "of state".to_owned()),
    ];
    if report.laid_out_files > 0 {
        lines
            .push((report.laid_out_bytes, format!("in {}", counted(report.laid_out_files, "laid-out file"))));
    }
    lines.push((report.total_bytes, "in all".to_owned()));
    lines.into_iter().map(|(bytes, of)| format!("{bytes:>12} bytes {of}")).collect()
}

/// The number of files below `dir` whose names count, and their size; a live space changes meanwhile.
fn usage(dir: &Place, counts: &dyn Fn(&OsStr) -> bool) -> anyhow::Result<(u64, u64)> {
    match dir.open().and_then(|dir| dir.beneath()?.disk_usage(counts)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((0, 0)),
        usage => usage.with_context(|| format!("Cannot list {}", dir.display())),
    }
}

/// The same for a space that is laid out, in which directories may have any mode.
fn laid_out(root: &Path) -> anyhow::Result<(u64, u64)> {
    let usage = Dir::open(root).and_then(|dir| dir.disk_usage(&|_| true));
    usage.with_context(|| format!("Cannot list {}", root.display()))
}
