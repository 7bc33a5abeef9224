//! Open descriptors of verified files, limited by count, and by bytes for those that are only in memory.
//!
//! The most recently used file stays whatever its size: one above the limit would otherwise be inflated for each request.
//!
//! One short mutex; nothing is read, written or closed while it is held.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::store::layout::RawKey;
use crate::store::rawfile::RawFile;

/// The cache.
#[derive(Debug)]
pub struct Descriptors {
    entries: Mutex<Entries>,
    memory_limit: u64,
}

#[derive(Debug)]
struct Entries {
    files: LruCache<RawKey, RawFile>,
    /// Bytes of the files that are only in memory.
    in_memory: u64,
}

impl Descriptors {
    /// An empty cache of at most `count` descriptors and `memory_limit` bytes of files in memory.
    pub fn new(count: NonZeroUsize, memory_limit: u64) -> Descriptors {
        let files = LruCache::new(count);
        Descriptors { entries: Mutex::new(Entries { files, in_memory: 0 }), memory_limit }
    }

    /// The maximum number of bytes of files in memory.
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    /// The descriptor for `key`, which becomes the most recently used.
    pub fn get(&self, key: &RawKey) -> Option<RawFile> {
        self.lock().files.get(key).cloned()
    }

    /// Adds `file`.
    pub fn put(&self, key: RawKey, file: RawFile) {
        let mut fallen = Vec::new();
        let mut entries = self.lock();
        entries.in_memory += memory_bytes(&file);
        fallen.extend(entries.files.push(key, file).map(|(_, file)| file));
        entries.in_memory -= fallen.iter().map(memory_bytes).sum::<u64>();
        while entries.in_memory > self.memory_limit
            && entries.files.len() > 1
            && let Some((_, oldest)) = entries.files.pop_lru()
        {
            entries.in_memory -= memory_bytes(&oldest);
            fallen.push(oldest);
        }
        drop(entries); // before the files are closed
    }

    /// Removes `key`.
    pub fn remove(&self, key: &RawKey) {
        let mut entries = self.lock();
        let fallen = entries.files.pop(key);
        entries.in_memory -= fallen.iter().map(memory_bytes).sum::<u64>();
        drop(entries);
    }

    /// Closes the older half; false if there was nothing to close.
    pub fn halve(&self) -> bool {
        let mut entries = self.lock();
        let count = entries.files.len().div_ceil(2);
        let fallen: Vec<RawFile> =
            (0..count).map_while(|_| entries.files.pop_lru()).map(|(_, file)| file).collect();
        entries.in_memory -= fallen.iter().map(memory_bytes).sum::<u64>();
        drop(entries);
        !fallen.is_empty()
    }

    /// The number of descriptors.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().files.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every critical section leaves the entries consistent, so a panic elsewhere does not matter here.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of `file` that count towards the memory limit.
fn memory_bytes(file: &RawFile) -> u64 {
    if file.path().is_some() { 0 } else { file.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::{Digest, Regime};
    use crate::store::layout::RawMode;

    fn key(number: u8) -> RawKey {
        RawKey { digest: Digest::of(Regime::SipHash128, &[number]), mode: RawMode::new(0o644) }
    }

    fn file(len: u64, named: bool) -> RawFile {
        let file = tempfile::tempfile().unwrap();
        if named { RawFile::on_disk(file, len, "name".into(), (0, 0)) } else { RawFile::in_memory(file, len) }
    }

    #[test]
    fn the_count_is_bounded_and_the_oldest_falls_out() {
        let cache = Descriptors::new(NonZeroUsize::new(2).unwrap(), 0);
        cache.put(key(1), file(5, true));
        cache.put(key(2), file(5, true));
        assert!(cache.get(&key(1)).is_some());
        cache.put(key(3), file(5, true));
        assert!(cache.get(&key(2)).is_none());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn files_in_memory_are_bounded_by_bytes() {
        let cache = Descriptors::new(NonZeroUsize::new(10).unwrap(), 100);
        cache.put(key(1), file(60, false));
        cache.put(key(2), file(40, false));
        assert_eq!(cache.len(), 2);
        cache.put(key(2), file(40, false));
        assert_eq!(cache.len(), 2, "the same key counts once");
        cache.put(key(3), file(1, false));
        assert!(cache.get(&key(1)).is_none());
        cache.remove(&key(3));
        cache.put(key(4), file(60, false));
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn the_youngest_file_in_memory_stays_however_large_it_is() {
        let cache = Descriptors::new(NonZeroUsize::new(10).unwrap(), 100);
        cache.put(key(1), file(60, false));
        cache.put(key(2), file(1000, false));
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(2)).is_some());
        cache.put(key(3), file(10, false));
        assert!(cache.get(&key(2)).is_none() && cache.get(&key(3)).is_some());
    }

    #[test]
    fn halving_ends() {
        let cache = Descriptors::new(NonZeroUsize::new(10).unwrap(), 100);
        (0..5).for_each(|number| cache.put(key(number), file(1, true)));
        assert!(cache.halve());
        assert_eq!(cache.len(), 2);
        assert!(cache.halve() && cache.halve());
        assert!(!cache.halve());
    }
}
