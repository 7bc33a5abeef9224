//! `holofs export`: writes catalogs and their blobs into a hololib.zip.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::space::archive;

use super::context::Context;
use super::progress::Progress;
use super::settled::settled;
use super::table::{bytes, counted};
use super::target;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Catalogs: hashes, unique prefixes, file names, or a conda.yaml and the like; without any, list their names
    pub catalogs: Vec<String>,
    /// File to write
    #[arg(short, long, default_value = "hololib.zip", value_name = "FILE")]
    pub zipfile: PathBuf,
}

/// Exports, or lists the catalogs.
pub fn main(context: &Context, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.catalogs.is_empty() {
        let paths = context.home.catalogs()?;
        let names = paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        context.report(&names.collect::<Vec<_>>(), |names| {
            names.iter().map(ToString::to_string).collect::<Vec<String>>()
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = args.catalogs.iter().map(|what| target::path_of_word(context, what));
    export(context, &found.collect::<anyhow::Result<Vec<_>>>()?, &args.zipfile)
}

/// Exports the catalogs at `paths`.
pub fn export(context: &Context, paths: &[PathBuf], zipfile: &Path) -> anyhow::Result<ExitCode> {
    let export = || {
        let progress = Progress::new("Exporting", context.is_json());
        let outcome = archive::export(&context.home, paths, zipfile, &progress);
        progress.finish();
        Ok(outcome?)
    };
    context.report(&settled(context, export, |_| false)?, |report| {
        let (count, size) = (counted(report.blobs, "blob"), bytes(report.bytes));
        format!("{}: {} with {count}, {size}", report.zip.display(), report.catalogs.join(", "))
    })?;
    Ok(ExitCode::SUCCESS)
}
