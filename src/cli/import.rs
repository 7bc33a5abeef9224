//! `holofs import`: imports a hololib.zip, from a file or a web server, and checks every name and blob.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::space::archive::{self, Imported, Options};
use crate::sys::fs::shared;
use crate::sys::text::hex;

use crate::remote::download::download;

use super::context::Context;
use super::progress::Progress;
use super::remotes::{access, patience};
use super::table::counted;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files or URLs (https://…)
    #[arg(required = true, value_name = "ZIP|URL")]
    pub files: Vec<PathBuf>,
    /// SHA-256 that the file must have
    #[arg(long, value_name = "DIGEST", value_parser = parse_digest)]
    pub sha256: Option<String>,
    /// Also import blobs in the format that the hololib does not use; then RCC cannot use them
    #[arg(long)]
    pub mixed: bool,
}

/// Imports the files in order.
pub fn main(context: &Context, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.sha256.is_none() || args.files.len() == 1, "--sha256 needs exactly one file");
    // Do the slow part before the lock is taken.
    let sources = args.files.iter().map(|file| Source::of(context, file, args.sha256.as_deref()));
    let sources: Vec<Source> = sources.collect::<anyhow::Result<_>>()?;
    let lock = context.lock_hololib()?;
    let mut reports = Vec::new();
    for source in &sources {
        let progress = Progress::new("Importing", context.is_json());
        let outcome = archive::import(&context.home, source.path(), Options { mixed: args.mixed }, &progress);
        progress.finish();
        reports.push(Imported { zip: source.named().to_owned(), ..outcome? });
    }
    drop(lock);
    context.report(&reports, |reports| reports.iter().map(summary).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

/// A file to import; a downloaded one is deleted afterwards.
enum Source<'a> {
    File(&'a Path),
    Downloaded(&'a Path, NamedTempFile),
}

impl<'a> Source<'a> {
    /// The file itself, or a download; the digest is checked before its content is used.
    fn of(context: &Context, given: &'a Path, digest: Option<&str>) -> anyhow::Result<Source<'a>> {
        let (source, found) = match given.to_str().filter(|text| text.contains("://")) {
            Some(url) => downloaded(context, given, url, digest.is_some())?,
            None if digest.is_none() => return Ok(Source::File(given)),
            None => (Source::File(given), sha256_of(given)?),
        };
        let right = digest.is_none_or(|digest| digest.eq_ignore_ascii_case(&found));
        anyhow::ensure!(right, "{} has the SHA-256 {found}, not the given one", given.display());
        Ok(source)
    }

    fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Downloaded(_, temp) => temp.path(),
        }
    }

    fn named(&self) -> &Path {
        match self {
            Source::File(path) | Source::Downloaded(path, _) => path,
        }
    }
}

/// Downloads a file. Without encryption it could be changed in transit, so then its digest is required.
fn downloaded<'a>(
    context: &Context,
    given: &'a Path,
    url: &str,
    has_digest: bool,
) -> anyhow::Result<(Source<'a>, String)> {
    anyhow::ensure!(!context.offline, "Cannot download {url}: --offline is given");
    let safe = url.starts_with("https://") || (url.starts_with("http://") && has_digest);
    anyhow::ensure!(
        safe,
        "Cannot download {url}: only https:// addresses are supported, and http:// with --sha256"
    );
    let dir = context.home.temp_dir();
    let temp = shared::ensure_dir(&dir, false).and_then(|()| NamedTempFile::new_in(&dir));
    let mut temp = temp.with_context(|| format!("Cannot create a file in {}", dir.display()))?;
    let progress = Progress::new("Downloading", context.is_json());
    let digest = download(url, &access(context, patience(context))?, temp.as_file_mut(), &progress);
    progress.finish();
    Ok((Source::Downloaded(given, temp), hex(&digest?)))
}

fn sha256_of(path: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let read = std::fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    read.with_context(|| format!("Cannot read {}", path.display()))?;
    Ok(hex(&hash.finalize()))
}

fn parse_digest(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    let right = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right { Ok(text.to_owned()) } else { Err("a SHA-256 has 64 hexadecimal digits".to_owned()) }
}

fn summary(report: &Imported) -> String {
    let Imported { blobs_written, blobs_present, blobs_repaired, blobs_ignored, files_ignored, .. } = report;
    let new =
        if report.catalogs.is_empty() { "no new catalog".to_owned() } else { report.catalogs.join(", ") };
    format!(
        "{}: {new}; {} written, {blobs_present} already present, {blobs_repaired} repaired, {blobs_ignored} ignored{}",
        report.zip.display(),
        counted(*blobs_written, "blob"),
        match *files_ignored {
            0 => String::new(),
            files => format!("; {} ignored", counted(files, "other file")),
        }
    )
}
