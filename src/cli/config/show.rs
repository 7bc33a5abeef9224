//! `holofs config`: every value with its source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Config, KEYS, Key, current, path};
use crate::cli::context::Context;
use crate::cli::table::table;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// Other subcommands.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the path of the file, whether or not it exists
    Path,
}

#[derive(Debug, Serialize)]
struct ConfigReport {
    file: Option<PathBuf>,
    values: Vec<Shown>,
    remotes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    key: &'static str,
    value: String,
    source: String,
}

/// Shows every value and its source.
pub fn main(context: &Context, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = current();
    if let Some(Action::Path) = args.action {
        let path = path().context("No configuration directory: set HOLOFS_CONFIG")?;
        context.report(&path, |path| path.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let values = KEYS.iter().map(|key| shown(context, config, key)).collect();
    let report = ConfigReport { file: config.path.clone(), values, remotes: config.remotes.clone() };
    context.report(&report, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(context: &Context, config: &Config, key: &Key) -> Shown {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (value, source) = match (set(key.variable), config.variable(key.variable)) {
        (Some(value), _) => (value, format!("variable {}", key.variable)),
        (None, Some(value)) => (value, "file".to_owned()),
        (None, None) => (key.usual.to_owned(), "default".to_owned()),
    };
    match key.name {
        "home" => {
            let home = &context.home;
            let product = home.product().variable();
            let source = if source == "file" { source } else { home.choice().reason(home.product()) };
            log::debug!("{product} is {}", home.root().display());
            Shown { key: key.name, value: home.root().display().to_string(), source }
        }
        "state" => Shown { key: key.name, value: context.home.holofs().path().display().to_string(), source },
        name => Shown { key: name, value, source },
    }
}

fn lines(report: &ConfigReport) -> Vec<String> {
    let row = |shown: &Shown| vec![shown.key.to_owned(), shown.value.clone(), shown.source.clone()];
    let mut rows: Vec<Vec<String>> = report.values.iter().map(row).collect();
    let remotes = report.remotes.iter();
    rows.extend(remotes.map(|(name, to)| vec![format!("remotes.{name}"), to.clone(), "file".to_owned()]));
    let file = report.file.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    let mut lines = vec![format!("File: {file}")];
    lines.extend(table(&["Key", "Value", "From"], &[], &rows));
    lines
}
