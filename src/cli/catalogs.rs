//! `holofs catalogs`: lists the catalogs of the hololib.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
#[cfg(unix)]
use clap::Subcommand;

#[cfg(unix)]
use crate::inspect::compare::{Change, Comparison, compare};
use crate::rcc::home::platform;
use crate::rcc::yaml::{self, Yaml};
use crate::space::inventory::{self, CatalogRow, Shown};

use super::context::Context;
#[cfg(unix)]
use super::inspected::Inspected;
use super::table::{bytes, table};
use super::terminal;

/// Arguments of `catalogs`.
#[derive(Debug, Args)]
pub struct CatalogsArgs {
    /// Show the specification of each catalog (with --json)
    #[arg(short, long)]
    pub identity: bool,
    /// Show the files with the N largest sizes (with --json)
    #[arg(short, long = "top", value_name = "N", default_value_t = 0)]
    pub top: usize,
    #[cfg(unix)]
    /// Show more about each catalog: its file, disk usage, packages, and what runs used
    #[arg(long)]
    pub long: bool,
    #[cfg(unix)]
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// Other commands on catalogs.
#[cfg(unix)]
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show the changes between two catalogs: packages, files, bytes
    Diff {
        /// Older catalog
        before: String,
        /// Newer catalog
        after: String,
        /// Show every file
        #[arg(long)]
        files: bool,
    },
}

/// Lists the catalogs. As in RCC, `--json` prints an object keyed by blueprint.
pub fn main(context: &Context, args: &CatalogsArgs) -> anyhow::Result<ExitCode> {
    #[cfg(unix)]
    if let Some(Action::Diff { before, after, files }) = &args.action {
        return diff(context, before, after, *files);
    }
    let shown = Shown { identity: args.identity, top: args.top };
    let shown = Shown { identity: shown.identity || !context.is_json(), ..shown };
    let rows = inventory::catalogs(&context.home, shown)?;
    #[cfg(unix)]
    if args.long {
        return super::long::catalogs(context, &rows).map(|()| ExitCode::SUCCESS);
    }
    if context.is_json() {
        let by_blueprint: BTreeMap<_, _> = rows.iter().map(|row| (row.blueprint.clone(), row)).collect();
        context.report(&by_blueprint, |_| Vec::new())?;
    } else {
        context.report(&rows, |rows| text(rows))?;
        if rows.is_empty() {
            let none = "There is no catalog yet: `holofs import`, `holofs pull` or `holofs build` brings one";
            terminal::tell("holofs", none);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn diff(context: &Context, before: &str, after: &str, files: bool) -> anyhow::Result<ExitCode> {
    let (before, after) = (Inspected::open(context, before)?, Inspected::open(context, after)?);
    let comparison = compare((&before.index, &before.packages), (&after.index, &after.packages));
    context.report(&comparison, |comparison| changes(comparison, files))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn changes(comparison: &Comparison, files: bool) -> Vec<String> {
    let shown = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
    let packages = comparison.packages.iter();
    let rows: Vec<Vec<String>> = packages
        .map(|package| vec![package.name.clone(), shown(&package.before), shown(&package.after)])
        .collect();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.extend(table(&["Package", "Before", "After"], &[], &rows));
    }
    if files {
        lines.extend(comparison.files.iter().map(|file| match file.change {
            Change::Added => format!("A {}", file.path),
            Change::Removed => format!("R {}", file.path),
            Change::Changed => format!("C {}", file.path),
        }));
    }
    let (new, same) = (bytes(comparison.new_bytes), bytes(comparison.same_bytes));
    lines.push(format!("{} files differ; {new} are new, {same} are the same", comparison.files.len()));
    lines
}

fn text(rows: &[CatalogRow]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&["Blueprint", "Python", "Packages", "Files", "Size", "Idle"], &[3, 4, 5], &rows)
}

fn cells(row: &CatalogRow) -> Vec<String> {
    let idle =
        if row.days_since_last_use < 0 { "-".to_owned() } else { format!("{}d", row.days_since_last_use) };
    let gist = Gist::of(row);
    let files = row.files.to_string();
    vec![row.blueprint.clone(), gist.python.clone(), gist.packages(32), files, bytes(row.bytes), idle]
}

/// A summary of the specification of a catalog.
pub struct Gist {
    /// The requested version of Python.
    python: String,
    /// Other packages.
    packages: Vec<String>,
    /// The platform, if it differs from this one.
    platform: Option<String>,
}

impl Gist {
    /// Summarizes the specification in a row.
    pub fn of(row: &CatalogRow) -> Gist {
        let text = row.identity_content.as_deref().unwrap_or_default();
        let mut named = match yaml::parse(text) {
            Ok(document) => dependencies(document.get("dependencies")),
            Err(error) => {
                log::debug!("The specification of {} cannot be read: {error}", row.blueprint);
                Vec::new()
            }
        };
        let is_python = |name: &String| name == "python" || name.starts_with("python=");
        let python = named.iter().position(is_python).map(|at| named.remove(at));
        let python = python.map(|name| name.trim_start_matches("python").trim_start_matches('=').to_owned());
        named.retain(|name| !["pip", "uv"].contains(&name.split('=').next().unwrap_or_default()));
        let platform = (row.platform != platform()).then(|| row.platform.clone());
        Gist { python: python.unwrap_or_else(|| "-".to_owned()), packages: named, platform }
    }

    /// The packages, in about `most` characters.
    fn packages(&self, most: usize) -> String {
        let mut text = self.platform.as_ref().map_or(String::new(), |platform| format!("({platform}) "));
        for (at, name) in self.packages.iter().enumerate() {
            if at > 0 && text.len() + name.len() > most {
                return format!("{text} +{}", self.packages.len() - at);
            }
            text.push_str(if at > 0 { ", " } else { "" });
            text.push_str(name);
        }
        text
    }

    /// The summary in one line.
    pub fn line(&self, most: usize) -> String {
        format!("python {}; {}", self.python, self.packages(most))
    }
}

/// All dependencies, including pip's.
fn dependencies(list: Option<&Yaml>) -> Vec<String> {
    let Some(Yaml::List(list)) = list else { return Vec::new() };
    let each = list.iter().flat_map(|entry| match entry {
        Yaml::Map(groups) => groups.iter().flat_map(|(_, group)| dependencies(Some(group))).collect(),
        other => other.as_written().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gist_names_python_and_the_packages_that_fit() {
        let text =
            "dependencies:\n- python=3.11.7\n- pip=23\n- numpy=2\n- pip:\n  - golden==1.0\n  - flask==3\n";
        let packages = dependencies(yaml::parse(text).unwrap().get("dependencies"));
        assert_eq!(packages, ["python=3.11.7", "pip=23", "numpy=2", "golden==1.0", "flask==3"]);
        let gist = Gist { python: "3.11.7".to_owned(), packages: packages[2..].to_vec(), platform: None };
        assert_eq!(gist.line(60), "python 3.11.7; numpy=2, golden==1.0, flask==3");
        assert_eq!(gist.packages(20), "numpy=2, golden==1.0 +1");
    }
}
