//! Counts the blocks of files, each shared block once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::fs::{btrfs, extents, stat};

use super::Taken;

/// What was counted so far.
#[derive(Default)]
pub struct Blocks {
    /// Ranges of each disk, without overlaps: start to end.
    seen: HashMap<u64, BTreeMap<u64, u64>>,
    /// Encoded ranges, which are identified by start and length only: (disk, start, length).
    encoded: HashSet<(u64, u64, u64)>,
    /// The disk of each device number, with a file to identify it by: subvolumes of one btrfs have different device numbers.
    disks: HashMap<u64, (u64, File)>,
    /// File systems that do not report shared blocks.
    silent: HashSet<u64>,
    /// Bytes that were found again, and not counted.
    pub reflinked: Taken,
    /// Files that could not be queried.
    pub unknown: u64,
}

impl Blocks {
    /// The bytes of the file at `path` that were not counted in another file.
    pub fn of(&mut self, path: &Path, meta: &Metadata) -> u64 {
        let all = meta.blocks() * 512;
        if !meta.is_file() || all == 0 {
            return all;
        }
        let again = self.again(path, meta).min(all);
        if again > 0 {
            self.reflinked += Taken { entries: 1, bytes: again };
        }
        all - again
    }

    fn again(&mut self, path: &Path, meta: &Metadata) -> u64 {
        if self.silent.contains(&meta.dev()) {
            self.unknown += 1;
            return 0;
        }
        match stat::open_seen(path, meta).and_then(|file| Ok((extents::shared(&file)?, file))) {
            Ok((shared, _)) if shared.is_empty() => 0,
            Ok((shared, file)) => {
                let disk = self.disk(meta.dev(), file);
                shared.into_iter().map(|range| self.add(disk, range)).sum()
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::Unsupported {
                    self.silent.insert(meta.dev());
                }
                log::debug!("Cannot find out which blocks {} shares: {error}", path.display());
                self.unknown += 1;
                0
            }
        }
    }

    /// The disk of a file on the device `dev`.
    fn disk(&mut self, dev: u64, file: File) -> u64 {
        if let Some((disk, _)) = self.disks.get(&dev) {
            return *disk;
        }
        let same = self.disks.values().find(|(_, other)| btrfs::is_same_btrfs(other, &file));
        let disk = same.map_or(dev, |(disk, _)| *disk);
        self.disks.insert(dev, (disk, file));
        disk
    }

    /// Adds a range; returns how much of it was counted before.
    fn add(&mut self, disk: u64, range: extents::Shared) -> u64 {
        let extents::Shared { at, len, is_encoded } = range;
        if is_encoded {
            return if self.encoded.insert((disk, at, len)) { 0 } else { len };
        }
        let seen = self.seen.entry(disk).or_default();
        let (mut start, mut end, mut again) = (at, at.saturating_add(len), 0);
        // Merges it with all ranges that overlap or touch it.
        while let Some((&from, &to)) = seen.range(..=end).next_back().filter(|&(_, &to)| to >= at) {
            again += to.min(at.saturating_add(len)).saturating_sub(from.max(at));
            seen.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        seen.insert(start, end);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_range_is_counted_once_however_it_is_cut() {
        let mut blocks = Blocks::default();
        let mut add = |at, len| blocks.add(1, extents::Shared { at, len, is_encoded: false });
        assert_eq!(add(100, 50), 0);
        assert_eq!(add(100, 50), 50);
        assert_eq!(add(200, 50), 0);
        assert_eq!(add(140, 80), 30, "10 of the first, 20 of the second");
        assert_eq!(add(0, 300), 150);
        assert_eq!(add(0, 300), 300);
        assert_eq!(blocks.add(2, extents::Shared { at: 100, len: 50, is_encoded: false }), 0, "another disk");
        let mut packed = |at, len| blocks.add(1, extents::Shared { at, len, is_encoded: true });
        assert_eq!((packed(100, 50), packed(100, 50), packed(120, 50)), (0, 50, 0));
    }
}
