//! The library as a place to put blobs: RCC's layout, form and way of publishing.
//!
//! A blob appears by rename of `<digest>.part#<number>` in its own directory. There is no fsync, as in RCC: after a power
//! cut a blob can be short, which every reader notices by its digest. A blob that is there already is never written again,
//! unless its size or its frame show that it was cut off.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::error::RecordError;
use crate::digest::{Digest, Regime};
use crate::home::Home;
use crate::sys;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The library of a hololib, to write to.
pub(super) struct Library {
    path: PathBuf,
    shared: bool,
    regime: Regime,
    /// Digests that somebody is putting there, or has found there.
    claimed: Mutex<HashSet<Digest>>,
    parts: AtomicU64,
    written: AtomicU64,
}

impl Library {
    /// The library of `home`, made if it is not there. Its regime is RCC's: raw if there is a `compress.no`.
    pub(super) fn ensure(home: &Home) -> Result<Library, RecordError> {
        let (path, shared) = (home.library(), home.is_shared());
        sys::shared::ensure_dir(&path, shared).map_err(RecordError::io("Making", &path))?;
        let regime = if home.is_compressed() { Regime::Sha256 } else { Regime::SipHash128 };
        let (claimed, parts, written) = Default::default();
        Ok(Library { path, shared, regime, claimed, parts, written })
    }

    /// How contents are named.
    pub(super) fn regime(&self) -> Regime {
        self.regime
    }

    /// How many blobs were written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Puts the content `digest` of `size` bytes there, unless it is: `write` gives the bytes to the writer it gets.
    pub(super) fn publish(
        &self,
        digest: &Digest,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let path = self.blob(digest);
        if !self.claim(digest) || self.is_there(&path, size) {
            return Ok(());
        }
        let failed = |source| self.failed(digest, source);
        let part = self.part(&path).map_err(failed)?;
        let file = BufWriter::with_capacity(128 << 10, &part.file);
        let mut file = match self.regime {
            Regime::Sha256 => {
                let mut encoder = GzEncoder::new(file, Compression::fast());
                write(&mut encoder)?;
                encoder.finish().map_err(failed)?
            }
            Regime::SipHash128 => {
                let mut file = file;
                write(&mut file)?;
                file
            }
        };
        file.flush().map_err(failed)?;
        drop(file);
        part.publish(&path, self.shared).map_err(failed)?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The error of a blob that cannot be written.
    pub(super) fn failed(&self, digest: &Digest, source: io::Error) -> RecordError {
        RecordError::Blob { digest: *digest, path: self.blob(digest), source }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        self.path.join(&text[..2]).join(&text[2..4]).join(&text[4..6]).join(text)
    }

    /// True for the first who asks: the others rely on that one.
    fn claim(&self, digest: &Digest) -> bool {
        self.claimed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*digest)
    }

    /// True if a blob stands there that is complete as far as a look at its ends can tell.
    fn is_there(&self, path: &Path, size: u64) -> bool {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => false,
            Ok(meta) if self.regime == Regime::SipHash128 => meta.len() == size,
            Ok(meta) => looks_complete(path, meta.len(), size).unwrap_or(false),
            Err(_) => false,
        }
    }

    /// A new part beside `path`.
    fn part(&self, path: &Path) -> io::Result<Part> {
        let parent = path.parent().unwrap_or(&self.path);
        // Level by level, because in a shared holotree each must be open for all.
        for level in
            [parent.parent().and_then(Path::parent), parent.parent(), Some(parent)].into_iter().flatten()
        {
            sys::shared::ensure_dir(level, self.shared)?;
        }
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        // RCC knows its parts by the digits; the process makes ours differ from those of others.
        name.push(format!(".part#{}{number:07}", std::process::id()));
        let path = PathBuf::from(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = sys::shared::create_new(&path, 0o666)?;
        Ok(Part { path, file, published: false })
    }
}

/// True for gzip whose trailer says `size`, for zstd, and for raw content of that size: all of them are read.
fn looks_complete(path: &Path, length: u64, size: u64) -> io::Result<bool> {
    let mut file = sys::stat::open_to_read(path)?;
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

/// A blob in the making; removed if it is dropped before it was published.
struct Part {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Part {
    fn publish(mut self, to: &Path, shared: bool) -> io::Result<()> {
        if shared {
            sys::lock::share(&self.file)?;
        }
        fs::rename(&self.path, to)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("{} is left behind: {error}", self.path.display());
        }
    }
}
