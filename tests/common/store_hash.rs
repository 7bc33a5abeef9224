//! The exact state of a store, to prove that nothing in it changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holofs::rcc::digest::{Digest, Regime};

/// One entry: kind and permissions, modification time, number of links, content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    mode: u32,
    mtime: (i64, i64),
    links: u64,
    content: String,
}

/// Every entry below `root`, by its path. Directories are compared by their entries only, not by times and link counts.
pub fn of(root: &Path) -> BTreeMap<PathBuf, Stored> {
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            entries.insert(path.strip_prefix(root).unwrap().to_owned(), stored(&path));
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                waiting.push(path);
            }
        }
    }
    entries
}

fn stored(path: &Path) -> Stored {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.mode();
    if metadata.is_dir() {
        return Stored { mode, mtime: (0, 0), links: 0, content: String::new() };
    }
    let content = if metadata.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else {
        Digest::of(Regime::Sha256, &fs::read(path).unwrap()).to_string()
    };
    Stored { mode, mtime: (metadata.mtime(), metadata.mtime_nsec()), links: metadata.nlink(), content }
}

/// Fails with the entries that changed.
pub fn assert_unchanged(root: &Path, before: &BTreeMap<PathBuf, Stored>) {
    let after = of(root);
    let names: std::collections::BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "{} was changed: {changed:?}", root.display());
}
