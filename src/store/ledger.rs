//! The entries of the raw store by age and size, for its limit. Pure.

use lru::LruCache;

use crate::store::layout::RawKey;

/// Sizes of entries; the least recently used ones are evicted first.
#[derive(Debug)]
pub struct Ledger {
    sizes: LruCache<RawKey, u64>,
    total: u64,
    limit: u64,
}

impl Ledger {
    /// An empty ledger with a limit in bytes.
    pub fn new(limit: u64) -> Ledger {
        Ledger { sizes: LruCache::unbounded(), total: 0, limit }
    }

    /// Records a use of `key` and returns the entries to evict for it; `key` itself stays, whatever its size.
    pub fn touch(&mut self, key: RawKey, size: u64) -> Vec<RawKey> {
        self.total += size;
        self.total -= self.sizes.put(key, size).unwrap_or(0);
        self.shed()
    }

    /// Adds an entry that was found, as older than all known ones.
    pub fn add_older(&mut self, key: RawKey, size: u64) {
        if !self.sizes.contains(&key) {
            self.sizes.put(key, size);
            self.sizes.demote(&key);
            self.total += size;
        }
    }

    /// Records that `key` is gone.
    pub fn remove(&mut self, key: &RawKey) {
        self.total -= self.sizes.pop(key).unwrap_or(0);
    }

    /// Returns the entries to evict now, never the youngest.
    pub fn shed(&mut self) -> Vec<RawKey> {
        let mut gone = Vec::new();
        while self.total > self.limit && self.sizes.len() > 1 {
            let Some((key, size)) = self.sizes.pop_lru() else { break };
            self.total -= size;
            gone.push(key);
        }
        gone
    }

    /// Bytes of all entries.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::{Digest, Regime};
    use crate::store::layout::RawMode;

    fn key(number: u8) -> RawKey {
        RawKey { digest: Digest::of(Regime::SipHash128, &[number]), mode: RawMode::new(0o644) }
    }

    #[test]
    fn the_least_recently_used_entries_go() {
        let mut ledger = Ledger::new(100);
        assert_eq!(ledger.touch(key(1), 40), []);
        assert_eq!(ledger.touch(key(2), 40), []);
        assert_eq!(ledger.touch(key(1), 40), []);
        assert_eq!(ledger.touch(key(3), 40), [key(2)]);
        assert_eq!((ledger.total(), ledger.len()), (80, 2));
    }

    #[test]
    fn an_entry_larger_than_the_limit_stays_alone() {
        let mut ledger = Ledger::new(100);
        ledger.touch(key(1), 40);
        assert_eq!(ledger.touch(key(2), 500), [key(1)]);
        assert_eq!((ledger.total(), ledger.len()), (500, 1));
    }

    #[test]
    fn entries_found_later_count_as_older() {
        let mut ledger = Ledger::new(100);
        ledger.touch(key(1), 40);
        ledger.add_older(key(2), 40);
        ledger.add_older(key(3), 40);
        ledger.add_older(key(1), 40);
        assert_eq!(ledger.total(), 120);
        assert_eq!(ledger.shed(), [key(3)]);
        ledger.remove(&key(2));
        ledger.remove(&key(2));
        assert_eq!((ledger.total(), ledger.len()), (40, 1));
    }
}
