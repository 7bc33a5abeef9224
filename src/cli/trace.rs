//! `holofs trace`: shows the reads of a run, in order, with source and waiting time; also from an earlier recording.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use crate::inspect::run::{Run, chrome, grouped};
use crate::session::recording::{self, Fetching, Recording};
use crate::session::request::SpaceName;
use crate::session::unmount;
use crate::sys::process::signals;

use super::SpaceChoice;
use super::context::{self, Context};
use super::inspected::Inspected;
use super::recorded::{self, WatchedRunArgs, write};
use super::run::{self, RunArgs};
use super::table::{bytes, table};

/// How many files and packages are listed in text output.
const SHOWN: usize = 20;

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Mounted space; with a command, what `holofs run` accepts as its catalog
    #[arg(value_name = "SPACE|CATALOG|FILE|DIR")]
    pub what: Option<String>,
    /// Controller that the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    pub controller: String,
    /// Name of the space for a command
    #[arg(short = 's', long, value_name = "SPACE", value_parser = context::parse_space)]
    pub space: Option<String>,
    /// Seconds to observe a mounted space; an interrupt ends it earlier
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub seconds: u64,
    /// Show a recording of `holofs run --trace FILE`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "command"])]
    pub from: Option<PathBuf>,
    /// File to save the recording to
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// File in Chrome's trace format, for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub chrome: Option<PathBuf>,
    /// Show every file
    #[arg(long)]
    pub files: bool,
    /// Command and its arguments
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Records and reports, or reports an earlier recording.
pub fn main(context: &Context, args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let (recording, ended) = match (&args.from, &args.what) {
        (Some(file), _) => (recorded::read(file)?, ExitCode::SUCCESS),
        (None, _) if !args.command.is_empty() => return traced(context, args),
        (None, Some(space)) => (watched(context, space, args)?, ExitCode::SUCCESS),
        (None, None) => {
            anyhow::bail!("Name a mounted space, or give a command: holofs trace CATALOG -- COMMAND")
        }
    };
    show(context, args, &recording)?;
    Ok(ended)
}

/// Runs the command and reports; returns its status.
fn traced(context: &Context, args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let kept = tempfile::NamedTempFile::new().context("Cannot create a temporary file")?;
    let space = SpaceChoice { space: None, named: args.space.clone(), controller: args.controller.clone() };
    let watch = WatchedRunArgs { trace: Some(kept.path().to_owned()), summary: None };
    let run = RunArgs::watched(args.what.clone(), space, watch, args.command.clone());
    let status = run::end(context, &run)?;
    show(context, args, &recorded::read(kept.path())?)?;
    Ok(run::end_as(status))
}

/// Records the requests to a mounted space for some time.
fn watched(context: &Context, space: &str, args: &TraceArgs) -> anyhow::Result<Recording> {
    let name = SpaceName { space: space.to_owned(), controller: args.controller.clone() };
    let space = unmount::find(context, &name)?;
    let state = space.mount_state()?.context("The mount has no record")?;
    let (head, ..) = context.head(&state.catalog_path.to_string_lossy())?;
    let mut recording = recording::of_space(&space.root, &head);
    recording.method = state.method;
    let interrupted = signals::interruption().context("Cannot handle signals")?;
    let fetching = Fetching::start(&space.root)?;
    let (began, time) = (Instant::now(), Duration::from_secs(args.seconds));
    while began.elapsed() < time && !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50).min(time.saturating_sub(began.elapsed())));
    }
    fetching.finish(&mut recording);
    Ok(recording)
}

fn show(context: &Context, args: &TraceArgs, recording: &Recording) -> anyhow::Result<()> {
    let Inspected { index, packages } = Inspected::of_id(context, &recording.catalog)?;
    let run = Run::of(recording, &index, &packages);
    if let Some(file) = &args.output {
        write(file, recording)?;
    }
    if let Some(file) = &args.chrome {
        write(file, &chrome(recording, &index, &packages))?;
    }
    context.report(&run, |run| text(run, args.files))
}

fn text(run: &Run, all: bool) -> Vec<String> {
    let most = if all { usize::MAX } else { SHOWN };
    let ms = |ms: f64| format!("{ms:.1}");
    let origins: Vec<Vec<String>> = run
        .origins
        .iter()
        .map(|(name, part)| {
            vec![(*name).to_owned(), part.reads.to_string(), bytes(part.bytes), ms(part.waited_ms)]
        })
        .collect();
    let packages: Vec<Vec<String>> = run
        .packages
        .iter()
        .take(most)
        .map(|it| vec![it.name.clone(), it.files.to_string(), bytes(it.bytes), ms(it.waited_ms)])
        .collect();
    let files: Vec<Vec<String>> = run
        .files
        .iter()
        .take(most)
        .map(|it| {
            vec![
                ms(it.at_us / 1000.0),
                it.path.clone(),
                bytes(it.bytes),
                ms(it.reads.waited_ms),
                it.origin.name().to_owned(),
            ]
        })
        .collect();
    let mut lines = sums(run);
    for (head, rows) in [
        (["From", "Reads", "Bytes", "Waited ms"], origins),
        (["Package", "Files", "Touched", "Waited ms"], packages),
    ] {
        lines.push(String::new());
        lines.extend(table(&head, &[1, 2, 3], &rows));
    }
    lines.push(String::new());
    lines.extend(table(&["At ms", "File", "Touched", "Waited ms", "From"], &[0, 2, 3], &files));
    lines.extend(
        (run.files.len() > most).then(|| format!("… and {} more: --files shows all", run.files.len() - most)),
    );
    lines
}

/// The first lines: the totals, and what is missing.
fn sums(run: &Run) -> Vec<String> {
    let requests: u64 = run.requests.values().sum();
    let mut lines = vec![
        run.sentence(),
        format!(
            "{} requests in {:.0} ms, which were answered in {:.1} ms; {} were lookups of missing names",
            grouped(requests),
            run.run_ms,
            run.waited_ms,
            grouped(run.missed)
        ),
        "Reads that the kernel's page cache answered are not in these numbers".to_owned(),
    ];
    lines.extend((run.ahead > 0).then(|| format!("{} requests were made ahead of the programs", run.ahead)));
    lines.extend(
        (run.dropped > 0).then(|| format!("{} requests were lost, not fetched in time", run.dropped)),
    );
    lines.extend(run.incomplete.iter().map(|why| format!("The recording is incomplete: {why}")));
    lines
}
