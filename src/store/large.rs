//! Large content that is not kept as a whole, because the raw store cannot be used and memory is bounded: it is decoded in pieces.
//!
//! The first pass verifies the whole blob and records the hash of each piece. Each later read continues to decode where the last one
//! ended, and returns only pieces whose hash is right; a read before that point restarts from the beginning. So a file that is read
//! from start to end is decoded once more, not once per request, even if several files are read alternately. Memory is bounded:
//! [`KEPT`] pieces and a decoder, and 32 bytes for each piece.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::rcc::digest::{Digest, Hasher, Regime};
use crate::store::error::StoreError;
use crate::store::layout::RawKey;
use crate::store::library::Blob;
use crate::store::observe::origin::{self, Origin};
use crate::store::observe::{Counter, Observer};
use crate::store::{Store, Wanted};

/// The size of a piece: that of the kernel's largest request.
const PIECE: u64 = 1 << 20;
/// How many pieces of one file are kept: threads read adjacent pieces in any order.
const KEPT: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// How many files are read in pieces at the same time.
const FILES: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// After more restarts from the beginning than this, the whole file replaces another one in memory.
const MOST_RESTARTS: u64 = 4;

/// The large files of a store that were in memory as a whole before, and whether they are read in pieces now.
#[derive(Debug)]
pub struct Large(Mutex<LruCache<RawKey, Option<Arc<InPieces>>>>);

impl Default for Large {
    fn default() -> Large {
        Large(Mutex::new(LruCache::new(FILES)))
    }
}

impl Large {
    fn get(&self, key: &RawKey) -> Option<Option<Arc<InPieces>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: RawKey, pieces: Option<Arc<InPieces>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, pieces);
    }
}

impl Store {
    /// True if several files of this size do not fit in memory.
    fn is_large(&self, wanted: &Wanted) -> bool {
        wanted.size > self.descriptors.memory_limit() / 2
    }

    /// Notes that the content is in memory as a whole. If it is evicted, it is read in pieces.
    pub(super) fn note_in_memory(&self, key: RawKey, wanted: &Wanted) {
        if self.is_large(wanted) {
            self.large.put(key, None);
        }
    }

    /// Reads large content that was evicted from memory; `None` if it must be opened as a whole.
    pub(super) fn read_in_pieces(&self, wanted: &Wanted, offset: u64, out: &mut [u8]) -> Option<()> {
        if self.paranoid || !self.is_large(wanted) {
            return None;
        }
        let key = wanted.key();
        loop {
            let known = self.large.get(&key)?;
            if self.warm(&key, wanted).is_some() {
                return None;
            }
            let Some(pieces) = known else {
                let Some(_ticket) = self.in_flight.enter(key) else { continue };
                let pieces = self.in_pieces(wanted)?;
                self.large.put(key, Some(Arc::new(pieces)));
                continue;
            };
            match pieces.read(offset, out, &*self.observer) {
                Ok(true) => {
                    origin::note(Origin::Memory);
                    return Some(());
                }
                Ok(false) => {
                    log::debug!("{} is not read in order: it is kept in memory again", wanted.digest)
                }
                // Opening it as a whole verifies it, and reports what is wrong.
                Err(error) => log::warn!("Blob {} cannot be read in pieces: {error}", wanted.digest),
            }
            self.large.put(key, None);
            return None;
        }
    }

    fn in_pieces(&self, wanted: &Wanted) -> Option<InPieces> {
        let pieces = self.library.open_blob(&wanted.digest).and_then(|blob| InPieces::new(blob, wanted.size));
        self.observer.count(Counter::DecodedInPieces, 1);
        pieces.inspect_err(|error| log::debug!("{error}")).ok()
    }
}

/// One file that is read in pieces.
pub struct InPieces {
    blob: Blob,
    size: u64,
    hashes: Vec<Digest>,
    decoding: Mutex<Decoding>,
}

impl std::fmt::Debug for InPieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InPieces({})", self.blob.digest())
    }
}

struct Decoding {
    /// The content from piece `next` on.
    from: Option<Box<dyn Read + Send>>,
    next: u64,
    restarts: u64,
    kept: LruCache<u64, Arc<[u8]>>,
}

impl InPieces {
    /// Verifies the whole blob.
    fn new(blob: Blob, size: u64) -> Result<InPieces, StoreError> {
        let mut hashing = Hashing { hasher: Hasher::new(Regime::Sha256), len: 0, hashes: Vec::new() };
        blob.stream(size, &mut hashing)?;
        let hashes = hashing.finish();
        let decoding = Decoding { from: None, next: 0, restarts: 0, kept: LruCache::new(KEPT) };
        Ok(InPieces { blob, size, hashes, decoding: Mutex::new(decoding) })
    }

    /// Fills `out` from `offset`; false if reads restarted from the beginning too often.
    fn read(&self, offset: u64, out: &mut [u8], observer: &dyn Observer) -> io::Result<bool> {
        let mut decoding = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            if decoding.restarts > MOST_RESTARTS {
                return Ok(false);
            }
            let piece = self.piece(&mut decoding, at / PIECE, observer);
            let piece = piece.inspect_err(|_| decoding.from = None)?;
            let within = usize::try_from(at % PIECE).unwrap_or(usize::MAX);
            let rest =
                piece.get(within..).filter(|rest| !rest.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = rest.len().min(out.len() - done);
            out[done..done + len].copy_from_slice(&rest[..len]);
            done += len;
        }
        Ok(true)
    }

    fn piece(&self, decoding: &mut Decoding, wanted: u64, observer: &dyn Observer) -> io::Result<Arc<[u8]>> {
        if let Some(piece) = decoding.kept.get(&wanted) {
            return Ok(Arc::clone(piece));
        }
        if decoding.from.is_none() || wanted < decoding.next {
            decoding.restarts += u64::from(decoding.from.is_some());
            decoding.from = Some(self.blob.content(self.size)?);
            decoding.next = 0;
            observer.count(Counter::DecodedInPieces, 1);
        }
        loop {
            let at = decoding.next;
            let hash = usize::try_from(at).ok().and_then(|at| self.hashes.get(at));
            let (Some(hash), Some(from)) = (hash, decoding.from.as_mut()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let len = self.size.saturating_sub(at * PIECE).min(PIECE);
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            from.read_exact(&mut bytes)?;
            if Digest::of(Regime::Sha256, &bytes) != *hash {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it was changed since it was verified",
                ));
            }
            let piece: Arc<[u8]> = bytes.into();
            decoding.kept.put(at, Arc::clone(&piece));
            decoding.next += 1;
            if at == wanted {
                return Ok(piece);
            }
        }
    }
}

/// Hashes each piece of what is written to it.
struct Hashing {
    hasher: Hasher,
    len: u64,
    hashes: Vec<Digest>,
}

impl Hashing {
    fn end_piece(&mut self) {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(Regime::Sha256));
        self.hashes.push(hasher.finish());
        self.len = 0;
    }

    fn finish(mut self) -> Vec<Digest> {
        if self.len > 0 {
            self.end_piece();
        }
        self.hashes
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(PIECE - self.len).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        if self.len == PIECE {
            self.end_piece();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
