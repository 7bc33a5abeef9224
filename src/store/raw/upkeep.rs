//! Background walks of the raw store: learning its entries, and removing leftovers of crashes.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::store::layout::{RawKey, is_fan_out, temp_owner};
use crate::store::raw::RawStore;
use crate::sys::fs::beneath::{Dir, OpenError};
use crate::sys::process;

/// The minimum age of a temporary file before it is removed: a process in another PID namespace may be writing it.
const GRACE: Duration = Duration::from_secs(600);

/// The maximum age of a temporary file even if a process with its pid exists: pids are reused.
const EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// The result of a walk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// Entries removed because the store exceeded its limit.
    pub evicted: u64,
    /// Temporary files of dead processes removed.
    pub temps_removed: u64,
}

impl RawStore {
    /// Learns the existing entries, least recently used first, and enforces the store's limit.
    pub fn seed(&self) -> io::Result<Upkeep> {
        let mut entries = Vec::new();
        self.walk(|dir, name| {
            let key = std::str::from_utf8(name).ok().and_then(RawKey::parse);
            if let Some(key) = key
                && let Some(facts) = dir.facts(Path::new(&key.name()))
            {
                entries.push((facts.last_use, key, facts.size));
            }
        })?;
        entries.sort_unstable_by_key(|&(last_use, _, _)| std::cmp::Reverse(last_use));
        let mut ledger = self.ledger();
        entries.iter().for_each(|&(_, key, size)| ledger.add_older(key, size));
        let gone = ledger.shed();
        let (count, bytes) = (ledger.len() as u64, ledger.total());
        drop(ledger);
        let evicted = gone.len() as u64;
        self.evict(gone);
        Ok(Upkeep { entries: count, bytes, evicted, temps_removed: 0 })
    }

    /// Removes the temporary files of processes that died while they created an entry, and the fingerprints of removed entries if
    /// there are many.
    pub fn gc(&self) -> io::Result<Upkeep> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut upkeep = Upkeep::default();
        self.walk(|dir, name| {
            let Some(name) = std::str::from_utf8(name).ok() else { return };
            let Some(pid) = temp_owner(name) else { return };
            if is_abandoned(dir, name, pid, now) && dir.remove_file(Path::new(name)).is_ok_and(|there| there)
            {
                upkeep.temps_removed += 1;
            }
        })?;
        for (number, fingerprints) in self.fingerprints.iter().enumerate() {
            let dir = self.dir.open_dir(Path::new(&format!("{number:02x}")));
            let Ok(dir) = dir else { continue };
            let kept = fingerprints.keep(|name| dir.facts(Path::new(name)).is_some());
            kept.unwrap_or_else(|error| log::debug!("Fingerprints of the raw store stay: {error}"));
        }
        Ok(upkeep)
    }

    /// Calls `visit` with every name in every directory of entries.
    pub(super) fn walk(&self, mut visit: impl FnMut(&Dir, &[u8])) -> io::Result<()> {
        for name in self.dir.names()?.into_iter().filter(|name| is_fan_out(name)) {
            let Ok(name) = String::from_utf8(name) else { continue };
            let dir = match self.dir.open_dir(Path::new(&name)) {
                Ok(dir) => dir,
                Err(OpenError::Other(error)) => return Err(error),
                Err(_) => continue, // vanished, or not ours
            };
            dir.names()?.iter().for_each(|name| visit(&dir, name));
        }
        Ok(())
    }
}

/// True for a temporary file that will never be finished.
fn is_abandoned(dir: &Dir, name: &str, pid: u32, now: Duration) -> bool {
    let Some(facts) = dir.facts(Path::new(name)) else { return false };
    let written = Duration::from_secs(u64::try_from(facts.mtime.0).unwrap_or(0));
    let age = now.saturating_sub(written);
    age > EXPIRY || (age > GRACE && !process::exists(pid))
}
