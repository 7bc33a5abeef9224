//! Content from a supplier: verified, like all other content; large files piece by piece, as they are read.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::observe::origin::{self, Origin};
use super::pieces::{self, PIECE, Part, Partial};
use super::{BlobSource, Counter, RawFile, Store, StoreError, Supplier, Wanted, intake, raw};
use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::sys::fs::place::Place;
use crate::sys::process::this_process;

/// How often the store looks for content that was reportedly added meanwhile, before it counts as missing.
const LOOKS: u32 = 3;
/// The maximum number of partial files kept open, if the process limit is at least sixteen times that.
const OPEN_PARTIAL: u64 = 256;

/// Where content comes from that the library lacks.
pub(super) struct Supplied {
    supplier: Arc<dyn Supplier>,
    /// The directory of files that are not whole.
    dir: Option<Place>,
    open: Mutex<LruCache<Digest, Arc<Partial>>>,
}

impl Supplied {
    pub(super) fn new(supplier: Arc<dyn Supplier>, dir: Option<Place>) -> Supplied {
        let open = Mutex::new(LruCache::new(this_process::descriptor_share(16, OPEN_PARTIAL)));
        Supplied { supplier, dir, open }
    }

    fn open(&self) -> MutexGuard<'_, LruCache<Digest, Arc<Partial>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, digest: &Digest) -> Option<Arc<Partial>> {
        self.open().get(digest).cloned()
    }

    /// The content as far as it is here: in a file, or in memory.
    fn partial(&self, wanted: &Wanted, in_memory: bool) -> Result<Arc<Partial>, StoreError> {
        if let Some(known) = self.known(&wanted.digest) {
            return Ok(known);
        }
        let unknown = || io::Error::other("the digests of its pieces are not known");
        let checks = self.supplier.checks(&wanted.digest);
        let checks = checks.ok_or_else(|| StoreError::Supply { digest: wanted.digest, source: unknown() })?;
        let place = self.dir.as_ref().filter(|_| !in_memory).map(|dir| dir.below(wanted.digest.to_string()));
        let partial = Partial::open(place, wanted.size, checks);
        let partial = Arc::new(partial.map_err(|source| StoreError::Sink { digest: wanted.digest, source })?);
        // Another thread may have opened it meanwhile: all must use the same, since it knows what was verified.
        Ok(Arc::clone(self.open().get_or_insert(wanted.digest, || partial)))
    }

    fn forget(&self, digest: &Digest) {
        let forgotten = self.open().pop(digest);
        drop(forgotten);
    }
}

impl Store {
    /// Accepts unrequested content and keeps it if it is valid; fails without a raw store.
    fn admit(&self, wanted: &Wanted, content: &mut dyn Read) -> Result<RawFile, StoreError> {
        let place = (&wanted.digest, wanted.size);
        let refused = || io::Error::other("there is no raw store");
        let raw = self.raw().ok_or_else(|| StoreError::Sink { digest: wanted.digest, source: refused() })?;
        let file = raw.ingest_with(&wanted.key(), wanted.size, |sink| intake::pass(content, place, sink))?;
        self.count_ingested(wanted, false);
        self.observer.count(Counter::BlobsFetched, 1);
        Ok(file)
    }

    /// Accepts a piece that no reader has requested, and keeps it if it is valid.
    pub fn arrived(&self, wanted: &Wanted, piece: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(supplied) = &self.supplied else { return Ok(()) };
        if wanted.size <= PIECE {
            self.observer.count(Counter::BytesFetched, bytes.len() as u64);
            return self.admit(wanted, &mut &bytes[..]).map(drop);
        }
        let partial = supplied.partial(wanted, false)?;
        self.put(wanted, &partial, piece, bytes)?;
        if partial.is_whole() { self.settled(supplied, wanted, &partial).map(drop) } else { Ok(()) }
    }

    /// Those of `pieces` that are not on this machine.
    pub fn lacking(&self, wanted: &Wanted, pieces: Range<u64>) -> Vec<u64> {
        if self.has_whole(wanted) {
            return Vec::new();
        }
        match self.supplied.as_ref().filter(|_| wanted.size > PIECE) {
            Some(supplied) => {
                let missing = |partial: Arc<Partial>| partial.missing(pieces.clone()).ok();
                let missing = supplied.partial(wanted, false).ok().and_then(missing);
                missing.unwrap_or_else(|| pieces.collect())
            }
            None => pieces.collect(),
        }
    }

    /// True if all of the content is here, as a blob or as an entry of the raw store.
    pub(super) fn has_whole(&self, wanted: &Wanted) -> bool {
        let find =
            |raw: &raw::RawStore| matches!(raw.find(&wanted.key(), wanted.size), Ok(raw::Lookup::Ready(_)));
        self.raw().is_some_and(find) || self.library().exists(&wanted.digest)
    }

