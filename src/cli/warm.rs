//! `holofs warm`: what a first run would do, done before it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::fuse::Io;
use crate::observe::Observer;
use crate::restore;
use crate::warm::{self, Warmed};

use super::SpaceArgs;
use super::context::Context;
use super::exit_code::BAD_BLOB;
use super::progress::Progress;
use super::run::{self, RunArgs};
use super::rung::Mode;

/// The space in which bytecode is compiled; nothing of it stays but the bytecode.
const SPACE: &str = "holofs warm";

/// Arguments of `warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    /// Also compile all of its Python sources, with its own interpreter
    #[arg(long)]
    pub bytecode: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    catalog: PathBuf,
    #[serde(flatten)]
    warmed: Warmed,
    /// The catalog laid out in the side store.
    pristine: Option<restore::Warmed>,
    /// Why it is not.
    not_laid_out: Option<String>,
    counts: std::collections::BTreeMap<&'static str, u64>,
    /// How compiling went. Some sources are not meant to be compiled: templates, tests of syntax errors.
    bytecode: Option<&'static str>,
}

/// Warms and reports.
pub fn main(context: &Context, args: &WarmArgs) -> anyhow::Result<ExitCode> {
    let (index, _, catalog) = context.index(&args.catalog)?;
    let progress = Arc::new(Progress::new("Warming", context.is_json()));
    let store = context.store(Arc::clone(&progress) as Arc<dyn Observer>)?;
    let warmed = warm::warm(&index, &store, &*progress);
    let pristine = restore::warm(&context.home, &index, &*store, &*progress, None);
    progress.finish();
    let not_laid_out = pristine.as_ref().err().map(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => "another process is at it".to_owned(),
        _ => error.to_string(),
    });
    let counts = progress.counts();
    let bytecode = args.bytecode.then(|| run::main(context, &compile_all(&args.catalog))).transpose()?;
    let bytecode =
        bytecode.map(|code| if code == ExitCode::SUCCESS { "compiled" } else { "compiled, with errors" });
    let damaged = !warmed.errors.is_empty();
    context.report(
        &Report { catalog, warmed, pristine: pristine.ok(), not_laid_out, counts, bytecode },
        summary,
    )?;
    Ok(if damaged { ExitCode::from(BAD_BLOB) } else { ExitCode::SUCCESS })
}

/// The run that compiles every source of the catalog into the shared bytecode.
fn compile_all(catalog: &str) -> RunArgs {
    let script =
        "import compileall, sys; sys.exit(not compileall.compile_dir(sys.prefix, quiet=2, workers=0))";
    RunArgs {
        catalog: catalog.to_owned(),
        space: SpaceArgs { space: SPACE.to_owned(), controller: "holofs".to_owned() },
        // Files that were laid out for this alone would stay.
        mode: Mode::Mount,
        io: Io::NoOpen,
        read_only: true,
        fresh: false,
        isolate: false,
        // What compiling reads is not what a run reads.
        profile: PathBuf::from("off"),
        no_bytecode: false,
        command: ["python3", "-c", script].map(OsString::from).to_vec(),
    }
}

fn summary(report: &Report) -> String {
    let warmed = &report.warmed;
    let mut lines = vec![format!(
        "{}: {} contents, {} bytes, {} of them new, in {:.2} s",
        report.catalog.display(),
        warmed.blobs,
        warmed.bytes,
        report.counts.get("blobs_ingested").copied().unwrap_or_default(),
        warmed.seconds
    )];
    lines.extend(report.pristine.iter().map(|laid| match laid.is_new {
        true => format!("Laid out as a {} in {:.2} s", laid.kind, laid.seconds),
        false => format!("Laid out before, as a {}", laid.kind),
    }));
    lines.extend(report.not_laid_out.iter().map(|error| format!("Not laid out: {error}")));
    lines.extend(warmed.errors.iter().map(|error| format!("{}: {}", error.path, error.message)));
    lines.extend(report.bytecode.map(|how| format!("Bytecode: {how}")));
    lines.join("\n")
}
