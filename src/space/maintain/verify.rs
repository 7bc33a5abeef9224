//! Verifies everything: every blob and raw entry is read in full, every catalog is parsed, and all its blobs must exist.
//!
//! RCC's `check` deletes what it considers wrong, including good catalogs. This one reports; when it repairs, it moves bad blobs aside
//! (they may be the last copy of something), creates them again if the raw store still has the content, and removes bad raw entries,
//! which can always be created again. It never touches a catalog.
//!
//! A repair needs RCC's lock of the hololib; a check alone needs none.

mod heal;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;

use crate::error::{Class, Failure, chain};
use crate::rcc::catalog::Catalog;
use crate::rcc::digest::Digest;
use crate::rcc::home::{Home, HomeError};
use crate::store::observe::Observer;
use crate::store::{Library, RawEntry, RawStore, StoreError};

/// Why the check could not run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The catalogs cannot be listed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The library cannot be opened, or a blob cannot be moved or created.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A directory cannot be read.
    #[error("Walking {} failed", path.display())]
    Walk {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure for VerifyError {
    fn class(&self) -> Option<Class> {
        match self {
            VerifyError::Home(error) => error.class(),
            VerifyError::Store(error) => error.class(),
            VerifyError::Walk { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            VerifyError::Home(error) => error.hint(),
            VerifyError::Store(error) => error.hint(),
            VerifyError::Walk { .. } => None,
        }
    }
}

/// The result for everything.
#[derive(Debug, Default, serde::Serialize)]
pub struct Checked {
    /// Every catalog.
    pub catalogs: Vec<CatalogVerdict>,
    /// Blobs read.
    pub blobs: u64,
    /// Their size on disk.
    pub blob_bytes: u64,
    /// Blobs that no catalog refers to; they are harmless.
    pub unreferenced: u64,
    /// Blobs that are missing or wrong.
    pub bad_blobs: Vec<BadBlob>,
    /// Files below the library that are not blobs; RCC's check would delete them.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub strays: Vec<PathBuf>,
    /// Raw store entries read.
    pub raw_entries: u64,
    /// Their size.
    pub raw_bytes: u64,
    /// Entries that were wrong.
    pub bad_raw: Vec<BadRaw>,
    /// The duration.
    pub seconds: f64,
}

/// The result for one catalog.
#[derive(Debug, serde::Serialize)]
pub struct CatalogVerdict {
    /// Its file name.
    pub catalog: String,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// Its blobs that are missing.
    pub missing: u64,
    /// Its blobs that are wrong.
    pub damaged: u64,
}

/// A blob that is missing or wrong.
#[derive(Debug, serde::Serialize)]
pub struct BadBlob {
    /// Its name.
    pub digest: String,
    /// The problem.
    pub problem: String,
    /// The catalogs that refer to it.
    pub catalogs: Vec<String>,
    /// Where it was moved.
    #[serde(serialize_with = "crate::sys::text::maybe_path")]
    pub moved_to: Option<PathBuf>,
    /// It was created again from the raw store.
    pub healed: bool,
}

/// A raw store entry that is wrong.
#[derive(Debug, serde::Serialize)]
pub struct BadRaw {
    /// Its name.
    pub entry: String,
    /// It was removed.
    pub removed: bool,
}

impl Checked {
    /// True if anything was wrong, whether or not it was repaired.
    pub fn is_damaged(&self) -> bool {
        let catalogs = self.catalogs.iter().any(|verdict| verdict.problem.is_some());
        catalogs || !self.bad_blobs.is_empty() || !self.bad_raw.is_empty()
    }
}

/// What catalogs require of one blob.
#[derive(Debug, Default)]
struct Demand {
    size: u64,
    /// Positions in the list of catalogs.
    catalogs: Vec<usize>,
}

/// Checks everything in `home`; with `repair`, moves bad blobs aside and heals what can be healed.
pub fn check(home: &Home, repair: bool, observer: &dyn Observer) -> Result<Checked, VerifyError> {
    let started = Instant::now();
    let mut report = Checked::default();
    let demands = catalogs(home, &mut report)?;
    let raw = raw_store(home)?;
    let walk = |source| VerifyError::Walk { path: home.raw_dir().into(), source };
    let entries = raw.as_ref().map(RawStore::entries).transpose().map_err(walk)?.unwrap_or_default();
    report.raw_entries = entries.len() as u64;
    report.raw_bytes = entries.iter().map(|entry| entry.size).sum();
    let bad = blobs(home, &demands, &mut report, observer)?;
    let good_raw = match &raw {
        Some(raw) => raw_entries(raw, &entries, repair, &mut report, observer)?,
        None => HashMap::new(),
    };
    let healer = heal::Healer::new(home, raw.as_ref(), good_raw);
    for (digest, error) in bad {
        let catalogs = blame(&error, demands.get(&digest), &mut report.catalogs);
        let repaired = if repair { healer.repair(&digest, &error)? } else { heal::Repaired::default() };
        report.bad_blobs.push(BadBlob {
            digest: digest.to_string(),
            problem: chain(&error).to_string(),
            catalogs,
            moved_to: repaired.moved_to,
            healed: repaired.healed,
        });
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// The result for one catalog's blobs.
#[derive(Debug, serde::Serialize)]
pub struct OneChecked {
    /// The blueprint.
    pub blueprint: String,
    /// The number of its blobs; all were read.
    pub blobs: usize,
    /// Total size of their contents.
    pub bytes: u64,
    /// The problems, each with the blob's name.
    pub problems: Vec<String>,
}

/// Reads every blob of `catalog`.
pub fn check_catalog(
    home: &Home,
    catalog: &Catalog,
    observer: &dyn Observer,
) -> Result<OneChecked, VerifyError> {
    let wanted: BTreeMap<Digest, u64> = catalog.digests().map(|(digest, size)| (*digest, size)).collect();
    let library = Library::open(&home.library())?;
    let bytes = wanted.values().sum();
    observer.expect(bytes);
    let verdicts = wanted.par_iter().filter_map(|(digest, &size)| {
        let verdict = library.verify_any(digest, Some(size));
        observer.advance(size);
        verdict.err().map(|error| chain(&error).to_string())
    });
    let mut problems: Vec<String> = verdicts.collect();
    problems.sort();
    Ok(OneChecked { blueprint: catalog.header.blueprint.clone(), blobs: wanted.len(), bytes, problems })
}

/// Parses every catalog, and records what each requires.
fn catalogs(home: &Home, report: &mut Checked) -> Result<BTreeMap<Digest, Demand>, VerifyError> {
    let mut demands: BTreeMap<Digest, Demand> = BTreeMap::new();
    for (at, path) in home.catalogs()?.into_iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = Catalog::read(&path);
        let problem = read.as_ref().err().map(ToString::to_string);
        report.catalogs.push(CatalogVerdict { catalog: name, problem, missing: 0, damaged: 0 });
        for (digest, size) in read.iter().flat_map(|(catalog, _)| catalog.digests()) {
            let demand = demands.entry(*digest).or_default();
            demand.size = size;
            if demand.catalogs.last() != Some(&at) {
                demand.catalogs.push(at);
            }
        }
    }
    Ok(demands)
}

/// Reads every blob that exists or should exist; returns those that are missing or wrong.
fn blobs(
    home: &Home,
    demands: &BTreeMap<Digest, Demand>,
    report: &mut Checked,
    observer: &dyn Observer,
) -> Result<Vec<(Digest, StoreError)>, VerifyError> {
    if demands.is_empty() && !home.library().is_dir() {
        return Ok(Vec::new());
    }
    let library = Library::open(&home.library())?;
    let sweep = library.sweep().map_err(|source| VerifyError::Walk { path: home.library(), source })?;
    report.blobs = sweep.blobs.len() as u64;
    report.blob_bytes = sweep.blobs.iter().map(|(_, stored)| stored).sum();
    report.strays = sweep.strays;
    let mut all: BTreeMap<Digest, (Option<u64>, u64)> =
        sweep.blobs.into_iter().map(|(digest, stored)| (digest, (None, stored))).collect();
    report.unreferenced = all.keys().filter(|digest| !demands.contains_key(digest)).count() as u64;
    for (digest, demand) in demands {
        all.entry(*digest).or_default().0 = Some(demand.size);
    }
    observer.expect(report.blob_bytes + report.raw_bytes);
    let verdicts = all.into_par_iter().filter_map(|(digest, (size, stored))| {
        let verdict = library.verify_any(&digest, size);
        observer.advance(stored);
        verdict.err().map(|error| (digest, error))
    });
    let mut bad: Vec<(Digest, StoreError)> = verdicts.collect();
    bad.sort_by_key(|(digest, _)| *digest);
    Ok(bad)
}

fn raw_store(home: &Home) -> Result<Option<RawStore>, VerifyError> {
    let place = home.raw_dir();
    let opened = match place.open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|_| RawStore::open(&place, u64::MAX)),
    };
    opened.map(Some).map_err(|source| VerifyError::Walk { path: place.into(), source })
}

/// Reads every entry of the raw store; returns the valid ones.
fn raw_entries(
    raw: &RawStore,
    entries: &[RawEntry],
    repair: bool,
    report: &mut Checked,
    observer: &dyn Observer,
) -> Result<HashMap<Digest, RawEntry>, VerifyError> {
    let walk = |source| VerifyError::Walk { path: raw.path().to_owned(), source };
    let read = |entry: &RawEntry| {
        let right = raw.verified(entry).map(|file| file.is_some());
        observer.advance(entry.size);
        right
    };
    let verdicts: Vec<bool> = entries.par_iter().map(read).collect::<io::Result<_>>().map_err(walk)?;
    let mut good = HashMap::new();
    for (entry, right) in entries.iter().zip(verdicts) {
        if right {
            good.insert(entry.key.digest, *entry);
        } else {
            let removed = repair && raw.remove(&entry.key).map_err(walk)?;
            report.bad_raw.push(BadRaw { entry: entry.key.name(), removed });
        }
    }
    Ok(good)
}

/// Records a bad blob with its catalogs.
fn blame(error: &StoreError, demand: Option<&Demand>, catalogs: &mut [CatalogVerdict]) -> Vec<String> {
    let mut named = Vec::new();
    for &at in demand.map(|demand| demand.catalogs.as_slice()).unwrap_or_default() {
        let Some(verdict) = catalogs.get_mut(at) else { continue };
        match error {
            StoreError::Missing { .. } => verdict.missing += 1,
            _ => verdict.damaged += 1,
        }
        named.push(verdict.catalog.clone());
    }
    named
}
