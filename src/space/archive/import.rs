//! Reads a `hololib.zip`: names, then catalogs, then blobs; only then the catalogs are published.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use zip::ZipArchive;
use zip::result::ZipError;

use super::ArchiveError;
use super::names::{self, Entry};
use crate::rcc::catalog::{Catalog, CatalogError, CatalogId, Flaw, MAX_ENTRIES, MAX_STORED};
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store::observe::{Counter, Observer};
use crate::store::{self, Library, Published, Sharing, StoreError};
use crate::sys;
use crate::sys::fs::offset::FileExt;

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Import blobs of the other kind than the hololib's: HoloFS can use both at once, RCC cannot.
    pub mixed: bool,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Imported {
    /// The file.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub zip: PathBuf,
    /// Catalogs that are new or changed.
    pub catalogs: Vec<String>,
    /// Catalogs that were already present.
    pub catalogs_present: Vec<String>,
    /// Blobs written.
    pub blobs_written: u64,
    /// Blobs already present and valid.
    pub blobs_present: u64,
    /// Blobs that were damaged: moved aside, and written.
    pub blobs_repaired: u64,
    /// Blobs that no catalog in the file refers to: not imported.
    pub blobs_ignored: u64,
    /// Files that are neither: not imported.
    pub files_ignored: u64,
    /// The duration.
    pub seconds: f64,
}

pub(super) type Archive = ZipArchive<Shared>;

/// The content of the file, by checked names.
pub(super) struct Content {
    pub(super) catalogs: BTreeMap<String, usize>,
    pub(super) blobs: HashMap<Digest, usize>,
    /// Other files, which are not imported.
    ignored: u64,
}

/// A valid catalog in the file. Not kept in memory, since a small file may contain many large catalogs.
struct NewCatalog {
    name: String,
    id: CatalogId,
    digests: Vec<Digest>,
}

/// The maximum number of blobs in all catalogs of one file, counted per catalog.
const MOST_BLOBS: u64 = 2 * MAX_ENTRIES;

/// The outcome for one blob.
enum Fate {
    Written,
    Present,
    Repaired,
}

