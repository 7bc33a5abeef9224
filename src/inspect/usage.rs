//! Disk usage: every file of the home counted once, by its purpose.
//!
//! Sizes are allocated blocks, as `du` counts them. A file with several hard links is counted where it is found first; the order below
//! is the order of counting, so links of pristine trees and of materialized spaces into the raw store count as raw store. Likewise for
//! blocks that several files share (reflinks, snapshots), which `du` counts once per file: `reflinked` is the difference.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

mod blocks;

use blocks::Blocks;

use crate::rcc::catalog::Catalog;
use crate::rcc::digest::Digest;
use crate::rcc::home::{Home, HomeError};
use crate::store::blob_path;
use crate::sys::fs::beneath::Dir;
use crate::sys::fs::btrfs;

/// Files and their size on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Taken) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

/// The blobs of one catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogUsage {
    /// The blueprint.
    pub blueprint: String,
    /// Bytes of blobs that no other catalog refers to: freed by removing it and `gc --hololib`.
    pub exclusive_bytes: u64,
    /// Bytes of blobs that other catalogs refer to, too.
    pub shared_bytes: u64,
}

/// The whole result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Usage {
    /// By catalog.
    pub catalogs: Vec<CatalogUsage>,
    /// Blobs that no catalog refers to: freed by `gc --hololib`.
    pub unnamed_blobs: Taken,
    /// By purpose: `blobs`, `catalogs`, `raw`, `index`, `pristine`, `bytecode`, `profiles`, `state`, `spaces`, `other`.
    pub parts: BTreeMap<&'static str, Taken>,
    /// By space: the files of materialized ones, and the upper of mounted ones.
    pub spaces: BTreeMap<String, Taken>,
    /// The sum of all parts.
    pub total: Taken,
    /// Blocks that were found again in a file that shares them, and not counted again: with them, the total is that of `du`.
    pub reflinked: Taken,
    /// Files for which it is unknown whether they share blocks; they are counted as if they did not. All files, if the file system
    /// cannot share blocks or does not report it.
    pub sharing_unknown: u64,
    /// Directories that could not be read.
    pub unreadable: Vec<PathBuf>,
}

/// Counts the home, the hololib and the holotree, each file once.
pub fn usage(home: &Home) -> Result<Usage, HomeError> {
    let mut counting = Counting::default();
    let mut usage = Usage::default();
    let named = named_blobs(home)?;
    let blobs = counting.blobs(&home.library());
    usage.catalogs = catalogs(&named, &blobs);
    let is_named: HashSet<PathBuf> = named.values().flatten().map(blob_path).collect();
    for (path, bytes) in &blobs {
        if !is_named.contains(path) {
            usage.unnamed_blobs.entries += 1;
            usage.unnamed_blobs.bytes += bytes;
        }
    }
    counting.parts(home, &mut usage);
    usage.parts.values().for_each(|&part| usage.total += part);
    usage.reflinked = counting.blocks.reflinked;
    usage.sharing_unknown = counting.blocks.unknown;
    usage.unreadable = counting.unreadable;
    Ok(usage)
}

/// The blobs that each catalog refers to; none for a catalog that cannot be read, which is logged.
fn named_blobs(home: &Home) -> Result<BTreeMap<String, HashSet<Digest>>, HomeError> {
    let mut named = BTreeMap::new();
    for path in home.catalogs()? {
        match Catalog::read(&path) {
            Ok((catalog, _)) => {
                let digests = catalog.digests().map(|(digest, _)| *digest).collect();
                named.insert(catalog.header.blueprint.clone(), digests);
            }
            Err(error) => log::warn!("{error}"),
        }
    }
    Ok(named)
}

fn catalogs(named: &BTreeMap<String, HashSet<Digest>>, blobs: &HashMap<PathBuf, u64>) -> Vec<CatalogUsage> {
    let mut users: HashMap<&Digest, u32> = HashMap::new();
    named.values().flatten().for_each(|digest| *users.entry(digest).or_default() += 1);
    let of = |(blueprint, digests): (&String, &HashSet<Digest>)| {
        let (mut exclusive_bytes, mut shared_bytes) = (0, 0);
        for digest in digests {
            let bytes = blobs.get(&blob_path(digest)).copied().unwrap_or_default();
            let sum = if users[digest] == 1 { &mut exclusive_bytes } else { &mut shared_bytes };
            *sum += bytes;
        }
        CatalogUsage { blueprint: blueprint.clone(), exclusive_bytes, shared_bytes }
    };
    named.iter().map(of).collect()
}

