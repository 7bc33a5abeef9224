//! `holofs warm`: does the work of a first run in advance.

#[cfg_attr(windows, path = "windows/warm_bytecode.rs")]
mod bytecode;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::session::compile::{Compiled, Compiler};
use crate::space::materialize;
use crate::space::warm::{self, WarmedStore};
use crate::store::observe::Observer;

use super::context::Context;
use super::exit_code::BAD_BLOB;
use super::progress::Progress;
use super::remotes::{self, RemoteUseArgs};
use super::table::{bytes, counted};
use super::target;

/// Arguments of `warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// A conda.yaml, package.yaml, robot.yaml or a directory with one (default: .); or a catalog: hash, prefix, file name, path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    /// Also compile all of its Python sources, with its own interpreter
    #[arg(long)]
    pub bytecode: bool,
    /// Only compile what a run imported, as listed on stdin (internal)
    #[arg(long, hide = true)]
    pub imported: bool,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
}

#[derive(Debug, Serialize)]
struct WarmReport {
    #[serde(serialize_with = "crate::sys::text::path")]
    catalog: PathBuf,
    #[serde(flatten)]
    warmed: WarmedStore,
    /// The catalog laid out as a pristine tree.
    pristine: Option<materialize::WarmedTree>,
    /// Why it is not.
    not_laid_out: Option<String>,
    counts: std::collections::BTreeMap<&'static str, u64>,
    /// The result of compiling. Some sources are not meant to compile: templates, tests of syntax errors.
    bytecode: Option<Compiled>,
}

/// Warms and reports.
pub fn main(context: &Context, args: &WarmArgs) -> anyhow::Result<ExitCode> {
    if args.imported {
        bytecode::go_to_background()?;
    }
    let find = || target::of_word(context, args.catalog.as_deref());
    let named = remotes::or_pulled(context, &args.remote, find)?.catalog;
    let named = remotes::local(context, &named, &args.remote)?;
    let (index, _, catalog) = context.index(&named)?;
    let compiler = Compiler { context, catalog: &catalog, index: &index };
    if args.imported {
        bytecode::imported(&compiler)?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = Arc::new(Progress::new("Warming", context.is_json()));
    #[cfg(unix)]
    let store = {
        use crate::session::supply::{self, Supplied};
        let Supplied { store, line } =
            context.store_of(&catalog, None, Arc::clone(&progress) as Arc<dyn Observer>)?;
        supply::everything(line.as_ref(), &index, &store);
        store
    };
    #[cfg(windows)]
    let store = context.store_for_now(Arc::clone(&progress) as Arc<dyn Observer>)?;
    let warmed = warm::warm(&index, &store, &*progress);
    let pristine = materialize::warm(&context.home, &index, &store, &*progress, None);
    progress.finish();
    let not_laid_out = pristine.as_ref().err().map(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => "another process is doing it".to_owned(),
        _ => error.to_string(),
    });
    let counts = progress.counts();
    let bytecode = args.bytecode.then(|| bytecode::everything(&compiler)).transpose()?;
    let damaged = !warmed.errors.is_empty();
    context.report(
        &WarmReport {
            catalog: catalog.clone(),
            warmed,
            pristine: pristine.ok(),
            not_laid_out,
            counts,
            bytecode,
        },
        summary,
    )?;
    Ok(if damaged { ExitCode::from(BAD_BLOB) } else { ExitCode::SUCCESS })
}

fn summary(report: &WarmReport) -> Vec<String> {
    let warmed = &report.warmed;
    let mut lines = vec![format!(
        "{}: {} ({}), {} of them new, in {:.2} s",
        report.catalog.display(),
        counted(warmed.blobs, "blob"),
        bytes(warmed.bytes),
        report.counts.get("blobs_ingested").copied().unwrap_or_default(),
        warmed.seconds
    )];
    lines.extend(report.pristine.iter().map(|laid| match laid.is_new {
        true => format!("Laid out as a {} in {:.2} s", laid.kind, laid.seconds),
        false => format!("Already laid out as a {}", laid.kind),
    }));
    lines.extend(report.not_laid_out.iter().map(|error| format!("Not laid out: {error}")));
    lines.extend(warmed.errors.iter().map(|error| format!("{}: {}", error.path, error.message)));
    lines.extend(report.bytecode.iter().map(|made| {
        let Compiled { compiled, left_out, shared } = made;
        let compiled = counted(*compiled, "source");
        format!("Bytecode: {compiled} compiled, {left_out} cannot be; {shared} shared by all spaces")
    }));
    lines
}
