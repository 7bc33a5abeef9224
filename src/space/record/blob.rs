//! Adds blobs to the library, encoded as the hololib's regime requires.
//!
//! `store::publish_with` publishes a blob; this module decides which ones, and their encoding. An existing blob stays, unless its size
//! or its framing shows that it was truncated (nothing is synced, so a power cut can cause that).

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use libdeflater::{CompressionLvl, Compressor};

use super::error::RecordError;
use super::scratch::with_scratch;
use crate::error::chain;
use crate::rcc::catalog::Catalog;
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store::{self, Published, Sharing, StoreError};
use crate::sys;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The library of a hololib, for writing. Blobs that no catalog has taken when it is dropped are removed again.
pub(super) struct Library {
    path: PathBuf,
    sharing: Sharing,
    regime: Regime,
    /// Digests that a thread is adding or has found there.
    claimed: Mutex<HashSet<Digest>>,
    /// Blobs that were written here, and to which no catalog refers yet.
    loose: Mutex<HashSet<Digest>>,
    /// The number of blobs that were written for a catalog.
    taken: AtomicU64,
}

impl Library {
    /// The library of `home`, created with the first blob. Its regime is RCC's: raw if there is a `compress.no`.
    pub(super) fn of(home: &Home) -> Library {
        let regime = if home.is_compressed() { Regime::Sha256 } else { Regime::SipHash128 };
        let sharing = if home.is_shared() { Sharing::Shared } else { Sharing::Private };
        let (claimed, loose) = (Mutex::default(), Mutex::default());
        Library { path: home.library(), sharing, regime, claimed, loose, taken: AtomicU64::new(0) }
    }

    /// Creates it if needed.
    pub(super) fn ensure(&self) -> Result<(), RecordError> {
        let is_shared = self.sharing == Sharing::Shared;
        sys::fs::shared::ensure_dir(&self.path, is_shared).map_err(RecordError::io("Making", &self.path))
    }

    /// The digests used for contents.
    pub(super) fn regime(&self) -> Regime {
        self.regime
    }

    /// The number of blobs that were written for a catalog.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Keeps the blobs to which `catalog` refers: it is about to be written. Others, of files that changed later, are removed.
    pub(super) fn take(&self, catalog: &Catalog) {
        let named: HashSet<&Digest> = catalog.digests().map(|(digest, _)| digest).collect();
        let taken = self.loose().extract_if(|digest| named.contains(digest)).count();
        self.taken.fetch_add(taken as u64, Ordering::Relaxed);
        self.withdraw();
    }

    /// Removes the blobs to which no catalog refers.
    fn withdraw(&self) {
        for digest in std::mem::take(&mut *self.loose()) {
            if let Err(error) = store::withdraw(&self.path, &digest) {
                log::warn!("Cannot remove {}: {error}", self.path.join(store::blob_path(&digest)).display());
            }
        }
    }

    fn loose(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.loose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the content `digest` of `size` bytes, unless it exists: `write` writes the content to the given writer, again if
    /// necessary. An error of `write` that is not an I/O error must be kept by the caller.
    pub(super) fn publish(
        &self,
        digest: &Digest,
        size: u64,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        self.publish_stored(digest, size, |out| match self.regime {
            Regime::SipHash128 => write(out),
            Regime::Sha256 => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                write(&mut encoder)?;
                encoder.finish().map(drop)
            }
        })
    }

    /// As [`Library::publish`], for a content in memory.
    pub(super) fn publish_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.publish_stored(digest, bytes.len() as u64, |out| match self.regime {
            Regime::SipHash128 => out.write_all(bytes),
            Regime::Sha256 => write_gzip(bytes, out),
        })
    }

    /// As [`Library::publish`]: `write` writes the blob as it is stored.
    fn publish_stored(
        &self,
        digest: &Digest,
        size: u64,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        if !self.claim(digest) {
            return Ok(());
        }
        let mut publish = || store::publish_with(&self.path, digest, self.sharing, &mut write);
        if publish()? == Published::Written {
            self.loose().insert(*digest);
        } else if self.remove_incomplete(digest, size)? {
            publish()?;
            // Other catalogs may refer to it, so it stays in any case.
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// True if the library still has a blob that was published; else it can be published again.
    pub(super) fn still_has(&self, digest: &Digest) -> bool {
        let is_there = self.path.join(store::blob_path(digest)).symlink_metadata().is_ok();
        if !is_there {
            self.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        }
        is_there
    }

    /// True for the first caller, on which the others rely.
    fn claim(&self, digest: &Digest) -> bool {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest)
    }

    /// Removes a truncated blob; false if it is not. Its ends only raise the suspicion; it is then verified, because a good one may be
    /// in use.
    fn remove_incomplete(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let path = self.path.join(store::blob_path(digest));
        let length = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => meta.len(),
            _ => return Ok(false),
        };
        if self.looks_complete(&path, length, size) {
            return Ok(false);
        }
        match store::Library::open(&self.path)?.verify(digest, size) {
            Err(error) if error.is_damage() => log::warn!("It is written again: {}", chain(&error)),
            other => return other.map(|()| false),
        }
        fs::remove_file(&path).map(|()| true).map_err(|source| StoreError::Publish {
            digest: *digest,
            path: path.into(),
            source,
        })
    }

    /// True for a blob that looks complete by its ends.
    fn looks_complete(&self, path: &Path, length: u64, size: u64) -> bool {
        match self.regime {
            Regime::SipHash128 => length == size,
            Regime::Sha256 => has_good_ends(path, length, size).unwrap_or(false),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Writes a content in memory as gzip. In one call, that takes less time and less space than in pieces.
fn write_gzip(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = compressor.get_or_insert_with(|| Compressor::new(CompressionLvl::fastest()));
        with_scratch(compressor.gzip_compress_bound(bytes.len()), |stored| {
            let length = compressor.gzip_compress(bytes, stored).map_err(io::Error::other)?;
            out.write_all(&stored[..length])
        })
    })
}

/// True for gzip whose trailer has `size`, for zstd, and for raw content of that size: all of them are readable.
fn has_good_ends(path: &Path, length: u64, size: u64) -> io::Result<bool> {
    let mut file = sys::fs::stat::open_to_read(path)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut head)?;
    if head.starts_with(&ZSTD_MAGIC) {
        return Ok(true);
    }
    if !head.starts_with(&GZIP_MAGIC) || length < 18 {
        return Ok(length == size);
    }
    let mut tail = [0; 4];
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut tail)?;
    Ok(u64::from(u32::from_le_bytes(tail)) == size & 0xffff_ffff)
}
