//! Recordings of runs in files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::session::recording::{FORMAT, Recording};
use crate::session::run::RunRequest;
use crate::sys::fs::dir;
use crate::sys::fs::stat::read_regular;

use super::context::Context;
use super::summary;
use super::terminal;

/// The maximum size of a recording in bytes.
const MOST: u64 = 1 << 30;

/// Reports about the run after its end.
#[derive(Debug, Clone, Default, Args)]
pub struct WatchedRunArgs {
    /// Record the command's reads to FILE, for `trace --from` and `report --trace`; no readahead unless --profile names a file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Append a summary in Markdown to this file (auto: $GITHUB_STEP_SUMMARY, otherwise holofs-summary.md)
    #[arg(long, value_name = "auto|FILE", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub summary: Option<PathBuf>,
}

/// Reads a recording.
pub fn read(file: &Path) -> anyhow::Result<Recording> {
    let text = read_regular(file, MOST).with_context(|| format!("Cannot read {}", file.display()))?;
    let recording: Result<Recording, _> = serde_json::from_slice(&text);
    let recording = recording.with_context(|| format!("{} is not a recording of a run", file.display()))?;
    anyhow::ensure!(
        recording.holofs_trace == FORMAT,
        "{} is a recording of format {}; this program supports {FORMAT}",
        file.display(),
        recording.holofs_trace
    );
    Ok(recording)
}

/// Writes the recording of the run of `request` to the chosen files. Failures do not change the command's status.
pub fn after_run(context: &Context, args: &WatchedRunArgs, request: &RunRequest) {
    let Some(recording) = request.recording.as_ref().and_then(|slot| slot.take()) else { return };
    if let Some(file) = &args.trace
        && let Err(error) = write(file, &recording)
    {
        terminal::warn(&format!("{error:#}"));
    }
    if let Some(file) = &args.summary
        && let Err(error) = summary::write(context, file, &recording)
    {
        terminal::warn(&format!("No summary: {error:#}"));
    }
}

/// Writes a recording, or a part of one, as JSON.
pub fn write(file: &Path, recording: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_vec(recording).context("Cannot write the recording as JSON")?;
    dir::publish(&std::path::absolute(file)?, &text)
        .with_context(|| format!("Cannot write {}", file.display()))
}
