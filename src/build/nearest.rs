//! Earlier builds: the inputs and the interpreter of each catalog, and which of them a new build can start from.
//!
//! They are stored as JSON next to the logs, one file per catalog. They only save time: a missing or damaged one is ignored.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::sys::fs::dir;

use super::Inputs;
use super::indexes::lines_of;

/// The maximum length of these files, in bytes.
const MOST: u64 = 8 << 20;

/// One build.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    blueprint: String,
    specification: String,
    interpreter: Interpreter,
}

/// An interpreter, identified by path, size and modification time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Interpreter {
    path: PathBuf,
    size: u64,
    modified: u64,
}

impl Made {
    /// A build of `inputs` with `python`.
    pub fn of(inputs: &Inputs, python: &Path) -> io::Result<Made> {
        let path = fs::canonicalize(python)?;
        let meta = fs::metadata(&path)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let interpreter = Interpreter { path, size: meta.len(), modified };
        Ok(Made { blueprint: inputs.blueprint(), specification: inputs.specification.clone(), interpreter })
    }

    /// Stores it in `builds`.
    pub fn note(&self, builds: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        dir::publish(&builds.join(format!("{}.json", self.blueprint)), &text)
    }

    /// The blueprint of the existing catalog (`is_there`) with the same interpreter whose inputs share the most with these: the highest
    /// ratio of common lines to all lines. `None` if that is below one half.
    pub fn nearest(&self, builds: &Path, is_there: &dyn Fn(&str) -> bool) -> Option<String> {
        let entries = fs::read_dir(builds).ok()?.flatten().map(|entry| entry.path());
        let files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let others = files.filter_map(|path| read(&path));
        // A package of the same version from another index may be another package, and would not be replaced.
        let has_our_indexes = |other: &Made| lines_of(&other.specification) == lines_of(&self.specification);
        let usable = others
            .filter(|other| other.interpreter == self.interpreter && has_our_indexes(other))
            .filter(|other| is_there(&other.blueprint));
        let scored = usable.map(|other| (self.likeness(&other), other.blueprint));
        let (likeness, blueprint) =
            scored.max_by(|(a, one), (b, other)| a.total_cmp(b).then_with(|| one.cmp(other)))?;
        (likeness >= 0.5).then_some(blueprint)
    }

    /// The ratio of common lines to all lines of both.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    fn likeness(&self, other: &Made) -> f64 {
        let lines = |made: &Made| made.specification.lines().map(str::to_owned).collect::<HashSet<_>>();
        let (ours, theirs) = (lines(self), lines(other));
        let all = ours.union(&theirs).count().max(1);
        ours.intersection(&theirs).count() as f64 / all as f64
    }
}

fn read(path: &Path) -> Option<Made> {
    let bytes = crate::sys::fs::stat::read_regular(path, MOST).ok()?;
    serde_json::from_slice(&bytes).inspect_err(|error| log::debug!("{}: {error}", path.display())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(blueprint: &str, specification: &str, size: u64) -> Made {
        let interpreter = Interpreter { path: "/usr/bin/python3".into(), size, modified: 1 };
        Made { blueprint: blueprint.to_owned(), specification: specification.to_owned(), interpreter }
    }

    #[test]
    fn nearest_is_the_likest_catalog_of_the_same_interpreter_that_is_still_there() {
        let root = tempfile::tempdir().unwrap();
        let builds = root.path();
        let is_there = |blueprint: &str| !blueprint.starts_with('4');
        let wanted = made("0000000000000000", "a\nb\nc\nd", 1);
        assert_eq!(wanted.nearest(builds, &is_there), None);
        let note = |other: &Made| other.note(builds).unwrap();
        note(&made("1111111111111111", "a\nx\ny\nz", 1));
        assert_eq!(wanted.nearest(builds, &is_there), None, "too different");
        note(&made("2222222222222222", "a\nb\nx\nc", 1));
        note(&made("3333333333333333", "a\nb\nc\nd", 2));
        note(&made("4444444444444444", "a\nb\nc\nd", 1));
        note(&made("6666666666666666", "index: x 0\na\nb\nc\nd", 1));
        fs::write(builds.join("5555555555555555.json"), "{").unwrap();
        assert_eq!(wanted.nearest(builds, &is_there).as_deref(), Some("2222222222222222"));
    }
}