    /// Writes the content to `sink` while verifying it, directly from the blob if there is one; after an error the sink contains
    /// garbage.
    pub fn stream_to(&self, wanted: &Wanted, sink: &mut dyn Write) -> Result<(), StoreError> {
        if self.supplied.is_none() || self.library().exists(&wanted.digest) {
            return self.library().stream(&wanted.digest, wanted.size, sink);
        }
        let file = self.open(wanted)?;
        let failed = |source| StoreError::Sink { digest: wanted.digest, source };
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        while at < wanted.size {
            let len = file.read_at(&mut buffer, at).map_err(failed)?;
            if len == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            sink.write_all(&buffer[..len]).map_err(failed)?;
            at += len as u64;
        }
        Ok(())
    }

    /// [`BlobSource::part`]: all of the content, but of a large file that is not here only the requested pieces, from the supplier.
    pub(super) fn supplied_part(&self, wanted: &Wanted, range: &Range<u64>) -> Result<Part, StoreError> {
        let whole = || self.open(wanted).map(Part::Whole);
        let supplied = self.supplied.as_ref().filter(|_| wanted.size > PIECE && !self.is_paranoid());
        let Some(supplied) = supplied else { return whole() };
        let partial = match supplied.known(&wanted.digest) {
            Some(partial) => partial,
            None => {
                // An open descriptor answers before the raw store and the library are searched.
                if let Some(file) = self.warm(&wanted.key(), wanted) {
                    return Ok(Part::Whole(self.hit(file)));
                }
                if self.has_whole(wanted) {
                    return whole();
                }
                match supplied.partial(wanted, false) {
                    Ok(partial) => partial,
                    Err(error) => return self.without_pieces(supplied, wanted, &error),
                }
            }
        };
        match self.fetch(supplied, wanted, &partial, partial.pieces_of(range), true) {
            // The last piece has arrived: from now on it is like any other content.
            Ok(()) if partial.is_whole() => whole(),
            Ok(()) => Ok(Part::Pieces(partial)),
            Err(error @ StoreError::Sink { .. }) => self.without_pieces(supplied, wanted, &error),
            Err(error) => {
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    /// Fetches all of a file, because no partial file can be written: usually the disk is full.
    fn without_pieces(
        &self,
        supplied: &Supplied,
        wanted: &Wanted,
        why: &StoreError,
    ) -> Result<Part, StoreError> {
        self.observer.fallback("partial files", &format!("{}; fetching whole files", chain(why)));
        supplied.forget(&wanted.digest);
        self.open(wanted).map(Part::Whole)
    }

    /// Requests content that the library lacks from the supplier; `missing` is the library's error.
    pub(super) fn supplied(&self, wanted: &Wanted, missing: StoreError) -> Result<RawFile, StoreError> {
        let Some(supplied) = &self.supplied else { return Err(missing) };
        let file = match wanted.size <= PIECE {
            true => self.small(supplied, wanted, missing)?,
            false => self.large(supplied, wanted)?,
        };
        origin::note(Origin::Remote);
        Ok(file)
    }

    /// Content of one piece.
    fn small(
        &self,
        supplied: &Supplied,
        wanted: &Wanted,
        missing: StoreError,
    ) -> Result<RawFile, StoreError> {
        for _ in 0..LOOKS {
            let mut came = None;
            let asked = supplied.supplier.supply(wanted, &[0], &mut |_, bytes| came = Some(bytes.to_vec()));
            asked.map_err(|source| StoreError::Supply { digest: wanted.digest, source })?;
            if let Some(bytes) = came {
                self.observer.count(Counter::BytesFetched, bytes.len() as u64);
                return match self.admit(wanted, &mut &bytes[..]) {
                    Err(StoreError::RawStore { .. } | StoreError::Sink { .. }) => {
                        self.to_memory(wanted, &mut &bytes[..])
                    }
                    outcome => outcome,
                };
            }
            if let Some(Ok(raw::Lookup::Ready(file))) =
                self.raw().map(|raw| raw.find(&wanted.key(), wanted.size))
            {
                return Ok(file);
            }
        }
        Err(missing)
    }

    /// Content of several pieces, all of them.
    fn large(&self, supplied: &Supplied, wanted: &Wanted) -> Result<RawFile, StoreError> {
        let fetched = |in_memory: bool| {
            let partial = supplied.partial(wanted, in_memory)?;
            self.fetch(supplied, wanted, &partial, 0..pieces::pieces(wanted.size), false)?;
            self.settled(supplied, wanted, &partial)
        };
        match fetched(self.raw().is_none()) {
            Err(StoreError::Sink { .. }) => {
                supplied.forget(&wanted.digest);
                fetched(true)
            }
            outcome => outcome,
        }
    }

    /// Makes `needed` available in `partial`; for a reader, also what it will probably need next.
    fn fetch(
        &self,
        supplied: &Supplied,
        wanted: &Wanted,
        partial: &Partial,
        needed: Range<u64>,
        for_reader: bool,
    ) -> Result<(), StoreError> {
        let sink = |source| StoreError::Sink { digest: wanted.digest, source };
        let supply = |source| StoreError::Supply { digest: wanted.digest, source };
        for look in 0..=LOOKS {
            let missing = match for_reader && look == 0 {
                true => partial.missing_ahead(needed.clone()),
                false => partial.missing(needed.clone()),
            };
            let missing = missing.map_err(sink)?;
            if missing.is_empty() {
                origin::note(if look == 0 { Origin::Raw } else { Origin::Remote });
                return Ok(());
            }
            let mut failed = None;
            let asked = supplied.supplier.supply(wanted, &missing, &mut |piece, bytes| {
                if let Err(error) = self.put(wanted, partial, piece, bytes) {
                    failed.get_or_insert(error);
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            asked.map_err(supply)?;
        }
        Err(supply(io::Error::other("the pieces did not arrive")))
    }

    fn put(&self, wanted: &Wanted, partial: &Partial, piece: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let put = partial.put(piece, bytes);
        match put.map_err(|source| StoreError::Sink { digest: wanted.digest, source })? {
            true => {
                self.observer.count(Counter::BytesFetched, bytes.len() as u64);
                Ok(())
            }
            false => Err(intake::wrong_piece(&wanted.digest, piece)),
        }
    }

    /// Verifies whole content and makes it an entry of the raw store, or keeps it in memory.
    fn settled(
        &self,
        supplied: &Supplied,
        wanted: &Wanted,
        partial: &Partial,
    ) -> Result<RawFile, StoreError> {
        let file = match self.admit(wanted, &mut partial.reader()) {
            Err(StoreError::RawStore { .. } | StoreError::Sink { .. }) => {
                return self.to_memory(wanted, &mut partial.reader());
            }
            outcome => outcome,
        };
        // If it is wrong as a whole, so is the head that describes its pieces: nothing of it is kept.
        if file.as_ref().map_or_else(StoreError::is_damage, |_| true) {
            partial.remove();
            supplied.forget(&wanted.digest);
        }
        file
    }

    /// Verified content in memory, where the raw store is not available.
    fn to_memory(&self, wanted: &Wanted, content: &mut dyn Read) -> Result<RawFile, StoreError> {
        let place = (&wanted.digest, wanted.size);
        self.in_memory(wanted, |sink| intake::pass(content, place, sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::store::pieces::{Checks, pieces};
    use crate::store::{Library, Limits};

    /// Returns pieces of the same bytes for every request.
    struct Gives {
        content: Vec<u8>,
        checks: Checks,
        asked: Mutex<Vec<u64>>,
    }

    impl Gives {
        fn of(content: &[u8], declared: &[u8]) -> Arc<Gives> {
            let check = |piece: &[u8]| match Digest::of(Regime::Sha256, piece) {
                Digest::Sha256(check) => check,
                Digest::SipHash128(_) => unreachable!(),
            };
            let checks = declared.chunks(PIECE as usize).map(check).collect();
            Arc::new(Gives { content: content.to_vec(), checks, asked: Mutex::default() })
        }
    }

    impl Supplier for Gives {
        fn checks(&self, _: &Digest) -> Option<Checks> {
            Some(Arc::clone(&self.checks))
        }

        fn supply(&self, _: &Wanted, pieces: &[u64], take: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
            self.asked.lock().unwrap().extend(pieces);
            for piece in pieces {
                take(*piece, self.content.chunks(PIECE as usize).nth(*piece as usize).unwrap_or_default());
            }
            Ok(())
        }
    }

    fn store(temp: &std::path::Path, supplier: &Arc<Gives>) -> Store {
        let observer = Arc::new(crate::store::observe::Tally::new());
        let library = Library::open(temp).unwrap();
        let store = Store::open(library, temp.join("raw").as_path(), Limits::default(), observer);
        let dir = Place::top(temp.join("state")).below("partial");
        store.with_supplier(Arc::clone(supplier) as Arc<dyn Supplier>, Some(dir))
    }

    /// The number of entries of the raw store.
    fn kept(temp: &std::path::Path) -> usize {
        let dirs = std::fs::read_dir(temp.join("raw")).into_iter().flatten().flatten();
        let entries = dirs.flat_map(|dir| std::fs::read_dir(dir.path()).into_iter().flatten().flatten());
        entries.filter(|entry| entry.file_name().len() > 64).count()
    }

    fn wanted(content: &[u8]) -> Wanted {
        Wanted { digest: Digest::of(Regime::Sha256, content), size: content.len() as u64, mode: 0o644 }
    }

    #[test]
    fn right_content_is_kept_and_wrong_content_leaves_nothing() {
        for (given, is_right) in [
            (&b"content"[..], true),
            (b"Content", false),
            (b"conten", false),
            (b"content!", false),
            (b"", false),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let store = store(temp.path(), &Gives::of(given, b"content"));
            let got = store.open(&wanted(b"content"));
            match is_right {
                true => assert_eq!(got.unwrap().read_all().unwrap(), b"content"),
                false => assert!(got.unwrap_err().is_damage()),
            }
            assert_eq!(kept(temp.path()), usize::from(is_right), "{given:?}");
        }
    }

    fn large() -> Vec<u8> {
        (0..PIECE * 9 + 7).map(|at| (at / 3 % 251) as u8).collect()
    }

    #[test]
    fn a_part_of_a_large_file_fetches_its_pieces_and_enters_the_raw_store_when_it_is_whole() {
        let (temp, content) = (tempfile::tempdir().unwrap(), large());
        let supplier = Gives::of(&content, &content);
        let (store, wanted) = (store(temp.path(), &supplier), wanted(&content));
        let read = |store: &Store, range: Range<u64>| {
            let mut out = vec![0; (range.end - range.start) as usize];
            store.part(&wanted, range.clone()).unwrap().read_exact_at(&mut out, range.start).unwrap();
            assert_eq!(out, content[range.start as usize..range.end as usize]);
        };
        read(&store, PIECE * 4 - 1..PIECE * 4 + 1);
        assert_eq!(*supplier.asked.lock().unwrap(), [3, 4]);
        assert_eq!(kept(temp.path()), 0);
        // Another process uses what is there, after hashing it.
        let next = self::store(temp.path(), &supplier);
        read(&next, PIECE * 3..PIECE * 5);
        assert_eq!(supplier.asked.lock().unwrap().len(), 2);
        (0..pieces(wanted.size)).for_each(|at| read(&next, at * PIECE..at * PIECE + 7));
        assert_eq!(supplier.asked.lock().unwrap().len(), 10, "nothing twice");
        assert_eq!(kept(temp.path()), 1);
        assert_eq!(std::fs::read_dir(temp.path().join("state/partial")).unwrap().count(), 0);
        assert!(matches!(next.part(&wanted, 0..1).unwrap(), Part::Whole(_)));
        assert!(matches!(store.part(&wanted, PIECE * 3..PIECE * 4).unwrap(), Part::Pieces(_)));
        assert_eq!(store.open(&wanted).unwrap().read_all().unwrap(), content);
        assert_eq!(supplier.asked.lock().unwrap().len(), 10);
    }

    #[test]
    fn a_part_of_a_file_that_is_open_as_a_whole_is_read_from_there_without_looking_for_it() {
        let (temp, content) = (tempfile::tempdir().unwrap(), large());
        let supplier = Gives::of(&content, &content);
        let (store, wanted) = (store(temp.path(), &supplier), wanted(&content));
        store.open(&wanted).unwrap();
        // The file is as before, but can no longer be found.
        let aside = temp.path().join("aside");
        std::fs::create_dir(&aside).unwrap();
        for dir in std::fs::read_dir(temp.path().join("raw")).unwrap().map(|entry| entry.unwrap()) {
            std::fs::rename(dir.path(), aside.join(dir.file_name())).unwrap();
        }
        let mut out = [0; 7];
        let part = store.part(&wanted, PIECE..PIECE + 7).unwrap();
        part.read_exact_at(&mut out, PIECE).unwrap();
        assert!(matches!(part, Part::Whole(_)));
        assert_eq!(out, content[PIECE as usize..][..7]);
        assert_eq!(supplier.asked.lock().unwrap().len(), 10, "nothing twice");
    }

    #[test]
    fn a_head_with_other_pieces_never_reaches_the_raw_store() {
        let (temp, content) = (tempfile::tempdir().unwrap(), large());
        let mut other = content.clone();
        other[7] ^= 1;
        // The pieces are as the head says, but the whole is not what the catalog says.
        let store = store(temp.path(), &Gives::of(&other, &other));
        assert!(store.open(&wanted(&content)).unwrap_err().is_damage());
        assert_eq!(kept(temp.path()), 0);
        assert_eq!(std::fs::read_dir(temp.path().join("state/partial")).unwrap().count(), 0);
        // The pieces are not as the head says.
        let wrong = self::store(temp.path(), &Gives::of(&other, &content));
        assert!(wrong.part(&wanted(&content), 0..1).unwrap_err().is_damage());
    }
}
