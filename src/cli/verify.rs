//! `holofs verify`: one catalog, its blobs, and that every way to use it gives the same tree.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::rcc::catalog::Catalog;
use crate::session::parity::{self, Parity, Way};
use crate::space::maintain::verify::{self, OneChecked};

use super::context::Context;
use super::exit_code::{BAD_BLOB, PARTIAL};
use super::progress::Progress;
use super::table::bytes;

/// Differences of one way that are shown; `--json` has all.
const SHOWN: usize = 50;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    /// Also mount it, lay it out as files, and restore it with rcc if that is installed; compare every name, type, mode, size, time, link and byte
    #[arg(long)]
    pub parity: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    blobs: OneChecked,
    parity: Option<Parity>,
}

/// Verifies and reports.
pub fn main(context: &Context, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let path = context.home.find_catalog(&args.catalog)?;
    let (catalog, _) = Catalog::read(&path)?;
    let progress = Progress::new("Verifying", context.is_json());
    let blobs = verify::check_catalog(&context.home, &catalog, &progress);
    progress.finish();
    let blobs = blobs?;
    let is_good = blobs.problems.is_empty();
    let wants_parity = args.parity && is_good;
    let parity =
        wants_parity.then(|| parity::parity(context, &args.catalog, rcc().as_deref())).transpose()?;
    let is_equal = parity.as_ref().is_none_or(Parity::is_equal);
    context.report(&Report { blobs, parity }, lines)?;
    Ok(match (is_good, is_equal) {
        (false, _) => ExitCode::from(BAD_BLOB),
        (true, false) => ExitCode::from(PARTIAL),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// rcc: as `HOLOFS_RCC` names it, or in PATH.
fn rcc() -> Option<PathBuf> {
    let named = std::env::var_os("HOLOFS_RCC").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("rcc")).find(|file| file.is_file()))
}

fn lines(report: &Report) -> Vec<String> {
    let Report { blobs, parity } = report;
    let mut lines = blobs.problems.clone();
    let verdict = if blobs.problems.is_empty() {
        "all blobs are good".to_owned()
    } else {
        format!("{} are bad", blobs.problems.len())
    };
    lines.push(format!("{}: {} blobs ({}), {verdict}", blobs.blueprint, blobs.blobs, bytes(blobs.bytes)));
    lines.extend(parity.iter().flat_map(of_parity));
    lines
}

fn of_parity(parity: &Parity) -> Vec<String> {
    let (tried, skipped): (Vec<&Way>, Vec<&Way>) = parity.ways.iter().partition(|way| way.skipped.is_none());
    let names: Vec<&str> = tried.iter().map(|way| way.way).collect();
    let mut lines = Vec::new();
    for way in &tried {
        lines.extend(way.differences.iter().take(SHOWN).map(|line| format!("{}: {line}", way.way)));
        if way.differences.len() > SHOWN {
            lines.push(format!("{}: and {} more differences", way.way, way.differences.len() - SHOWN));
        }
    }
    let verdict = if parity.is_equal() { "equal" } else { "not equal" };
    lines.push(format!("{}: {} entries, {}", names.join(" and "), parity.entries, verdict));
    lines.extend(
        skipped.iter().map(|way| {
            format!("Not compared with {}: {}", way.way, way.skipped.as_deref().unwrap_or_default())
        }),
    );
    lines
}