/// The files counted so far.
#[derive(Default)]
struct Counting {
    seen: HashSet<(u64, u64)>,
    blocks: Blocks,
    unreadable: Vec<PathBuf>,
}

impl Counting {
    /// The size on disk of every blob, by its path below the library. Does not mark them as counted: `parts` counts them.
    fn blobs(&mut self, library: &Path) -> HashMap<PathBuf, u64> {
        let mut found = HashMap::new();
        self.walk(library, &mut |path, meta, _| {
            if meta.is_file()
                && let Ok(below) = path.strip_prefix(library)
            {
                found.insert(below.to_owned(), meta.blocks() * 512);
            }
        });
        self.seen.clear();
        found
    }

    fn parts(&mut self, home: &Home, usage: &mut Usage) {
        let parts = [
            ("blobs", home.library()),
            ("catalogs", home.hololib().to_owned()),
            ("raw", home.raw_dir().to_path_buf()),
            ("index", home.index_dir().to_path_buf()),
            ("pristine", home.pristine_dir().to_path_buf()),
            ("bytecode", home.pyc_dir().to_path_buf()),
            ("profiles", home.profiles_dir().to_path_buf()),
        ];
        for (name, dir) in parts {
            let taken = self.taken(&dir);
            usage.parts.insert(name, taken);
        }
        let state = self.each(&home.spaces_dir(), usage);
        usage.parts.insert("state", state);
        let spaces = self.each(home.holotree(), usage);
        usage.parts.insert("spaces", spaces);
        let mut other = self.taken(home.root());
        other += self.taken(home.holofs());
        usage.parts.insert("other", other);
    }

    /// The children of `dir`, each a space, or a file next to one; returns their sum, including `dir` itself.
    fn each(&mut self, dir: &Path, usage: &mut Usage) -> Taken {
        let mut sum = Taken::default();
        let mut children = Vec::new();
        match fs::symlink_metadata(dir) {
            // A user's holotree may be on another disk.
            Ok(link) if link.is_symlink() => {
                children.extend(fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            Ok(found) => self.list(dir, &found, &mut children),
            Err(_) => {}
        }
        children.sort();
        for child in children {
            let taken = self.taken(&child);
            sum += taken;
            let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if child.is_dir() {
                *usage.spaces.entry(name).or_default() += taken;
            }
        }
        sum += self.taken(dir);
        sum
    }

    /// The part of the tree at `dir` that was not counted yet.
    fn taken(&mut self, dir: &Path) -> Taken {
        let mut taken = Taken::default();
        let mut blocks = std::mem::take(&mut self.blocks);
        self.walk(dir, &mut |path, meta, is_new| {
            if is_new {
                taken.entries += 1;
                taken.bytes += blocks.of(path, meta);
            }
        });
        self.blocks = blocks;
        taken
    }

    /// Visits `root` and everything below it on the same file system, including subvolumes, without following links. The last argument
    /// of `visit` is true for a file that was not seen before.
    fn walk(&mut self, root: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata, bool)) {
        let Ok(top) = fs::symlink_metadata(root) else { return };
        let mut devices = HashSet::from([top.dev()]);
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            // Files of a live space may vanish meanwhile.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if !devices.contains(&meta.dev()) {
                if !is_subvolume(root, &path) {
                    continue;
                }
                devices.insert(meta.dev());
            }
            visit(&path, &meta, self.seen.insert((meta.dev(), meta.ino())));
            if meta.is_dir() {
                self.list(&path, &meta, &mut left);
            }
        }
    }

    fn list(&mut self, dir: &Path, seen: &fs::Metadata, left: &mut Vec<PathBuf>) {
        match Dir::open_seen(dir, seen).and_then(|opened| opened.names()) {
            Ok(names) => left.extend(names.iter().map(|name| dir.join(OsStr::from_bytes(name)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.unreadable.push(dir.to_owned()),
        }
    }
}

/// True if `path` is on the btrfs of `root`, in another subvolume.
fn is_subvolume(root: &Path, path: &Path) -> bool {
    let open = |path| crate::sys::fs::stat::open_to_read(path);
    matches!((open(root), open(path)), (Ok(root), Ok(path)) if btrfs::is_same_btrfs(&root, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(&two).unwrap();
        fs::write(one.join("f"), vec![1; 100_000]).unwrap();
        fs::hard_link(one.join("f"), two.join("f")).unwrap();
        let mut counting = Counting::default();
        let first = counting.taken(&one);
        assert_eq!(first.entries, 2);
        assert!(first.bytes >= 100_000);
        assert_eq!(counting.taken(&two).entries, 1, "only the directory");
        assert_eq!(counting.taken(dir.path()).entries, 1);
    }
}
