//! Writes a `hololib.zip`: blobs first, verified before they are written, catalogs last; a file is published by rename.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use rayon::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::ArchiveError;
use crate::rcc::catalog::Catalog;
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store::observe::{Observer, Tally};
use crate::store::{Blob, Library, StoreError, blob_path};

/// The number of blobs that are open and verified at once.
const BATCH: usize = 128;
/// From this size on a zip entry needs zip64 fields.
const LARGE: u64 = u32::MAX as u64;

/// The result of an export.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Exported {
    /// The file.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub zip: PathBuf,
    /// The catalogs in it.
    pub catalogs: Vec<String>,
    /// The blobs in it.
    pub blobs: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The duration.
    pub seconds: f64,
}

/// Writes the catalogs at `paths` and all their blobs into a new file at `target`.
pub fn export(
    home: &Home,
    paths: &[PathBuf],
    target: &Path,
    observer: &dyn Observer,
) -> Result<Exported, ArchiveError> {
    let started = Instant::now();
    let mut catalogs = BTreeMap::new();
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    for path in paths {
        let (catalog, _) = Catalog::read(path)?;
        blobs.extend(catalog.digests().map(|(digest, size)| (*digest, size)));
        let name = catalog.header.file_name();
        catalogs.insert(name, (path, catalog));
    }
    observer.expect(blobs.values().sum());
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = tempfile::Builder::new().prefix(".hololib-").suffix(".part").tempfile_in(dir);
    let temp = temp.map_err(ArchiveError::io("Writing next to", target))?;
    let mut zip = Zip { writer: ZipWriter::new(BufWriter::new(temp.as_file())), target };
    let all: Vec<(Digest, u64)> = blobs.into_iter().collect();
    zip.add_blobs(&Library::open(&home.library())?, &all, observer)?;
    for (name, (path, catalog)) in &catalogs {
        zip.add_catalog(name, path, catalog)?;
    }
    let failed = || ArchiveError::io("Writing", target);
    zip.finish()?.into_inner().map_err(|error| failed()(error.into_error()))?;
    temp.as_file().sync_all().map_err(failed())?;
    set_mode(temp.as_file()).map_err(failed())?;
    let file = temp.persist(target).map_err(|error| failed()(error.error))?;
    Ok(Exported {
        zip: target.to_owned(),
        catalogs: catalogs.into_keys().collect(),
        blobs: all.len() as u64,
        bytes: file.metadata().map_err(failed())?.len(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Streams one catalog, in the file at `path`, with some of its blobs to `out`, which need not be a file.
pub fn stream(
    home: &Home,
    (path, catalog): (&Path, &Catalog),
    blobs: &[(Digest, u64)],
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut zip = Zip { writer: ZipWriter::new_stream(out), target: path };
    zip.add_blobs(&Library::open(&home.library())?, blobs, &Tally::default())?;
    let name = catalog.header.file_name();
    zip.add_catalog(&name, path, catalog)?;
    zip.finish().map(drop)
}

/// A temporary file is 0600, but others may read an export.
fn set_mode(file: &File) -> io::Result<()> {
    let mode = 0o666 & !crate::sys::fs::at::umask().unwrap_or(0o022);
    crate::sys::fs::at::set_mode(file, mode)
}

fn verified(library: &Library, digest: Digest, size: u64) -> Result<(Blob, u64), StoreError> {
    let blob = library.open_blob(&digest)?;
    blob.verify(size)?;
    Ok((blob, size))
}

struct Zip<'t, W: Write + Seek> {
    writer: ZipWriter<W>,
    /// The path that errors name.
    target: &'t Path,
}

impl<W: Write + Seek> Zip<'_, W> {
    /// Adds blobs, each verified first; several at once.
    fn add_blobs(
        &mut self,
        library: &Library,
        blobs: &[(Digest, u64)],
        observer: &dyn Observer,
    ) -> Result<(), ArchiveError> {
        for batch in blobs.chunks(BATCH) {
            let opened: Result<Vec<(Blob, u64)>, StoreError> =
                batch.par_iter().map(|&(digest, size)| verified(library, digest, size)).collect();
            for (blob, size) in opened? {
                self.add_blob(&blob, size)?;
                observer.advance(size);
            }
        }
        Ok(())
    }

    /// Adds a blob as it is stored, or as gzip if RCC cannot read it (zstd).
    fn add_blob(&mut self, blob: &Blob, size: u64) -> Result<(), ArchiveError> {
        let raw = blob.digest().regime() == Regime::SipHash128;
        // Compressing gzip again is a waste.
        let method = if raw { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        self.start(
            &format!("library/{}", blob_path(blob.digest()).display()),
            method,
            blob.stored().max(size),
        )?;
        let target = self.target;
        let failed = || ArchiveError::io("Writing", target);
        if blob.looks_like_zstd()? && !raw {
            let mut gzip = GzEncoder::new(&mut self.writer, Compression::fast());
            blob.stream(size, &mut gzip)?;
            gzip.finish().map_err(failed())?;
        } else {
            io::copy(&mut blob.stored_bytes(), &mut self.writer).map_err(failed())?;
        }
        Ok(())
    }

    fn add_catalog(&mut self, name: &str, path: &Path, catalog: &Catalog) -> Result<(), ArchiveError> {
        let stored = crate::sys::fs::stat::read_regular(path, crate::rcc::catalog::MAX_STORED)
            .map_err(ArchiveError::io("Reading", path))?;
        self.start(&format!("catalog/{name}"), CompressionMethod::Stored, stored.len() as u64)?;
        let is_gzip =
            stored.starts_with(&[0x1f, 0x8b]) && Catalog::parse(&stored).is_ok_and(|read| read == *catalog);
        let written =
            if is_gzip { self.writer.write_all(&stored) } else { catalog.write_to(&mut self.writer) };
        written.map_err(ArchiveError::io("Writing", self.target))
    }

    fn start(&mut self, name: &str, method: CompressionMethod, size: u64) -> Result<(), ArchiveError> {
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .compression_level((method == CompressionMethod::Deflated).then_some(1))
            .large_file(size >= LARGE)
            .unix_permissions(0o644);
        self.writer.start_file(name, options).map_err(ArchiveError::zip(self.target))
    }

    fn finish(self) -> Result<W, ArchiveError> {
        self.writer.finish().map_err(ArchiveError::zip(self.target))
    }
}
