//! The library as a place to put blobs, in the form that the hololib's regime demands.
//!
//! `store::publish_with` makes a blob appear; here it is decided which ones, and what their bytes are. A blob that is there
//! already stays, unless its size or its frame show that it was cut off (nothing is synced, so a power cut can do that).

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::RecordError;
use crate::error::chain;
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store::{self, Published, Sharing, StoreError};
use crate::sys;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The library of a hololib, to write to.
pub(super) struct Library {
    path: PathBuf,
    sharing: Sharing,
    regime: Regime,
    /// Digests that somebody is putting there, or has found there.
    claimed: Mutex<HashSet<Digest>>,
    written: AtomicU64,
}

impl Library {
    /// The library of `home`, made if it is not there. Its regime is RCC's: raw if there is a `compress.no`.
    pub(super) fn ensure(home: &Home) -> Result<Library, RecordError> {
        let (path, shared) = (home.library(), home.is_shared());
        sys::fs::shared::ensure_dir(&path, shared).map_err(RecordError::io("Making", &path))?;
        let regime = if home.is_compressed() { Regime::Sha256 } else { Regime::SipHash128 };
        let sharing = if shared { Sharing::Shared } else { Sharing::Private };
        Ok(Library { path, sharing, regime, claimed: Mutex::default(), written: AtomicU64::new(0) })
    }

    /// How contents are named.
    pub(super) fn regime(&self) -> Regime {
        self.regime
    }

    /// How many blobs were written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Puts the content `digest` of `size` bytes there, unless it is: `write` gives the content to the writer it gets, again
    /// if it must. An error that is not the library's it keeps for itself.
    pub(super) fn publish(
        &self,
        digest: &Digest,
        size: u64,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        if !self.claim(digest) {
            return Ok(());
        }
        self.remove_incomplete(digest, size)?;
        let published = store::publish_with(&self.path, digest, self.sharing, |out| match self.regime {
            Regime::SipHash128 => write(out),
            Regime::Sha256 => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                write(&mut encoder)?;
                encoder.finish().map(drop)
            }
        })?;
        self.written.fetch_add(u64::from(published == Published::Written), Ordering::Relaxed);
        Ok(())
    }

    /// True for the first who asks: the others rely on that one.
    fn claim(&self, digest: &Digest) -> bool {
        self.claimed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*digest)
    }

    /// Removes a blob that was cut off. Its ends make it suspect; that it is damaged is then verified, because a good one
    /// may be in use.
    fn remove_incomplete(&self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let path = self.path.join(store::blob_path(digest));
        let length = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => meta.len(),
            _ => return Ok(()),
        };
        if self.looks_complete(&path, length, size) {
            return Ok(());
        }
        match store::Library::open(&self.path)?.verify(digest, size) {
            Err(error) if error.is_damage() => log::warn!("It is written again: {}", chain(&error)),
            other => return other,
        }
        fs::remove_file(&path).map_err(|source| StoreError::Publish {
            digest: *digest,
            path: path.into(),
            source,
        })
    }

    /// True for a blob that is complete as far as a look at its ends can tell.
    fn looks_complete(&self, path: &Path, length: u64, size: u64) -> bool {
        match self.regime {
            Regime::SipHash128 => length == size,
            Regime::Sha256 => has_good_ends(path, length, size).unwrap_or(false),
        }
    }
}

/// True for gzip whose trailer says `size`, for zstd, and for raw content of that size: all of them are read.
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
