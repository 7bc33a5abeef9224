//! `holofs verify`: verifies one catalog, its blobs, and that every way to use it gives the same tree.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::rcc::catalog::Catalog;
use crate::session::parity::{self, Parity, Way};
use crate::space::maintain::verify::{self, OneChecked};

use super::context::Context;
use super::exit_code::{BAD_BLOB, PARTIAL};
use super::progress::Progress;
use super::table::{bytes, counted};
use super::target;

/// How many differences of one way are shown; `--json` has all.
const SHOWN: usize = 50;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Catalog: its hash, a unique prefix of it, its file name, a path, or a conda.yaml and the like
    pub catalog: String,
    /// Also compare mount, files and, if installed, rcc's restore: every name, type, mode, size, time, link and byte
    #[arg(long)]
    pub parity: bool,
}

#[derive(Serialize)]
struct VerifyReport {
    /// `None` with --parity, which reads every content anyway, unless that failed.
    blobs: Option<OneChecked>,
    parity: Option<Parity>,
}

/// Verifies and reports.
pub fn main(context: &Context, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let catalog = target::path_of_word(context, &args.catalog)?;
    if !args.parity {
        let blobs = blobs(context, &catalog)?;
        return report(context, VerifyReport { blobs: Some(blobs), parity: None });
    }
    match parity::parity(context, &catalog.to_string_lossy(), rcc().as_deref()) {
        Ok(parity) => report(context, VerifyReport { blobs: None, parity: Some(parity) }),
        // If reading fails, a bad blob is the usual cause, and its name is more helpful.
        Err(error) => match blobs(context, &catalog)? {
            blobs if blobs.problems.is_empty() => Err(error.into()),
            blobs => report(context, VerifyReport { blobs: Some(blobs), parity: None }),
        },
    }
}

/// Reads every blob of the catalog.
fn blobs(context: &Context, catalog: &Path) -> anyhow::Result<OneChecked> {
    let (catalog, _) = Catalog::read(catalog)?;
    let progress = Progress::new("Verifying", context.is_json());
    let checked = verify::check_catalog(&context.home, &catalog, &progress);
    progress.finish();
    Ok(checked?)
}

fn report(context: &Context, report: VerifyReport) -> anyhow::Result<ExitCode> {
    context.report(&report, lines)?;
    let is_good = report.blobs.is_none_or(|blobs| blobs.problems.is_empty());
    let is_equal = report.parity.is_none_or(|parity| parity.is_equal());
    Ok(match (is_good, is_equal) {
        (false, _) => ExitCode::from(BAD_BLOB),
        (true, false) => ExitCode::from(PARTIAL),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// The rcc program: from `HOLOFS_RCC`, or in PATH.
fn rcc() -> Option<PathBuf> {
    let named = std::env::var_os("HOLOFS_RCC").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("rcc")).find(|file| file.is_file()))
}

fn lines(report: &VerifyReport) -> Vec<String> {
    let blobs = report.blobs.iter().flat_map(of_blobs);
    blobs.chain(report.parity.iter().flat_map(of_parity)).collect()
}

fn of_blobs(blobs: &OneChecked) -> Vec<String> {
    let mut lines = blobs.problems.clone();
    let bad = blobs.problems.len();
    let verdict = if bad == 0 { "all blobs are good".to_owned() } else { format!("{bad} are bad") };
    lines.push(format!(
        "{}: {} ({}), {verdict}",
        blobs.blueprint,
        counted(blobs.blobs, "blob"),
        bytes(blobs.bytes)
    ));
    lines
}

fn of_parity(parity: &Parity) -> Vec<String> {
    let (tried, skipped): (Vec<&Way>, Vec<&Way>) = parity.ways.iter().partition(|way| way.skipped.is_none());
    let names: Vec<&str> = tried.iter().map(|way| way.way).collect();
    let mut lines = Vec::new();
    for way in &tried {
        lines.extend(way.differences.iter().take(SHOWN).map(|line| format!("{}: {line}", way.way)));
        if way.differences.len() > SHOWN {
            lines.push(format!(
                "{}: and {}",
                way.way,
                counted(way.differences.len() - SHOWN, "more difference")
            ));
        }
    }
    let verdict = if parity.is_equal() { "equal" } else { "not equal" };
    lines.push(format!("{}: {}, {verdict}", names.join(" and "), counted(parity.entries, "entry")));
    lines.extend(
        skipped.iter().map(|way| {
            format!("Not compared with {}: {}", way.way, way.skipped.as_deref().unwrap_or_default())
        }),
    );
    lines
}
