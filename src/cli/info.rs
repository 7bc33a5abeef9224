//! `holofs info`: shows this program, this machine, and all directories: the first thing to check when something is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::inspect::usage::{self, Taken};
use crate::rcc::home::platform;

use super::config;
use super::context::Context;
use super::table::{bytes, table};

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {}

#[derive(Debug, Serialize)]
struct InfoReport {
    version: &'static str,
    platform: String,
    kernel: String,
    /// Whether this user can open `/dev/fuse`.
    fuse: String,
    home: PathBuf,
    /// Why this home is used.
    home_reason: String,
    shared: bool,
    compressed: bool,
    catalogs: usize,
    places: BTreeMap<&'static str, PathBuf>,
    disk: BTreeMap<&'static str, Taken>,
}

/// Inspects, and changes nothing.
pub fn main(context: &Context, _args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let home = &context.home;
    let used = usage::usage(home)?;
    let mut places = BTreeMap::from([
        ("hololib", home.hololib().to_owned()),
        ("holotree", home.holotree().to_owned()),
        ("holofs", home.holofs().path().to_owned()),
    ]);
    places.extend(config::current().file().map(|path| ("configuration", path.to_owned())));
    let from_file = config::current().gives_home();
    let report = InfoReport {
        version: env!("CARGO_PKG_VERSION"),
        platform: platform(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        fuse: fuse(),
        home: home.root().to_owned(),
        home_reason: if from_file {
            "set in the configuration".to_owned()
        } else {
            home.choice().reason(home.product())
        },
        shared: home.is_shared(),
        compressed: home.is_compressed(),
        catalogs: home.catalogs()?.len(),
        places,
        disk: used
            .parts
            .into_iter()
            .filter(|(_, taken)| taken.entries > 0)
            .chain([("total", used.total)])
            .collect(),
    };
    context.report(&report, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn fuse() -> String {
    let device = Path::new("/dev/fuse");
    match std::fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => "/dev/fuse can be opened".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no /dev/fuse".to_owned(),
        Err(error) => format!("/dev/fuse cannot be opened: {error}"),
    }
}

fn lines(report: &InfoReport) -> Vec<String> {
    let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
    let mut rows = vec![
        ("version".to_owned(), format!("{} ({})", report.version, report.platform)),
        ("kernel".to_owned(), report.kernel.clone()),
        ("fuse".to_owned(), report.fuse.clone()),
        ("home".to_owned(), format!("{}, since {}", report.home.display(), report.home_reason)),
        ("shared".to_owned(), yes(report.shared)),
        ("compressed".to_owned(), yes(report.compressed)),
        ("catalogs".to_owned(), report.catalogs.to_string()),
    ];
    rows.extend(report.places.iter().map(|(name, path)| ((*name).to_owned(), path.display().to_string())));
    let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<14} {value}")).collect();
    let disk: Vec<Vec<String>> = report
        .disk
        .iter()
        .map(|(name, taken)| vec![(*name).to_owned(), taken.entries.to_string(), bytes(taken.bytes)])
        .collect();
    lines.push(String::new());
    lines.extend(table(&["Disk", "Entries", "Size"], &[1, 2], &disk));
    lines.push("`holofs doctor` tries the ways to mount; `holofs config` shows the settings".to_owned());
    lines
}
