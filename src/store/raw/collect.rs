//! Verifying and collecting the entries of the raw store.

use std::io;
use std::path::Path;

use crate::store::layout::RawKey;
use crate::store::raw::RawStore;
use crate::store::rawfile::RawFile;
use crate::store::verify::check_file;
use crate::sys::fs::beneath::OpenError;

/// An entry, as found by a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry {
    /// Its key.
    pub key: RawKey,
    /// Its size in bytes.
    pub size: u64,
    /// The last use, in seconds since 1970.
    pub last_use: i64,
}

impl RawStore {
    /// All existing entries.
    pub fn entries(&self) -> io::Result<Vec<RawEntry>> {
        let mut entries = Vec::new();
        self.walk(|dir, name| {
            let key = std::str::from_utf8(name).ok().and_then(RawKey::parse);
            if let Some(key) = key
                && let Some(facts) = dir.facts(Path::new(&key.name()))
            {
                entries.push(RawEntry { key, size: facts.size, last_use: facts.last_use });
            }
        })?;
        Ok(entries)
    }

    /// Reads an entry in full: returns its content if it is valid, `None` if it is not or is gone.
    pub fn verified(&self, entry: &RawEntry) -> io::Result<Option<RawFile>> {
        let relative = entry.key.path();
        match self.dir.open_file(&relative) {
            Ok((file, facts)) => {
                let right = check_file(&file, &entry.key.digest, facts.size).is_ok();
                Ok(right.then(|| RawFile::on_disk(file, facts.size, self.path.join(relative), facts.changed)))
            }
            Err(OpenError::Other(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Removes an entry; false if it was gone. Processes that have it open can still read it.
    pub fn remove(&self, key: &RawKey) -> io::Result<bool> {
        self.ledger().remove(key);
        self.dir.remove_file(&key.path())
    }
}
