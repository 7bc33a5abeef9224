//! The store: verified raw files from a hololib, each decoded once.
//!
//! [`Store::open`](BlobSource::open) answers from open descriptors, else from the raw store, else from the library, through the raw
//! store if it accepts the content and otherwise through memory. Invariants: a [`RawFile`] has exactly the content of its digest,
//! verified when it was decoded; no lock is held while blobs are read or written, except that of a single file that is read in pieces
//! ([`large`]); a blob that several threads need at once is decoded once.
//!
//! Locks, never nested: descriptors ([`cache`]), tickets ([`inflight`]), the ledger ([`raw`]), one per directory of [`fingerprints`],
//! files read in pieces ([`large`]), partial files ([`supplied`]).

pub mod index;
pub mod observe;
pub mod relocate;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::store::index::FileNode;
use crate::store::observe::origin::{self, Origin};
use crate::store::observe::{Counter, Observer, UNSUPPLIED};
use crate::store::pieces::{Checks, Part};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::beneath::is_descriptor_shortage;
use crate::sys::fs::name::Name;
use crate::sys::fs::place::Place;
use crate::sys::host;
use crate::sys::process::this_process;

mod buffer;
mod cache;
mod codec;
mod error;
pub mod fingerprints;
mod inflight;
#[cfg(test)]
mod inflight_tests;
mod intake;
mod large;
mod layout;
mod ledger;
mod library;
pub mod memory;
pub mod pieces;
mod publish;
mod raw;
mod rawfile;
mod sequential;
mod supplied;
mod sweep;
mod sync;
mod verify;

pub use codec::Codec;
pub use error::{HINT, RawReading, StoreError, Tried};
pub use intake::{Open, publish_verified, stored_bound};
pub use layout::{RawKey, RawMode, blob_path};
pub use library::{Blob, Library};
pub use publish::{Published, Sharing, publish, publish_with, withdraw};
pub use raw::{NameOf, RawEntry, RawStore, Upkeep};
pub use rawfile::RawFile;
pub use sweep::Sweep;

/// The modification time of every file that RCC restores, and of every entry of our raw store: seconds since 1970.
pub const MOTHER_TIME: i64 = 1_610_000_000;

/// The limit of the doubling pauses while a process is overwriting a blob: 1, 2, 4 … 256 ms, so about this long in total.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The content of a file of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The digest of the raw content.
    pub digest: Digest,
    /// Its size in bytes, as the catalog declares it.
    pub size: u64,
    /// The catalog's 12 permission bits.
    pub mode: u16,
}

impl Wanted {
    /// The content of `file`, which has the permissions `mode`.
    pub fn of(file: &FileNode<'_>, mode: u16) -> Wanted {
        Wanted { digest: file.digest, size: file.size, mode }
    }

    /// The entry of the raw store for this content.
    pub fn key(&self) -> RawKey {
        RawKey { digest: self.digest, mode: RawMode::new(self.mode) }
    }
}

/// Where verified content comes from.
pub trait BlobSource: Send + Sync {
    /// Returns the complete content as a file, or an error; never wrong bytes.
    fn open(&self, wanted: &Wanted) -> Result<RawFile, StoreError>;

    /// Returns the content, of which at least the bytes of the range can be read.
    fn part(&self, wanted: &Wanted, _range: Range<u64>) -> Result<Part, StoreError> {
        self.open(wanted).map(Part::Whole)
    }

    /// False if opening the content would fetch it from elsewhere.
    fn is_local(&self, _wanted: &Wanted) -> bool {
        true
    }

    /// Fills `out` from `offset`, which must lie within the content: the inner result is that of reading verified bytes.
    fn read(&self, wanted: &Wanted, offset: u64, out: &mut [u8]) -> Result<io::Result<()>, StoreError> {
        let range = offset..offset.saturating_add(out.len() as u64);
        Ok(self.part(wanted, range)?.read_exact_at(out, offset))
    }
}

/// The limits of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of descriptors kept open.
    pub descriptors: NonZeroUsize,
    /// Bytes in the raw store.
    pub raw_bytes: u64,
    /// Bytes of content kept in memory because the raw store did not accept it. The most recently used content is kept even if it is
    /// larger.
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// 1,024 descriptors or a quarter of the process limit; 20 GiB on disk; in memory an eighth of the machine's memory, but 256 MiB
    /// to 4 GiB.
    fn default() -> Limits {
        Limits {
            descriptors: this_process::descriptor_share(4, 1024),
            raw_bytes: 20 << 30,
            memory_bytes: (host::memory_bytes() / 8).clamp(256 << 20, 4 << 30),
        }
    }
}

