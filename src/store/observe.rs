//! How the library reports its work: counters, fallbacks and progress, through a trait.
//!
//! The library never prints. A command passes in an [`Observer`]; [`Tally`] is the one that counts, and the CLI displays it. A
//! fallback is counted and its reason is kept, so that it can be reported once and included in `--json`.

pub mod origin;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// Every counter, in display order.
            pub const ALL: &[Counter] = &[$(Counter::$variant,)*];

            /// The name used in `--json` and in logs.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// Files created by a snapshot of a pristine tree.
    Snapshotted = "snapshotted",
    /// Files whose bytes share blocks with the raw store.
    Reflinked = "reflinked",
    /// Files that are hard links to a raw store file.
    Hardlinked = "hardlinked",
    /// Files whose bytes were copied.
    Copied = "copied",
    /// Files that the label was written into.
    Relocated = "relocated",
    /// Entries that were already correct.
    Kept = "kept",
    /// Directories not listed, because their entries have not changed since they were last verified.
    Unlisted = "unlisted",
    /// Entries removed because they are not in the catalog.
    Removed = "removed",
    /// Removed directories that were set aside and are deleted later.
    SetAside = "set_aside",
    /// Directories created.
    Directories = "directories",
    /// Symbolic links created.
    Links = "links",
    /// Bytes written into place.
    PlacedBytes = "placed_bytes",
    /// Setuid or setgid bits not applied to a file.
    SetuidDropped = "setuid_dropped",
    /// Pristine trees created.
    PristineMade = "pristine_made",
    /// Files of a pristine tree found changed, and not used.
    PristineChanged = "pristine_changed",
    /// Files of a pristine tree or of the raw store found changed, and created again.
    PristineHealed = "pristine_healed",
    /// Pristine trees removed for newer ones.
    PristineDropped = "pristine_dropped",
    /// Blobs inflated or copied into the raw store.
    BlobsIngested = "blobs_ingested",
    /// Raw bytes of those blobs.
    BytesIngested = "bytes_ingested",
    /// Raw store entries that were ready.
    RawHits = "raw_hits",
    /// Raw store entries that were damaged and created again.
    RawHealed = "raw_healed",
    /// Blobs served from memory because the raw store could not store them.
    ServedFromMemory = "served_from_memory",
    /// How often a blob that does not fit in memory was decoded from its start.
    DecodedInPieces = "decoded_in_pieces",
    /// Blobs rejected: missing, truncated, or with other content.
    BlobErrors = "blob_errors",
    /// Blobs written into the hololib by a recorder.
    BlobsRecorded = "blobs_recorded",
    /// Blobs fetched from a remote.
    BlobsFetched = "blobs_fetched",
    /// Raw bytes of those blobs.
    BytesFetched = "bytes_fetched",
    /// Requests that the fetcher sent to the remote.
    RemoteRequests = "remote_requests",
    /// Bytes of packs that it received.
    RemoteBytes = "remote_bytes",
    /// Requests that were sent again, after an error or wrong content.
    RemoteRetries = "remote_retries",
    /// How often the remote began to count as down.
    RemoteDown = "remote_down",
    /// Requests for content that failed at once, since the remote counted as down.
    RemoteRefused = "remote_refused",
    /// Milliseconds that readers waited for content of the remote.
    RemoteWaited = "remote_waited_ms",
    /// Bytes returned for reads of a mount.
    BytesRead = "bytes_read",
    /// Files copied up into the upper.
    CopiedUp = "copied_up",
    /// Opens that the kernel serves by itself (passthrough).
    PassedThrough = "passed_through",
    /// Number of times that processors were kept from halting for requests in quick succession.
    KeptAwake = "kept_awake",
}

/// Receives reports from the library. Every method may be called from any thread.
pub trait Observer: Send + Sync {
    /// `counter` grew by `amount`.
    fn count(&self, counter: Counter, amount: u64);

    /// A slower or weaker method was used: `what` it is, and the `reason`.
    fn fallback(&self, what: &'static str, reason: &str);

    /// The whole work has `total` steps.
    fn expect(&self, _total: u64) {
        // Most observers show no progress.
    }

    /// `steps` more are done.
    fn advance(&self, _steps: u64) {}
}

/// The fallback of content that a supplier did not supply.
pub const UNSUPPLIED: &str = "content of the remote";

/// The reads that failed because their content is missing or damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unread {
    /// All of them.
    pub reads: u64,
    /// Those of content that a supplier did not supply.
    pub unsupplied: u64,
    /// Why it did not supply the first.
    pub why: String,
}

/// Counts, and keeps the first reason of each fallback.
#[derive(Debug)]
pub struct Tally {
    counts: [AtomicU64; Counter::ALL.len()],
    fallbacks: Mutex<BTreeMap<&'static str, Fallback>>,
    logs: bool,
}

/// How often a fallback was used, and why the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fallback {
    /// Number of times.
    pub count: u64,
    /// The first reason.
    pub reason: String,
}

impl Default for Tally {
    fn default() -> Tally {
        let counts = [const { AtomicU64::new(0) }; Counter::ALL.len()];
        Tally { counts, fallbacks: Mutex::default(), logs: false }
    }
}

impl Tally {
    /// A tally with all counters at zero.
    pub fn new() -> Tally {
        Tally::default()
    }

    /// A new tally that also logs the first occurrence of each fallback: for a daemon, whose report is not displayed.
    pub fn logging() -> Tally {
        Tally { logs: true, ..Tally::default() }
    }

    /// The value of `counter`.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    /// Every counter that is not zero, by name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let all = Counter::ALL.iter().map(|&counter| (counter.name(), self.get(counter)));
        all.filter(|&(_, count)| count > 0).collect()
    }

    /// The fallbacks used, by name.
    pub fn fallbacks(&self) -> BTreeMap<&'static str, Fallback> {
        self.lock_fallbacks().clone()
    }

    /// The reads that failed.
    pub fn unread(&self) -> Unread {
        let unsupplied = self.lock_fallbacks().get(UNSUPPLIED).cloned();
        let Fallback { count: unsupplied, reason: why } = unsupplied.unwrap_or_default();
        Unread { reads: self.get(Counter::BlobErrors), unsupplied, why }
    }

    fn lock_fallbacks(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Fallback>> {
        self.fallbacks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Observer for Tally {
    fn count(&self, counter: Counter, amount: u64) {
        self.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn fallback(&self, what: &'static str, reason: &str) {
        let mut fallbacks = self.lock_fallbacks();
        let entry = fallbacks.entry(what).or_insert_with(|| {
            log::log!(if self.logs { log::Level::Warn } else { log::Level::Debug }, "{what}: {reason}");
            Fallback { count: 0, reason: reason.to_owned() }
        });
        entry.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_and_keeps_the_first_reason() {
        let tally = Tally::new();
        tally.count(Counter::Copied, 2);
        tally.count(Counter::Copied, 3);
        tally.fallback("reflink", "first");
        tally.fallback("reflink", "second");
        assert_eq!(tally.counts(), BTreeMap::from([("copied", 5)]));
        assert_eq!(tally.fallbacks()["reflink"], Fallback { count: 2, reason: "first".into() });
        assert_eq!(tally.unread(), Unread::default());
        tally.count(Counter::BlobErrors, 3);
        tally.fallback(UNSUPPLIED, "no network");
        assert_eq!(tally.unread(), Unread { reads: 3, unsupplied: 1, why: "no network".into() });
    }
}
