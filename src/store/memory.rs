//! Content in memory: files where the raw store cannot be used, and, for tests, sources without a hololib and injected failures.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::rcc::digest::{Digest, Regime};
use crate::store::error::StoreError;
use crate::store::rawfile::RawFile;
use crate::store::{BlobSource, Wanted};
use crate::sys::fs::memfd;

/// Writes content through `fill` into a sealed file in memory.
pub(super) fn in_memory<E: From<io::Error>>(
    size: u64,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<RawFile, E> {
    let mut file = memfd::create()?;
    fill(&mut file)?;
    memfd::seal(&file)?;
    Ok(RawFile::in_memory(file, size))
}

/// Contents by digest.
#[derive(Debug, Default)]
pub struct MemorySource(HashMap<Digest, Vec<u8>>);

impl MemorySource {
    /// A source without contents.
    pub fn new() -> MemorySource {
        MemorySource::default()
    }

    /// Adds `content` under its digest in `regime`.
    pub fn add(&mut self, regime: Regime, content: &[u8]) -> Digest {
        let digest = Digest::of(regime, content);
        self.0.insert(digest, content.to_vec());
        digest
    }
}

impl BlobSource for MemorySource {
    fn open(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        let digest = wanted.digest;
        let path = || Path::new("(memory)").join(digest.to_string()).into_boxed_path();
        let content = self.0.get(&digest).filter(|content| content.len() as u64 == wanted.size);
        let content = content.ok_or_else(|| StoreError::Missing { digest, path: path() })?;
        in_memory(wanted.size, |file| file.write_all(content))
            .map_err(|source: io::Error| StoreError::Sink { digest, source })
    }
}

/// Wraps a source and makes opens of some digests fail.
#[derive(Debug)]
pub struct FailingSource<S> {
    inner: S,
    failures: Mutex<HashMap<Digest, u64>>,
}

impl<S: BlobSource> FailingSource<S> {
    /// Wraps `inner`, without failures yet.
    pub fn new(inner: S) -> FailingSource<S> {
        FailingSource { inner, failures: Mutex::default() }
    }

    /// Makes the next `times` opens of `digest` fail with an I/O error.
    pub fn fail(&self, digest: Digest, times: u64) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, times);
    }

    fn is_due(&self, digest: &Digest) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = failures.get_mut(digest).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }
}

impl<S: BlobSource> BlobSource for FailingSource<S> {
    fn open(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        if self.is_due(&wanted.digest) {
            let (digest, path) = (wanted.digest, Path::new("(injected failure)").into());
            return Err(StoreError::Unreadable {
                digest,
                path,
                source: io::Error::other("Injected failure"),
            });
        }
        self.inner.open(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_source_gives_what_was_added_and_nothing_else() {
        let mut source = MemorySource::new();
        let digest = source.add(Regime::Sha256, b"content");
        let wanted = |size| Wanted { digest, size, mode: 0o644 };
        assert_eq!(source.open(&wanted(7)).unwrap().read_all().unwrap(), b"content");
        assert!(matches!(source.open(&wanted(8)), Err(StoreError::Missing { .. })));
    }

    #[test]
    fn failing_source_fails_the_given_number_of_times() {
        let mut source = MemorySource::new();
        let digest = source.add(Regime::Sha256, b"x");
        let source = FailingSource::new(source);
        source.fail(digest, 2);
        let wanted = Wanted { digest, size: 1, mode: 0o644 };
        let outcomes = [1, 2, 3].map(|_| source.open(&wanted).is_ok());
        assert_eq!(outcomes, [false, false, true]);
    }
}
