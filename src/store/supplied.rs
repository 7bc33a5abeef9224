//! Content from a supplier: verified in full, like all other content.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::observe::origin::{self, Origin};
use super::{
    BlobSource, Counter, MemoryError, RawFile, Store, StoreError, Supplier, Supply, Wanted, intake, memory,
    raw,
};

/// How often the store looks for content that was reportedly added meanwhile, before it counts as missing.
const LOOKS: u32 = 3;

impl Store {
    /// Accepts unrequested content and keeps it if it is valid; fails without a raw store.
    pub fn admit(&self, wanted: &Wanted, content: &mut dyn Read) -> Result<RawFile, StoreError> {
        let place = (&wanted.digest, wanted.size);
        let refused = || io::Error::other("there is no raw store");
        let raw = self.raw().ok_or_else(|| StoreError::Sink { digest: wanted.digest, source: refused() })?;
        let file = raw.ingest_with(&wanted.key(), wanted.size, |sink| intake::pass(content, place, sink))?;
        self.count_ingested(wanted, false);
        Ok(file)
    }

    /// Writes the content to `sink` while verifying it, directly from the blob if there is one; after an error the sink contains
    /// garbage.
    pub fn stream_to(&self, wanted: &Wanted, sink: &mut dyn Write) -> Result<(), StoreError> {
        if self.supplier.is_none() || self.library().exists(&wanted.digest) {
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

    /// Requests content that the library lacks from the supplier; `missing` is the library's error.
    pub(super) fn supplied(&self, wanted: &Wanted, missing: StoreError) -> Result<RawFile, StoreError> {
        let supplied = self.asked_for(wanted, missing)?;
        origin::note(Origin::Remote);
        self.observer.count(Counter::BlobsFetched, 1);
        self.observer.count(Counter::BytesFetched, wanted.size);
        Ok(supplied)
    }

    fn asked_for(&self, wanted: &Wanted, missing: StoreError) -> Result<RawFile, StoreError> {
        let Some(supplier) = &self.supplier else { return Err(missing) };
        let Some(raw) = self.raw() else { return self.supplied_to_memory(wanted, missing) };
        for _ in 0..LOOKS {
            match ask(supplier, wanted)? {
                Supply::Look => {
                    if let Ok(raw::Lookup::Ready(file)) = raw.find(&wanted.key(), wanted.size) {
                        return Ok(file);
                    }
                }
                Supply::Content(mut content) => {
                    return match self.admit(wanted, &mut content) {
                        Err(StoreError::RawStore { .. } | StoreError::Sink { .. }) => {
                            self.supplied_to_memory(wanted, missing)
                        }
                        outcome => outcome,
                    };
                }
            }
        }
        Err(missing)
    }

    /// As [`Store::supplied`], where the raw store is not available.
    pub(super) fn supplied_to_memory(
        &self,
        wanted: &Wanted,
        missing: StoreError,
    ) -> Result<RawFile, StoreError> {
        let Some(supplier) = &self.supplier else { return Err(missing) };
        let place = (&wanted.digest, wanted.size);
        for _ in 0..LOOKS {
            let Supply::Content(mut content) = ask(supplier, wanted)? else { continue };
            let file = memory::in_memory(wanted.size, |sink| {
                intake::pass(&mut content, place, sink).map_err(MemoryError::Store)
            });
            let file = file.map_err(|error| match error {
                MemoryError::Store(error) => error,
                MemoryError::Io(source) => StoreError::Sink { digest: wanted.digest, source },
            })?;
            self.observer.count(Counter::ServedFromMemory, 1);
            origin::note(Origin::Remote);
            return Ok(file);
        }
        Err(missing)
    }
}

fn ask(supplier: &Arc<dyn Supplier>, wanted: &Wanted) -> Result<Supply, StoreError> {
    let asked = supplier.supply(wanted);
    asked.map_err(|source| StoreError::Supply { digest: wanted.digest, source })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::rcc::digest::{Digest, Regime};
    use crate::store::{Library, Limits};

    /// Returns the same bytes for every request.
    struct Gives(&'static [u8], Mutex<u32>);

    impl Supplier for Gives {
        fn supply(&self, _: &Wanted) -> io::Result<Supply> {
            *self.1.lock().unwrap() += 1;
            Ok(Supply::Content(Box::new(self.0)))
        }
    }

    fn opened(content: &'static [u8]) -> (Result<Vec<u8>, StoreError>, usize) {
        let temp = tempfile::tempdir().unwrap();
        let library = Library::open(temp.path()).unwrap();
        let raw = temp.path().join("raw");
        let observer = Arc::new(crate::store::observe::Tally::new());
        let supplier = Arc::new(Gives(content, Mutex::new(0)));
        let store = Store::open(library, raw.as_path(), Limits::default(), observer);
        let store = store.with_supplier(Arc::clone(&supplier) as Arc<dyn Supplier>);
        let wanted = Wanted { digest: Digest::of(Regime::Sha256, b"content"), size: 7, mode: 0o644 };
        let got = store.open(&wanted).map(|file| file.read_all().unwrap());
        let entries = std::fs::read_dir(raw.join(format!("{:02x}", wanted.digest.as_bytes()[0])));
        (got, entries.map_or(0, Iterator::count))
    }

    #[test]
    fn right_content_is_kept_and_wrong_content_leaves_nothing() {
        let (got, kept) = opened(b"content");
        assert_eq!((got.unwrap(), kept), (b"content".to_vec(), 1));
        for wrong in [&b"Content"[..], b"conten", b"content!", b""] {
            let (got, kept) = opened(wrong);
            assert!(got.unwrap_err().is_damage());
            assert_eq!(kept, 0, "{wrong:?}");
        }
    }
}
