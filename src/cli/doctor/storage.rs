//! The storage part of `holofs doctor`: how files get from the hololib and the raw store into spaces, what each way costs, and
//! whether shared files were changed through a space. Changed files are recreated.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::terminal;
use crate::space::inventory;
use crate::space::materialize::health::{self, Changed, Depth, Health};
use crate::space::materialize::probe::{OnFileSystem, Probed, Way, place, probe};
use crate::store::observe::Tally;

/// A result, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<T> {
    Found(T),
    Not { error: String },
}

impl<T> From<Result<T, String>> for Outcome<T> {
    fn from(outcome: Result<T, String>) -> Outcome<T> {
        outcome.map_or_else(|error| Outcome::Not { error }, Outcome::Found)
    }
}

/// All results.
#[derive(Debug, Serialize)]
pub struct Storage {
    /// The hololib; it is not written to.
    hololib: Outcome<OnFileSystem>,
    /// From the raw store to each directory with spaces.
    pairs: Vec<Pair>,
    /// The raw store and the pristine trees.
    health: Outcome<Health>,
}

/// The raw store, and one directory with spaces.
#[derive(Debug, Serialize)]
struct Pair {
    #[serde(serialize_with = "crate::sys::text::path")]
    base: PathBuf,
    #[serde(flatten)]
    found: Outcome<Probed>,
}

/// Tests and inspects.
pub fn examine(context: &Context) -> Storage {
    let home = &context.home;
    let mut bases = inventory::bases(home).unwrap_or_else(|error| {
        terminal::warn(&error.to_string());
        Default::default()
    });
    bases.insert(home.holotree().to_owned());
    let ours = super::check_owner(&home.raw_dir()).map_err(|error| error.to_string());
    let tried = |base: &Path| ours.clone().and_then(|()| try_pair(&home.raw_dir(), base));
    let pair = |base: PathBuf| Pair { found: tried(&base).into(), base };
    Storage {
        hololib: there(home.hololib()).and_then(|dir| place(dir).map_err(|error| error.to_string())).into(),
        pairs: bases.into_iter().map(pair).collect(),
        health: look(context).map_err(|error| format!("{error:#}")).into(),
    }
}

fn try_pair(raw: &Path, base: &Path) -> Result<Probed, String> {
    probe(there(raw)?, there(base)?).map_err(|error| format!("nothing can be tested: {error}"))
}

/// `dir`, or the directory in which it would be created.
fn there(dir: &Path) -> Result<&Path, String> {
    dir.ancestors().find(|above| above.is_dir()).ok_or_else(|| format!("{} does not exist", dir.display()))
}

fn look(context: &Context) -> anyhow::Result<Health> {
    if !context.home.raw_dir().is_dir() {
        return Ok(Health::default());
    }
    let observer = std::sync::Arc::new(Tally::new());
    let store = context.store(observer.clone())?;
    let depth = Depth { heals: true, reads: context.paranoid };
    Ok(health::check(&context.home, &store, depth, &*observer)?)
}

/// The lines for people.
pub fn lines(storage: &Storage) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.push(match &storage.hololib {
        Outcome::Found(place) => format!("hololib {}: {}", place.path.display(), place.file_system),
        Outcome::Not { error } => format!("hololib: {error}"),
    });
    for Pair { base, found } in &storage.pairs {
        match found {
            Outcome::Found(probed) => {
                let (from, to) = (&probed.source, &probed.destination);
                let device = if probed.is_same_device { "the same device" } else { "another device" };
                lines.push(format!("raw store {}: {}", from.path.display(), from.file_system));
                lines.push(format!("spaces in {}: {}, {device}", base.display(), to.file_system));
                lines.extend(probed.ways.iter().map(way));
            }
            Outcome::Not { error } => lines.push(format!("spaces in {}: {error}", base.display())),
        }
    }
    match &storage.health {
        Outcome::Found(health) => {
            let (files, catalogs) = (health.files, health.catalogs);
            lines.push(format!(
                "raw store: {files} files of {catalogs} catalogs, {} changed",
                health.changed.len()
            ));
            lines.extend(health.changed.iter().map(changed));
        }
        Outcome::Not { error } => lines.push(format!("raw store: not checked: {error}")),
    }
    lines
}

fn way(way: &Way) -> String {
    match (way.micros, &way.reason) {
        (Some(micros), _) if way.name == "snapshot" => {
            format!("  {:<10} yes  {micros:>7.1} us for a whole tree", way.name)
        }
        (Some(micros), _) => format!("  {:<10} yes  {micros:>7.1} us for a file", way.name),
        (None, reason) => format!("  {:<10} no   {}", way.name, reason.as_deref().unwrap_or_default()),
    }
}

fn changed(changed: &Changed) -> String {
    let Changed { path, spaces, catalog, is_healed } = changed;
    let spaces: Vec<String> = spaces.iter().map(|space| space.display().to_string()).collect();
    let through = if spaces.is_empty() { "no space that is there".to_owned() } else { spaces.join(", ") };
    let done = if *is_healed { "created again" } else { "cannot be created again" };
    format!("  {path} of catalog {}: changed through {through}; {done}", &catalog[..16.min(catalog.len())])
}
