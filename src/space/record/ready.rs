//! Large files go into the raw store while they are in memory, so that the first run need not decode them from their blobs. This only
//! saves time: what fails is left to the run.

use std::sync::atomic::{AtomicU64, Ordering};

use super::walk::Content;
use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::rcc::home::Home;
use crate::store::{NameOf, RawStore, StoreError, Wanted};

/// Smaller files take less time to decode, and most of them are never read.
const LEAST: u64 = 128 << 10;

/// The raw store of a home, for content that was just hashed.
pub(super) struct Ready {
    raw: RawStore,
    /// How many more bytes to add.
    left: AtomicU64,
}

impl Ready {
    /// For at most `most` bytes.
    pub fn of(home: &Home, most: u64) -> Option<Ready> {
        let raw = RawStore::open(home.raw_dir(), u64::MAX);
        let raw = raw.inspect_err(|error| log::debug!("Nothing goes into the raw store: {error}")).ok()?;
        Some(Ready { raw, left: AtomicU64::new(most) })
    }

    /// Adds the content `bytes`, which has the digest `digest`, if it is large and not there.
    pub fn add(&self, content: &Content, digest: Digest, bytes: &[u8]) {
        let wanted = Wanted { digest, size: bytes.len() as u64, mode: content.stat.permissions };
        let less = |left: u64| left.checked_sub(wanted.size);
        if wanted.size < LEAST
            || self.raw.is_verified(&wanted, NameOf::Entry)
            || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
        {
            return;
        }
        let write = |sink: &mut dyn std::io::Write| {
            sink.write_all(bytes).map_err(|source| StoreError::Sink { digest, source })
        };
        if let Err(error) = self.raw.ingest_with(&wanted.key(), wanted.size, write) {
            log::debug!("Not in the raw store: {}", chain(&error));
        }
    }
}