/// Provides content that the library lacks, such as from a remote.
pub trait Supplier: Send + Sync {
    /// The SHA-256 of each piece, for content that has several.
    fn checks(&self, digest: &Digest) -> Option<Checks>;

    /// Requests pieces of content, and passes them on as they arrive, in any order. They are untrusted: the store verifies all of
    /// them. Waits for pieces that another request is already transferring, but does not pass them on: look for them again.
    fn supply(&self, wanted: &Wanted, pieces: &[u64], take: &mut dyn FnMut(u64, &[u8])) -> io::Result<()>;
}

/// Verified content of one hololib.
pub struct Store {
    library: Library,
    /// The source of content that the library lacks.
    supplied: Option<supplied::Supplied>,
    /// `None` if it cannot be used at all.
    raw: Option<RawStore>,
    descriptors: cache::Descriptors,
    large: large::Large,
    in_flight: inflight::InFlight,
    observer: Arc<dyn Observer>,
    paranoid: bool,
    /// Whether it was reported that the raw store is not used.
    warned: AtomicBool,
}

impl Store {
    /// A store over `library` with its raw store at `raw_dir`. Without a usable raw store it works from memory, and reports that.
    pub fn open(
        library: Library,
        raw_dir: impl Into<Place>,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Store {
        let raw_dir = raw_dir.into();
        let raw = RawStore::open(&raw_dir, limits.raw_bytes).map_err(|error| {
            let reason = format!("Cannot use {}: {error}; serving from memory", raw_dir.display());
            observer.fallback("raw store", &reason);
        });
        let raw = raw.ok();
        let warned = AtomicBool::new(raw.is_none());
        let descriptors = cache::Descriptors::new(limits.descriptors, limits.memory_bytes);
        let in_flight = inflight::InFlight::default();
        Store {
            library,
            supplied: None,
            raw,
            descriptors,
            large: large::Large::default(),
            in_flight,
            observer,
            paranoid: false,
            warned,
        }
    }

    /// Sets whether content is hashed each time it is opened, not only when it is decoded.
    #[must_use]
    pub fn with_paranoia(mut self, paranoid: bool) -> Store {
        self.paranoid = paranoid;
        self
    }

    /// Whether content is hashed each time it is opened.
    pub fn is_paranoid(&self) -> bool {
        self.paranoid
    }

    /// Takes content that is missing or damaged in the library from `supplier`; large files that are not whole are in `partial`.
    #[must_use]
    pub fn with_supplier(mut self, supplier: Arc<dyn Supplier>, partial: Option<Place>) -> Store {
        self.supplied = Some(supplied::Supplied::new(supplier, partial));
        self
    }

    /// The underlying library.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The raw store, if there is one: for its path and maintenance.
    pub fn raw(&self) -> Option<&RawStore> {
        self.raw.as_ref()
    }

    /// As [`open`](BlobSource::open), and the file's [`path`](RawFile::path) is valid at this moment, so that links to it can be made.
    /// The path is `None` if the raw store cannot store the content.
    pub fn ensure_raw(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        let (key, file) = (wanted.key(), self.open(wanted)?);
        match &self.raw {
            Some(raw) if file.path().is_some() && !raw.names(&key, &file) => {
                self.descriptors.remove(&key);
                self.open(wanted)
            }
            _ => Ok(file),
        }
    }

    /// The content, if the raw store already has it: nothing is decoded or created, except to replace an entry whose hash is wrong.
    pub fn ready(&self, wanted: &Wanted) -> Option<RawFile> {
        let file = match self.raw.as_ref()?.find(&wanted.key(), wanted.size) {
            Ok(raw::Lookup::Ready(file)) if self.is_believed(&file, wanted) => file,
            // It was modified but looks unchanged: it must be replaced, so that no other process trusts it.
            Ok(raw::Lookup::Ready(_)) => return self.open(wanted).ok(),
            _ => return None,
        };
        self.observer.count(Counter::RawHits, 1);
        Some(file)
    }

    /// Hard-links the content to `name` in `dir`, if it is at `from`: nothing is decoded or created. False if it is not, or if content
    /// must be hashed at each use; then use [`Store::ensure_raw`].
    pub fn link_ready(
        &self,
        wanted: &Wanted,
        from: NameOf<'_>,
        dir: &TreeDir,
        name: Name<'_>,
    ) -> io::Result<bool> {
        let Some(raw) = self.raw.as_ref().filter(|_| !self.paranoid) else { return Ok(false) };
        let is_linked = raw.link(wanted, from, dir, name)?;
        self.observer.count(Counter::RawHits, is_linked.into());
        Ok(is_linked)
    }

    /// Hard-links `raw`, which [`Store::ensure_raw`] returned for `wanted`, to `name` in `dir`; `NotFound` if it has no path.
    pub fn link_raw(&self, wanted: &Wanted, raw: &RawFile, dir: &TreeDir, name: Name<'_>) -> io::Result<()> {
        let path = raw.path().ok_or(io::ErrorKind::NotFound)?;
        match self.link_ready(wanted, NameOf::Entry, dir, name)? {
            true => Ok(()),
            false => dir.hardlink(name, path),
        }
    }

    /// True if the raw store has the entry, but it was modified.
    pub fn is_raw_changed(&self, wanted: &Wanted) -> bool {
        match self.raw.as_ref().map(|raw| raw.find(&wanted.key(), wanted.size)) {
            Some(Ok(raw::Lookup::Unfit)) => true,
            Some(Ok(raw::Lookup::Ready(file))) => !self.is_believed(&file, wanted),
            _ => false,
        }
    }

    /// An open descriptor that is still valid.
    fn warm(&self, key: &RawKey, wanted: &Wanted) -> Option<RawFile> {
        let file = self.descriptors.get(key)?;
        if file.len() == wanted.size && file.is_intact() && self.is_believed(&file, wanted) {
            return Some(file);
        }
        self.descriptors.remove(key);
        None
    }

    /// Counts a hit for `file`, and records its origin.
    fn hit(&self, file: RawFile) -> RawFile {
        self.observer.count(Counter::RawHits, 1);
        origin::note(if file.path().is_some() { Origin::Raw } else { Origin::Memory });
        file
    }

    /// True unless content must be hashed on open and has the wrong digest.
    fn is_believed(&self, file: &RawFile, wanted: &Wanted) -> bool {
        !self.paranoid || verify::check_file(file.as_file(), &wanted.digest, wanted.size).is_ok()
    }

    /// Opens content that has no open descriptor. When descriptors run out, older ones are closed and it is retried.
    fn cold(&self, key: &RawKey, wanted: &Wanted) -> Result<RawFile, StoreError> {
        loop {
            match self.try_cold(key, wanted) {
                Err(error) if error.io().is_some_and(is_descriptor_shortage) && self.descriptors.halve() => {}
                outcome => return outcome,
            }
        }
    }

    fn try_cold(&self, key: &RawKey, wanted: &Wanted) -> Result<RawFile, StoreError> {
        let Some(raw) = &self.raw else {
            return self.serve_from_memory(wanted, None);
        };
        let mut heals = false;
        match raw.find(key, wanted.size) {
            Ok(raw::Lookup::Ready(file)) if self.is_believed(&file, wanted) => {
                self.observer.count(Counter::RawHits, 1);
                origin::note(Origin::Raw);
                return Ok(file);
            }
            Ok(raw::Lookup::Ready(_) | raw::Lookup::Unfit) => heals = true,
            Ok(raw::Lookup::Absent) => {}
            Err(source) => {
                let path = raw.path().join(key.path()).into_boxed_path();
                let error = StoreError::RawStore { digest: key.digest, path, source };
                return self.serve_from_memory(wanted, Some(error));
            }
        }
        match self.with_blob(wanted, |blob| raw.ingest(key, wanted.size, blob)) {
            Ok(file) => {
                self.count_ingested(wanted, heals);
                origin::note(Origin::Blob);
                Ok(file)
            }
            Err(error @ (StoreError::RawStore { .. } | StoreError::Sink { .. })) => {
                self.serve_from_memory(wanted, Some(error))
            }
            Err(error) if error.is_damage() => self.supplied(wanted, error),
            Err(error) => Err(error),
        }
    }

    /// Opens the blob for `work`; retries if it was being overwritten meanwhile and so appeared damaged.
    fn with_blob<T>(
        &self,
        wanted: &Wanted,
        work: impl Fn(&Blob) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut pause = Duration::from_millis(1);
        loop {
            let blob = self.library.open_blob(&wanted.digest)?;
            match work(&blob) {
                Err(error) if error.is_damage() && blob.is_disturbed() && pause < LONGEST_PAUSE => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
    }

    fn count_ingested(&self, wanted: &Wanted, healed: bool) {
        self.observer.count(Counter::BlobsIngested, 1);
        self.observer.count(Counter::BytesIngested, wanted.size);
        if healed {
            log::warn!(
                "Raw store entry of blob {} was changed by another program; created again",
                wanted.digest
            );
            self.observer.count(Counter::RawHealed, 1);
        }
    }

    /// Counts content that is not available; of the supplier, it is also reported.
    fn note_failure(&self, error: &StoreError) {
        self.observer.count(Counter::BlobErrors, 1);
        if let StoreError::Supply { .. } = error {
            self.observer.fallback(UNSUPPLIED, &chain(error).to_string());
        }
    }

    /// Serves from memory because of `reason`; a shortage of descriptors does not count, since it can be resolved.
    fn serve_from_memory(&self, wanted: &Wanted, reason: Option<StoreError>) -> Result<RawFile, StoreError> {
        if let Some(reason) = reason {
            if reason.io().is_some_and(is_descriptor_shortage) {
                return Err(reason);
            }
            if !self.warned.swap(true, Ordering::Relaxed) {
                self.observer.fallback("raw store", &format!("{}; serving from memory", chain(&reason)));
            }
        }
        let blob = match self.library.open_blob(&wanted.digest) {
            Err(error) if error.is_damage() && self.supplied.is_some() => {
                return self.supplied(wanted, error);
            }
            opened => opened?,
        };
        let file = self.in_memory(wanted, |sink| blob.stream(wanted.size, sink))?;
        origin::note(Origin::Memory);
        Ok(file)
    }

    /// A file in memory with the content that `fill` writes and verifies.
    fn in_memory(
        &self,
        wanted: &Wanted,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
    ) -> Result<RawFile, StoreError> {
        let file = memory::in_memory(wanted.size, |sink| fill(sink).map_err(MemoryError::Store));
        let file = file.map_err(|error| match error {
            MemoryError::Store(error) => error,
            MemoryError::Io(source) => StoreError::Sink { digest: wanted.digest, source },
        })?;
        self.observer.count(Counter::ServedFromMemory, 1);
        Ok(file)
    }
}

/// What can fail while content is written to memory.
enum MemoryError {
    Store(StoreError),
    Io(io::Error),
}

impl From<io::Error> for MemoryError {
    fn from(error: io::Error) -> MemoryError {
        MemoryError::Io(error)
    }
}

impl BlobSource for Store {
    fn open(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        let key = wanted.key();
        loop {
            if let Some(file) = self.warm(&key, wanted) {
                return Ok(self.hit(file));
            }
            let Some(_ticket) = self.in_flight.enter(key) else { continue };
            // Another thread may have finished between our lookup and our ticket.
            if let Some(file) = self.warm(&key, wanted) {
                return Ok(self.hit(file));
            }
            let opened = self.cold(&key, wanted);
            match &opened {
                Ok(file) => {
                    if file.path().is_none() {
                        self.note_in_memory(key, wanted);
                    }
                    self.descriptors.put(key, file.clone());
                }
                Err(error) => self.note_failure(error),
            }
            return opened;
        }
    }

    fn part(&self, wanted: &Wanted, range: Range<u64>) -> Result<Part, StoreError> {
        self.supplied_part(wanted, &range)
    }

    fn is_local(&self, wanted: &Wanted) -> bool {
        self.supplied.is_none() || self.has_whole(wanted)
    }

    fn read(&self, wanted: &Wanted, offset: u64, out: &mut [u8]) -> Result<io::Result<()>, StoreError> {
        if self.read_in_pieces(wanted, offset, out).is_some() {
            return Ok(Ok(()));
        }
        let range = offset..offset.saturating_add(out.len() as u64);
        Ok(self.part(wanted, range)?.read_exact_at(out, offset))
    }
}

impl<S: BlobSource + ?Sized> BlobSource for Arc<S> {
    fn open(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        (**self).open(wanted)
    }

    fn part(&self, wanted: &Wanted, range: Range<u64>) -> Result<Part, StoreError> {
        (**self).part(wanted, range)
    }

    fn is_local(&self, wanted: &Wanted) -> bool {
        (**self).is_local(wanted)
    }

    fn read(&self, wanted: &Wanted, offset: u64, out: &mut [u8]) -> Result<io::Result<()>, StoreError> {
        (**self).read(wanted, offset, out)
    }
}
