//! The summary of a run in Markdown, for the page of a CI job: how the space appeared, what the run used, what was saved, and the one
//! setting that would improve it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::inspect::run::{Run, grouped};
use crate::inspect::unpacking::{self, Unpacking};
use crate::session::recording::Recording;
use crate::store::observe::Tally;
use crate::store::observe::origin::Origin;
use crate::sys::text;

use super::context::Context;
use super::inspected::Inspected;
use super::table::bytes;
use super::terminal;

/// The variable with GitHub's file.
const GITHUB: &str = "GITHUB_STEP_SUMMARY";
/// The default file elsewhere.
const FILE: &str = "holofs-summary.md";

/// Appends the summary to `file`; `auto` is the default file.
pub fn write(context: &Context, file: &Path, recording: &Recording) -> anyhow::Result<()> {
    let usual =
        || std::env::var_os(GITHUB).filter(|it| !it.is_empty()).map_or_else(|| FILE.into(), PathBuf::from);
    let file = if file == Path::new("auto") { usual() } else { file.to_owned() };
    let Inspected { index, packages } = Inspected::of_id(context, &recording.catalog)?;
    let run = Run::of(recording, &index, &packages);
    let store = context.store_for_now(Arc::new(Tally::new()))?;
    let kept = context.home.holofs().below("unpacking");
    let saved = unpacking::unpacking(&kept, &context.process.temp_dir, &index, &store);
    let saved = saved.unwrap_or_else(|error| {
        terminal::warn(&format!("Unpacking is not measured: {error}"));
        None
    });
    let mut out = std::fs::OpenOptions::new().create(true).append(true).open(&file);
    let written = out.as_mut().map(|out| out.write_all(markdown(&run, saved).as_bytes()));
    match written {
        Ok(written) => written.with_context(|| format!("Cannot write {}", file.display())),
        Err(error) => anyhow::bail!("Cannot open {}: {error}", file.display()),
    }
}

fn markdown(run: &Run, unpacking: Option<Unpacking>) -> String {
    let requests: u64 = run.requests.values().sum();
    let rows = [
        ("Space", run.method.clone()),
        ("Ready after", format!("{:.0} ms", run.ready_ms)),
        ("Command", format!("{:.1} s", run.run_ms / 1000.0)),
        ("Touched", run.sentence()),
        (
            "Read through HoloFS",
            format!(
                "{} in {} requests, answered in {:.0} ms",
                bytes(run.read_bytes),
                grouped(requests),
                run.waited_ms
            ),
        ),
        ("Saved against unpacking", saved(run, unpacking)),
    ];
    let mut lines = vec![format!("### HoloFS: {}", code(&run.command.join(" "))), String::new()];
    lines.extend(["| | |".to_owned(), "|---|---|".to_owned()]);
    lines.extend(rows.iter().map(|(name, value)| format!("| {name} | {} |", cell(value))));
    lines.extend(run.incomplete.iter().map(|why| format!("| Not everything | {} |", cell(why))));
    lines.extend([String::new(), format!("**What would help most:** {}", advice(run)), String::new()]);
    lines.join("\n") + "\n"
}

/// How much longer unpacking would have taken, and the source of that number.
fn saved(run: &Run, unpacking: Option<Unpacking>) -> String {
    let Some(unpacking) = unpacking else {
        return "unknown: content of the catalog is not on this machine".to_owned();
    };
    let net = unpacking.seconds - run.ready_ms / 1000.0;
    let how = match unpacking.is_estimate() {
        true => format!(
            "estimated: {} of {} files were unpacked once on this machine",
            grouped(unpacking.files),
            grouped(unpacking.all_files)
        ),
        false => format!("measured once on this machine, all {} files", grouped(unpacking.all_files)),
    };
    match net > 0.0 {
        true => format!("{net:.1} s (unpacking takes {:.1} s; {how})", unpacking.seconds),
        false => format!("nothing (unpacking takes {:.1} s; {how})", unpacking.seconds),
    }
}

/// The most important setting for this run.
fn advice(run: &Run) -> String {
    let waited = |origin: Origin| run.origins.get(origin.name()).map_or(0.0, |part| part.waited_ms);
    let (remote, blob) = (waited(Origin::Remote), waited(Origin::Blob) + waited(Origin::Memory));
    let is_much = |ms: f64| ms > 50.0 && ms > run.run_ms / 20.0;
    if run.method == "materialize" || run.method == "files" {
        return "let the job mount: `holofs doctor` shows what is missing".to_owned();
    }
    if is_much(remote) {
        return format!(
            "`holofs pull` before the job: the run waited {remote:.0} ms for content from elsewhere"
        );
    }
    if is_much(blob) {
        return format!(
            "keep `holofs/raw` between jobs, or `holofs warm` in the image: the run waited {blob:.0} ms while blobs were inflated"
        );
    }
    if run.ahead == 0 && run.waited_ms > run.run_ms / 20.0 {
        return format!(
            "keep `holofs/profiles` between jobs, so that files are read ahead: the run waited {:.0} ms",
            run.waited_ms
        );
    }
    "nothing: this run did not wait for HoloFS".to_owned()
}

/// A value as plain text in a table cell.
fn cell(value: &str) -> String {
    text::line(value).replace('|', "\\|").replace('<', "&lt;")
}

/// A value as a code span, whatever it contains.
fn code(value: &str) -> String {
    format!("`{}`", text::line(value).replace('`', "'"))
}
