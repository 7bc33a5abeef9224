//! Tests what a pair of directories supports: each method of placing files, tried separately and timed. For `doctor` only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::tier::Tier;
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::btrfs;
use crate::sys::fs::clone;
use crate::sys::fs::disk;
use crate::sys::fs::name::Name;
use crate::sys::fs::stat;

/// Number of files placed to measure a method.
const FILES: u32 = 64;
/// Size of each: most files of an environment are smaller.
const BYTES: usize = 8 << 10;

/// The result for a source and a destination.
#[derive(Debug, Clone, Serialize)]
pub struct Probed {
    /// Where files come from.
    pub source: OnFileSystem,
    /// Where they go.
    pub destination: OnFileSystem,
    /// True if both are on one device.
    pub is_same_device: bool,
    /// All methods, the best first.
    pub ways: Vec<Way>,
}

/// A directory.
#[derive(Debug, Clone, Serialize)]
pub struct OnFileSystem {
    /// Its path.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// Its file system.
    pub file_system: String,
}

/// One method of placing files.
#[derive(Debug, Clone, Serialize)]
pub struct Way {
    /// Its name.
    pub name: &'static str,
    /// Microseconds per file, if it works; for a snapshot, for the whole tree.
    pub micros: Option<f64>,
    /// Why it does not work.
    pub reason: Option<String>,
}

/// Tries every method from `source` to `destination`, which must exist. Everything created is removed again.
pub fn probe(source: &Path, destination: &Path) -> io::Result<Probed> {
    let scratch = |dir: &Path| crate::sys::fs::dir::private_temp(".holofs-probe-", dir);
    let (from, to) = (scratch(source)?, scratch(destination)?);
    let names: Vec<String> = (0..FILES).map(|number| format!("file-{number}")).collect();
    for name in &names {
        File::create_new(from.path().join(name))?.write_all(&[7; BYTES])?;
    }
    let way = |tier: Tier, place: &dyn Fn(&Path, &Path) -> io::Result<()>| {
        let dir = to.path().join(tier.name());
        let placed = fs::create_dir(&dir).and_then(|()| {
            let started = Instant::now();
            names.iter().try_for_each(|name| place(&from.path().join(name), &dir.join(name)))?;
            Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(FILES))
        });
        way_of(tier, placed)
    };
    let ways = vec![
        way_of(Tier::Snapshot, snapshot(from.path(), to.path())),
        way(Tier::Reflink, &|from, to| clone::reflink(&File::open(from)?, &File::create_new(to)?)),
        way(Tier::Hardlink, &|from, to| fs::hard_link(from, to)),
        way(Tier::Copy, &|from, to| File::create_new(to)?.write_all(&fs::read(from)?)),
    ];
    let device = |path: &Path| Some(stat::id_at(&path.canonicalize().ok()?).ok()?.0);
    Ok(Probed {
        source: place(source)?,
        destination: place(destination)?,
        is_same_device: device(source).is_some() && device(source) == device(destination),
        ways,
    })
}

/// What is known of the directory `path` without trying anything in it.
pub fn place(path: &Path) -> io::Result<OnFileSystem> {
    Ok(OnFileSystem { path: path.to_owned(), file_system: disk::file_system(path)? })
}

fn way_of(tier: Tier, outcome: io::Result<f64>) -> Way {
    let reason = outcome.as_ref().err().map(ToString::to_string);
    Way { name: tier.name(), micros: outcome.ok(), reason }
}

/// Creates a subvolume in `from` and a snapshot of it in `to`.
fn snapshot(from: &Path, to: &Path) -> io::Result<f64> {
    let name = Name::new(b"subvolume").map_err(io::Error::other)?;
    let (from, to) = (TreeDir::open(from)?, TreeDir::open(to)?);
    btrfs::create(&from, name)?;
    let started = Instant::now();
    btrfs::snapshot(&from.open_dir(name)?, &to, name)?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_works_or_says_why_not_and_nothing_is_left() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let probed = probe(from.path(), to.path()).unwrap();
        let names: Vec<&str> = probed.ways.iter().map(|way| way.name).collect();
        assert_eq!(names, ["snapshot", "reflink", "hardlink", "copy"]);
        assert!(probed.ways.iter().all(|way| way.micros.is_some() != way.reason.is_some()), "{probed:?}");
        assert!(probed.is_same_device && probed.ways[2].micros.is_some() && probed.ways[3].micros.is_some());
        assert!(!probed.source.file_system.is_empty());
        let left = [from, to].map(|dir| fs::read_dir(dir.path()).unwrap().count());
        assert_eq!(left, [0, 0]);
    }
}
