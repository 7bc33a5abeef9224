//! The raw store: inflated, verified content with the catalog's mode and mother time, by digest.
//!
//! ```text
//! raw/aa/<digest>.<mode>              an entry: complete, verified, never written again
//! raw/aa/tmp-<pid>-<count>-<random>   an entry being written, 0600
//! ```
//! An entry is published by rename, so two processes that create the same one do not disturb each other, and a crash leaves at worst a
//! temporary file, which [`RawStore::gc`] removes. An entry is valid only if size, mode, modification time and owner are exactly as
//! created, and if it has not changed since it was [verified](fingerprints); otherwise it is hashed first. All our directories are 0700.
//! Entries may be evicted at any time: an open descriptor keeps working.

use std::fs::{File, FileTimes};
use std::hash::{BuildHasher, Hasher as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::store::MOTHER_TIME;
use crate::store::codec::Codec;
use crate::store::error::{StoreError, Tried};
use crate::store::fingerprints::Fingerprints;
use crate::store::layout::{RawKey, temp_name};
use crate::store::ledger::Ledger;
use crate::store::library::Blob;
use crate::store::rawfile::RawFile;
use crate::store::verify::check_file;
use crate::sys;
use crate::sys::fs::beneath::{self, Dir, FileFacts, OpenError};
use crate::sys::fs::clone;
use crate::sys::fs::place::Place;
use crate::sys::fs::sparse::SparseWriter;
use crate::sys::process::this_process;

mod collect;
mod share;
mod upkeep;

pub use collect::RawEntry;
pub use share::NameOf;
pub use upkeep::Upkeep;

/// The mode of all our directories.
const PRIVATE: u16 = 0o700;

/// The raw store of one home.
#[derive(Debug)]
pub struct RawStore {
    dir: Dir,
    place: Place,
    path: PathBuf,
    ledger: Mutex<Ledger>,
    /// One for each directory of entries.
    fingerprints: Vec<Fingerprints>,
    /// Whether reflinks from the library into this store are still worth trying: none has failed yet.
    reflinks: AtomicBool,
}

/// The state of an entry.
#[derive(Debug)]
pub enum Lookup {
    /// The valid entry.
    Ready(RawFile),
    /// There is none.
    Absent,
    /// It is not as we created it.
    Unfit,
}

impl RawStore {
    /// Opens the store at `path`, creating it if needed, with a limit in bytes.
    pub fn open(place: impl Into<Place>, limit: u64) -> io::Result<RawStore> {
        let place = place.into().as_top();
        let path = std::path::absolute(place.path())?;
        let dir = match place.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.ensure()?,
            opened => opened?,
        };
        let dir = dir.beneath()?;
        // On Windows a failed reflink leaves the file sparse, and only ReFS supports reflinks.
        let may_share = !cfg!(windows)
            || sys::fs::disk::file_system(&path).is_ok_and(|name| name.eq_ignore_ascii_case("refs"));
        let reflinks = AtomicBool::new(may_share);
        let fingerprints =
            (0..=u8::MAX).map(|dir| Fingerprints::new(place.below(format!("{dir:02x}")))).collect();
        Ok(RawStore { dir, place, path, ledger: Mutex::new(Ledger::new(limit)), fingerprints, reflinks })
    }

    /// The directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The path of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks up an entry whose content has `size` bytes.
    pub fn find(&self, key: &RawKey, size: u64) -> io::Result<Lookup> {
        let relative = key.path();
        match self.dir.open_file(&relative) {
            Ok((file, facts)) if self.check(key, size, &file, &facts) => {
                self.touch(*key, size);
                Ok(Lookup::Ready(RawFile::on_disk(file, size, self.path.join(relative), facts.changed)))
            }
            Ok(_) | Err(OpenError::Link | OpenError::NotRegular(_)) => Ok(Lookup::Unfit),
            Err(OpenError::Missing) => {
                self.ledger().remove(key);
                Ok(Lookup::Absent)
            }
            Err(OpenError::Other(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Lookup::Unfit)
            }
            Err(OpenError::Other(error)) => Err(error),
        }
    }

    /// True if the entry cannot have changed since its content was verified. Entries of root cannot be changed by our user.
    fn is_unchanged(&self, key: &RawKey, facts: &FileFacts) -> bool {
        let is_roots = || facts.uid == 0 && this_process::effective_uid() != 0;
        self.fingerprints(key).hold(&key.name(), facts) || is_roots()
    }

    fn fingerprints(&self, key: &RawKey) -> &Fingerprints {
        &self.fingerprints[usize::from(key.digest.as_bytes()[0])]
    }

    /// True if the entry's name still refers to `file`.
    pub fn names(&self, key: &RawKey, file: &RawFile) -> bool {
        let named = self.dir.facts(&key.path());
        named.is_some_and(|named| file.facts().is_ok_and(|facts| facts.id == named.id))
    }

    /// Creates the verified entry of `blob`; replaces an existing one.
    pub fn ingest(&self, key: &RawKey, size: u64, blob: &Blob) -> Result<RawFile, StoreError> {
        self.ingest_by(key, size, |file| self.fill(file, size, blob))
    }

    /// As [`RawStore::ingest`], for content that `write` writes and verifies.
    pub fn ingest_with(
        &self,
        key: &RawKey,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
    ) -> Result<RawFile, StoreError> {
        let digest = key.digest;
        self.ingest_by(key, size, |file| {
            let mut sparse = SparseWriter::new(file);
            write(&mut sparse)?;
            sparse.finish().map_err(|source| StoreError::Sink { digest, source })
        })
    }

    fn ingest_by(
        &self,
        key: &RawKey,
        size: u64,
        fill: impl FnOnce(&File) -> Result<(), StoreError>,
    ) -> Result<RawFile, StoreError> {
        let path = self.path.join(key.path());
        let failed = |source| StoreError::RawStore {
            digest: key.digest,
            path: path.clone().into_boxed_path(),
            source,
        };
        let dir = self.entry_dir(key).map_err(failed)?;
        let temp = Temp::create(&dir).map_err(failed)?;
        fill(&temp.file)?;
        let file = temp.publish(key).map_err(failed)?;
        let facts = beneath::facts_of_file(&file).map_err(failed)?;
        self.fingerprints(key).add(&key.name(), &facts);
        self.touch(*key, size);
        Ok(RawFile::on_disk(file, size, path, facts.changed))
    }

    /// Writes the content to `file`: shares the blob's blocks if it may be raw, and verifies the copy, since the blob itself may be
    /// overwritten in place meanwhile; else decodes.
    fn fill(&self, file: &File, size: u64, blob: &Blob) -> Result<(), StoreError> {
        if let Some(source) = blob.raw_candidate(size)
            && size > 0
            && self.reflinks.load(Ordering::Relaxed)
        {
            match clone::reflink(source, file) {
                Ok(()) => {
                    let tried = Tried { codec: Codec::Raw, raw: None };
                    let checked = check_file(file, blob.digest(), size);
                    return checked.map_err(|fault| blob.explain(fault, size, tried));
                }
                Err(error) => {
                    // A copy is equivalent but slower; the file system will not start to support reflinks later.
                    log::debug!("No reflinks into {}: {error}", self.path.display());
                    self.reflinks.store(false, Ordering::Relaxed);
                }
            }
        }
        let mut sparse = SparseWriter::new(file);
        blob.stream(size, &mut sparse)?;
        let digest = *blob.digest();
        sparse.finish().map_err(|source| StoreError::Sink { digest, source })
    }

    /// The directory of an entry, created if needed.
    fn entry_dir(&self, key: &RawKey) -> io::Result<Dir> {
        let relative = key.dir();
        match self.dir.open_dir(&relative) {
            Ok(dir) => return Ok(dir),
            Err(OpenError::Missing) => {}
            Err(error) => return Err(into_io(error)),
        }
        self.dir.ensure_dir(&relative, PRIVATE)?;
        self.dir.open_dir(&relative).map_err(into_io)
    }

    /// Records a use and evicts entries for it if needed.
    fn touch(&self, key: RawKey, size: u64) {
        let gone = self.ledger().touch(key, size);
        self.evict(gone);
    }

    fn evict(&self, gone: Vec<RawKey>) {
        for key in gone {
            if let Err(error) = self.dir.remove_file(&key.path()) {
                log::debug!("Cannot evict {} from the raw store: {error}", key.digest);
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry being written; removed on drop unless it was published.
struct Temp<'d> {
    dir: &'d Dir,
    name: PathBuf,
    file: File,
    published: bool,
}

impl<'d> Temp<'d> {
    fn create(dir: &'d Dir) -> io::Result<Temp<'d>> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let random = std::hash::RandomState::new().build_hasher().finish();
        let name = PathBuf::from(temp_name(std::process::id(), count, random));
        let file = dir.create_new(&name, 0o600)?;
        Ok(Temp { dir, name, file, published: false })
    }

    /// Sets the file's mode and time, then renames it; the returned file is read-only. Not synced: after a power cut the entry may be
    /// short, but then its size or time is wrong and it is created again.
    fn publish(mut self, key: &RawKey) -> io::Result<File> {
        let mother = SystemTime::UNIX_EPOCH + Duration::from_secs(MOTHER_TIME.unsigned_abs());
        sys::fs::at::set_mode(&self.file, key.mode.bits())?;
        self.file.set_times(FileTimes::new().set_accessed(mother).set_modified(mother))?;
        sys::fs::at::settle(&self.file)?;
        let (reader, _) = self.dir.open_file(&self.name).map_err(into_io)?;
        self.dir.rename(&self.name, Path::new(&key.name()))?;
        self.published = true;
        Ok(reader)
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.dir.remove_file(&self.name)
        {
            log::debug!("Cannot remove {} from the raw store: {error}", self.name.display());
        }
    }
}

/// True if an entry is exactly as we created it.
fn is_fit(facts: &FileFacts, key: &RawKey, size: u64) -> bool {
    facts.size == size
        && facts.mtime == (MOTHER_TIME, 0)
        && facts.mode == sys::fs::at::mode_on_disk(key.mode.bits())
        && is_trusted(facts.uid)
}

/// True for ourselves and for root.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == this_process::effective_uid()
}

fn into_io(error: OpenError) -> io::Error {
    match error {
        OpenError::Other(error) => error,
        OpenError::Missing => io::Error::new(io::ErrorKind::NotFound, error),
        OpenError::Link | OpenError::NotRegular(_) => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}