/// Imports the file at `path`. The caller holds the lock of the hololib.
pub fn import(
    home: &Home,
    path: &Path,
    options: Options,
    observer: &dyn Observer,
) -> Result<Imported, ArchiveError> {
    let started = Instant::now();
    let mut archive = open(path)?;
    let content = content(path, &mut archive)?;
    let (catalogs, wanted) = catalogs(path, &mut archive, &content)?;
    check_regime(home, path, &wanted, options)?;
    let library = ensure_library(home)?;
    check_space(path, &library, &wanted, &content)?;
    observer.expect(wanted.values().sum());
    let intake = Intake { home, path, library, content: &content };
    let outcomes: Vec<(Digest, Result<Fate, StoreError>)> = wanted
        .par_iter()
        .map_init(
            || archive.clone(),
            |archive, (&digest, &size)| {
                let fate = intake.take(archive, digest, size);
                observer.advance(size);
                (digest, fate)
            },
        )
        .collect();
    let mut report = Imported {
        zip: path.to_owned(),
        catalogs: Vec::new(),
        catalogs_present: Vec::new(),
        blobs_written: 0,
        blobs_present: 0,
        blobs_repaired: 0,
        blobs_ignored: content.blobs.keys().filter(|digest| !wanted.contains_key(digest)).count() as u64,
        files_ignored: content.ignored,
        seconds: 0.0,
    };
    let bad = tally(&mut report, outcomes)?;
    observer.count(Counter::BlobsRecorded, report.blobs_written + report.blobs_repaired);
    publish(home, (path, &mut archive, &content), catalogs, bad, &mut report)?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn open(path: &Path) -> Result<Archive, ArchiveError> {
    open_file(File::open(path).map_err(ArchiveError::io("Opening", path))?, path)
}

/// Opens an archive from an open file, named `path` in errors.
pub(super) fn open_file(file: File, path: &Path) -> Result<Archive, ArchiveError> {
    let failed = || ArchiveError::io("Opening", path);
    let found = file.metadata().map_err(failed())?;
    if !found.is_file() {
        return Err(failed()(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    let shared = Shared { file: Arc::new(file), at: 0, len: found.len() };
    ZipArchive::new(shared).map_err(ArchiveError::zip(path))
}

/// Checks every name; no content is read yet.
pub(super) fn content(path: &Path, archive: &mut Archive) -> Result<Content, ArchiveError> {
    let mut content = Content { catalogs: BTreeMap::new(), blobs: HashMap::new(), ignored: 0 };
    for at in 0..archive.len() {
        let raw = archive.by_index_raw(at).map_err(ArchiveError::zip(path))?;
        let shown = || String::from_utf8_lossy(raw.name_raw()).into_owned();
        let twice = match names::parse(raw.name_raw()) {
            Some(Entry::Ignored) => {
                content.ignored += u64::from(!shown().ends_with(['/', '\\']));
                None
            }
            Some(Entry::Blob(digest)) => content.blobs.insert(digest, at),
            Some(Entry::Catalog(name)) => content.catalogs.insert(name, at),
            None => return Err(ArchiveError::Name { path: path.to_owned(), entry: shown() }),
        };
        if twice.is_some() {
            return Err(ArchiveError::Twice { path: path.to_owned(), entry: shown() });
        }
    }
    if content.catalogs.is_empty() {
        return Err(ArchiveError::NoCatalog { path: path.to_owned() });
    }
    Ok(content)
}

/// A catalog as stored in the file.
fn stored(path: &Path, archive: &mut Archive, name: &str, at: usize) -> Result<Vec<u8>, ArchiveError> {
    let entry = archive.by_index(at).map_err(ArchiveError::zip(path))?;
    let mut stored = Vec::new();
    entry.take(MAX_STORED + 1).read_to_end(&mut stored).map_err(ArchiveError::io("Reading", path))?;
    match stored.len() as u64 > MAX_STORED {
        true => Err(bad_catalog(path, name)(too_large("bytes", MAX_STORED))),
        false => Ok(stored),
    }
}

/// A catalog as stored in the file, and parsed; its content must have the name of its entry.
pub(super) fn catalog(
    path: &Path,
    archive: &mut Archive,
    name: &str,
    at: usize,
) -> Result<(Vec<u8>, Catalog), ArchiveError> {
    let stored = stored(path, archive, name, at)?;
    let catalog = Catalog::parse(&stored).map_err(bad_catalog(path, name))?;
    let inside = catalog.header.file_name();
    match inside == name {
        true => Ok((stored, catalog)),
        false => Err(ArchiveError::Misnamed { path: path.to_owned(), entry: name.to_owned(), inside }),
    }
}

fn too_large(what: &'static str, limit: u64) -> CatalogError {
    CatalogError::Bad { path: None, flaw: Flaw::TooLarge { what, limit } }
}

fn bad_catalog(path: &Path, name: &str) -> impl Fn(CatalogError) -> ArchiveError {
    move |source| ArchiveError::Catalog {
        path: path.to_owned(),
        entry: name.to_owned(),
        source: Box::new(source),
    }
}

/// Reads and validates every catalog, one at a time; returns their blobs with their sizes.
fn catalogs(
    path: &Path,
    archive: &mut Archive,
    content: &Content,
) -> Result<(Vec<NewCatalog>, BTreeMap<Digest, u64>), ArchiveError> {
    let (mut catalogs, mut wanted, mut named) = (Vec::new(), BTreeMap::new(), 0);
    for (name, &at) in &content.catalogs {
        let (stored, catalog) = catalog(path, archive, name, at)?;
        wanted.extend(catalog.digests().map(|(digest, size)| (*digest, size)));
        let digests: Vec<Digest> = catalog.digests().map(|(digest, _)| *digest).collect();
        named += digests.len() as u64;
        if named > MOST_BLOBS {
            return Err(bad_catalog(path, name)(too_large("blobs, together with those before", MOST_BLOBS)));
        }
        catalogs.push(NewCatalog { name: name.clone(), id: Digest::of(Regime::Sha256, &stored), digests });
    }
    Ok((catalogs, wanted))
}

/// RCC reads only one kind of blobs in one hololib.
fn check_regime(
    home: &Home,
    path: &Path,
    wanted: &BTreeMap<Digest, u64>,
    options: Options,
) -> Result<(), ArchiveError> {
    let own = if home.is_compressed() { Regime::Sha256 } else { Regime::SipHash128 };
    match wanted.keys().find(|digest| digest.regime() != own) {
        Some(other) if !options.mixed => Err(ArchiveError::OtherRegime {
            path: path.to_owned(),
            compressed: other.regime() == Regime::Sha256,
        }),
        _ => Ok(()),
    }
}

fn ensure_library(home: &Home) -> Result<Library, ArchiveError> {
    let path = home.library();
    sys::fs::shared::ensure_dir(&path, home.is_shared()).map_err(ArchiveError::io("Making", &path))?;
    Ok(Library::open(&path)?)
}

/// Checks that everything that may have to be written fits on the disk, before anything is written.
fn check_space(
    path: &Path,
    library: &Library,
    wanted: &BTreeMap<Digest, u64>,
    content: &Content,
) -> Result<(), ArchiveError> {
    let new =
        wanted.iter().filter(|(digest, _)| content.blobs.contains_key(digest) && !library.exists(digest));
    let compressed = |digest: &Digest| digest.regime() == Regime::Sha256;
    // Compressed blobs are stored as in the file, raw ones with their declared length.
    let raw: u64 = new
        .clone()
        .filter(|(digest, _)| !compressed(digest))
        .map(|(_, &size)| size)
        .fold(0, u64::saturating_add);
    let file = fs::metadata(path).map_err(ArchiveError::io("Looking at", path))?.len();
    let needed =
        if new.clone().any(|(digest, _)| compressed(digest)) { raw.saturating_add(file) } else { raw };
    let disk = sys::fs::disk::usage(library.path())
        .map_err(ArchiveError::io("Querying the free space in", library.path()))?;
    let available = disk.available.saturating_mul(disk.block_size.into());
    match needed > available {
        true => Err(ArchiveError::NoSpace { path: path.to_owned(), needed, available }),
        false => Ok(()),
    }
}

/// Handles the blobs.
struct Intake<'i> {
    home: &'i Home,
    path: &'i Path,
    library: Library,
    content: &'i Content,
}

impl Intake<'_> {
    /// Ensures that one blob is in the library, and valid.
    fn take(&self, archive: &mut Archive, digest: Digest, size: u64) -> Result<Fate, StoreError> {
        let found = self.library.verify(&digest, size);
        let at = match (found, self.content.blobs.get(&digest)) {
            (Ok(()), _) => return Ok(Fate::Present),
            (Err(error), None) => return Err(error),
            (Err(error), Some(&at)) if error.is_damage() => at,
            (Err(error), Some(_)) => return Err(error),
        };
        let aside = self.home.quarantine_dir();
        let repaired = self.library.exists(&digest) && self.library.move_aside(&digest, &aside)?;
        let sharing = if self.home.is_shared() { Sharing::Shared } else { Sharing::Private };
        let origin = self.path.join("library").join(store::blob_path(&digest));
        let mut open = || open_entry(archive.clone(), at);
        match store::publish_verified(self.library.path(), (&digest, size), sharing, &origin, &mut open)? {
            Published::Written if repaired => Ok(Fate::Repaired),
            Published::Written => Ok(Fate::Written),
            Published::AlreadyThere => Ok(Fate::Present),
        }
    }
}

/// The bytes of one entry. The zip crate's own reader borrows its archive and checks the CRC, which the digest makes unnecessary.
pub(super) fn open_entry<'r>(mut archive: Archive, at: usize) -> io::Result<Box<dyn Read + 'r>> {
    let (offset, compressed, method) = {
        let raw = archive.by_index_raw(at).map_err(into_io)?;
        let start = raw.data_start();
        (start, raw.compressed_size(), raw.compression())
    };
    let mut source = archive.into_inner();
    source.seek(SeekFrom::Start(offset))?;
    let source = io::BufReader::with_capacity(64 * 1024, source.take(compressed));
    match method {
        zip::CompressionMethod::Stored => Ok(Box::new(source)),
        zip::CompressionMethod::Deflated => Ok(Box::new(flate2::bufread::DeflateDecoder::new(source))),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is packed as {other}"))),
    }
}

fn into_io(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// Counts the outcomes of the blobs; returns those that are missing or wrong. Any other failure aborts.
fn tally(
    report: &mut Imported,
    outcomes: Vec<(Digest, Result<Fate, StoreError>)>,
) -> Result<Vec<(Digest, StoreError)>, ArchiveError> {
    let mut bad = Vec::new();
    for (digest, outcome) in outcomes {
        match outcome {
            Ok(Fate::Written) => report.blobs_written += 1,
            Ok(Fate::Present) => report.blobs_present += 1,
            Ok(Fate::Repaired) => report.blobs_repaired += 1,
            Err(error) if error.is_damage() => bad.push((digest, error)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bad)
}

/// Publishes the catalogs whose blobs are all valid.
fn publish(
    home: &Home,
    (path, archive, content): (&Path, &mut Archive, &Content),
    catalogs: Vec<NewCatalog>,
    mut bad: Vec<(Digest, StoreError)>,
    report: &mut Imported,
) -> Result<(), ArchiveError> {
    let dir = home.catalog_dir();
    sys::fs::shared::ensure_dir(&dir, home.is_shared()).map_err(ArchiveError::io("Making", &dir))?;
    let wrong: HashSet<Digest> = bad.iter().map(|(digest, _)| *digest).collect();
    let mut refused = Vec::new();
    for NewCatalog { name, id, digests } in catalogs {
        let target = dir.join(&name);
        if digests.iter().any(|digest| wrong.contains(digest)) {
            refused.push(name);
            continue;
        }
        let at = content.catalogs.get(&name).copied().unwrap_or_default();
        let stored = stored(path, archive, &name, at)?;
        if Digest::of(Regime::Sha256, &stored) != id {
            // The file is being written during the import.
            let changed =
                io::Error::new(io::ErrorKind::InvalidData, format!("catalog {name} changed in the meantime"));
            return Err(ArchiveError::io("Reading", path)(changed));
        }
        if sys::fs::stat::read_regular(&target, MAX_STORED).is_ok_and(|present| present == stored) {
            report.catalogs_present.push(name);
        } else {
            sys::fs::shared::replace(&dir, &name, |file| file.write_all(&stored))
                .map_err(ArchiveError::io("Writing", &target))?;
            report.catalogs.push(name);
        }
    }
    match bad.is_empty() {
        true => Ok(()),
        false => Err(ArchiveError::Damaged {
            path: path.to_owned(),
            count: bad.len(),
            catalogs: refused,
            first: Box::new(bad.swap_remove(0).1),
        }),
    }
}

/// A file that several threads read, each at its own position.
#[derive(Clone)]
pub(super) struct Shared {
    file: Arc<File>,
    at: u64,
    len: u64,
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
