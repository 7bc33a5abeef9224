//! Records which directories of a space contain exactly the catalog's entries, so that they need not be listed again.
//!
//! Adding, removing, renaming or replacing an entry changes the directory's change time (ctime), which no program can set. So a
//! directory that was listed and found correct stays correct, in all names and links, while it is the same inode with the same time;
//! only its files can have been written in place, and they are checked one by one. A time younger than [`GRANULARITY`] when the walk
//! began is not trusted: a change right after it might get the same time.
//!
//! Stored with the space's state, little endian: the catalog's id, the device, and for each directory its inode in the catalog and on
//! disk, seconds and nanoseconds. A file that is damaged, of another catalog or of another device is ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::checksummed::{self, Magic, id_of};
use crate::space::files;
use crate::store::index::{Index, Ino};
use crate::sys::fs::at::{DirState, TreeDir};
use crate::sys::fs::disk;
use crate::sys::fs::place::Place;

/// The coarsest change time of any file system.
const GRANULARITY: Duration = Duration::from_secs(2);
/// File systems whose change times are kept by the local kernel. (A remote server may report them late.)
const LOCAL: [&str; 4] = ["ext4", "xfs", "btrfs", "tmpfs"];

const MAGIC: &Magic = b"HOLODIR1";
/// Catalog and device.
const FIELDS: usize = 32 + 8;
/// Two inodes, seconds, nanoseconds.
const ROW: usize = 4 * 8;

/// What is known of the directories of one space, and what this run finds out.
pub(super) struct Listed {
    place: Place,
    catalog: [u8; 32],
    device: u64,
    /// Change times before this one are settled: in seconds since 1970.
    settled: i64,
    /// By inode of the catalog. A directory that has changed stays until it is found correct again: its state no longer matches.
    known: BTreeMap<Ino, DirState>,
    news: Mutex<Vec<(Ino, DirState)>>,
}

impl Listed {
    /// What `state_dir` records about the space at `root`, which is to match `index`; `None` where change times are not reliable.
    pub fn open(state_dir: &Place, root: &TreeDir, base: &Path, index: &Index) -> Option<Listed> {
        let device = root.state().ok()?.device;
        disk::file_system(base).ok().filter(|name| LOCAL.contains(&name.as_str()))?;
        let now = SystemTime::now().checked_sub(GRANULARITY)?.duration_since(UNIX_EPOCH).ok()?;
        Some(Listed::load(state_dir.below(files::LISTED), id_of(index), device, now.as_secs().cast_signed()))
    }

    fn load(place: Place, catalog: [u8; 32], device: u64, settled: i64) -> Listed {
        let mut listed =
            Listed { place, catalog, device, settled, known: BTreeMap::new(), news: Mutex::default() };
        listed.known = listed.read().unwrap_or_default();
        listed
    }

    /// True if the directory, which has this state now, has exactly the catalog's entries, apart from the content of its files.
    pub fn is_known(&self, directory: Ino, state: &DirState) -> bool {
        self.known.get(&directory) == Some(state)
    }

    /// Records that the directory has exactly the catalog's entries; `state` was taken before it was listed.
    pub fn note(&self, directory: Ino, state: &DirState) {
        let is_past = state.device == self.device && state.changed.0 < self.settled;
        if is_past && !self.is_known(directory, state) {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).push((directory, *state));
        }
    }

    /// Stores what was found out, if anything.
    pub fn keep(self) -> io::Result<()> {
        let news = self.news.into_inner().unwrap_or_else(PoisonError::into_inner);
        if news.is_empty() {
            return Ok(());
        }
        let mut known = self.known;
        known.extend(news);
        let mut body = Vec::with_capacity(FIELDS + known.len() * ROW);
        body.extend_from_slice(&self.catalog);
        body.extend_from_slice(&self.device.to_le_bytes());
        for (directory, state) in known {
            let (seconds, nanos) = state.changed;
            let row = [directory.0, state.ino, seconds.cast_unsigned(), nanos.cast_unsigned()];
            row.iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
        }
        checksummed::write(&self.place, MAGIC, &body)
    }

    fn read(&self) -> Option<BTreeMap<Ino, DirState>> {
        let body = checksummed::read(&self.place, MAGIC)?;
        let (fields, rows) = body.split_at_checked(FIELDS)?;
        if fields != [&self.catalog[..], &self.device.to_le_bytes()].concat() {
            return None;
        }
        let (numbers, _) = rows.as_chunks::<8>();
        let (rows, _) = numbers.as_chunks::<4>();
        let row = |row: &[[u8; 8]; 4]| {
            let [directory, ino, seconds, nanos] = row.map(u64::from_le_bytes);
            let changed = (seconds.cast_signed(), nanos.cast_signed());
            (Ino(directory), DirState { device: self.device, ino, changed })
        };
        Some(rows.iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(dir: &Path, settled: i64) -> Listed {
        Listed::load(Place::top(dir).below(files::LISTED), [7; 32], 9, settled)
    }

    #[test]
    fn only_the_same_directory_at_the_same_time_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let state = DirState { device: 9, ino: 5, changed: (100, 3) };
        let first = listed(dir.path(), 101);
        for number in [8, 3, 5] {
            first.note(Ino(number), &DirState { ino: number, ..state });
        }
        first.note(Ino(4), &DirState { changed: (101, 0), ..state }); // too young
        first.note(Ino(6), &DirState { device: 8, ..state }); // something is mounted there
        first.keep().unwrap();
        let second = listed(dir.path(), 200);
        assert_eq!(second.known.keys().map(|ino| ino.0).collect::<Vec<_>>(), [3, 5, 8]);
        assert!(second.is_known(Ino(5), &state));
        for other in [
            DirState { device: 8, ..state },
            DirState { ino: 6, ..state },
            DirState { changed: (100, 4), ..state },
            DirState { changed: (99, 3), ..state },
        ] {
            assert!(!second.is_known(Ino(5), &other), "{other:?}");
        }
        assert!(!second.is_known(Ino(4), &state));
    }

    #[test]
    fn nothing_is_written_without_news() {
        let dir = tempfile::tempdir().unwrap();
        let state = DirState { device: 9, ino: 5, changed: (100, 3) };
        let round = || {
            let listed = listed(dir.path(), 101);
            listed.note(Ino(1), &state);
            listed.keep().unwrap();
            std::fs::metadata(dir.path().join("listed")).unwrap().modified().unwrap()
        };
        let written = round();
        assert_eq!(round(), written);
    }
}
