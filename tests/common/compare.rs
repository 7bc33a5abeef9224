//! Compares two spaces, ignoring their labels.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An entry, with everything that RCC defines about it: RCC does not define the times of directories and links, nor owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Directory { mode: u32 },
    Link { target: PathBuf },
    File { mode: u32, mtime: i64, content: Result<Vec<u8>, ErrorKind> },
    Other,
}

/// Every entry below `root`, by its path; in contents, the space's label is replaced by `<the label of the space>`.
pub fn space_of(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let label = root.file_name().unwrap().to_str().unwrap().as_bytes();
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in
            fs::read_dir(&dir).unwrap_or_else(|error| panic!("Cannot list {}: {error}", dir.display()))
        {
            let path = entry.unwrap().path();
            let entry = entry_of(&path, label);
            if matches!(entry, Entry::Directory { .. }) {
                waiting.push(path.clone());
            }
            entries.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
        }
    }
    entries
}

fn entry_of(path: &Path, label: &[u8]) -> Entry {
    let metadata = fs::symlink_metadata(path)
        .unwrap_or_else(|error| panic!("Cannot look at {}: {error}", path.display()));
    let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
    if kind.is_dir() {
        Entry::Directory { mode }
    } else if kind.is_symlink() {
        Entry::Link { target: fs::read_link(path).unwrap() }
    } else if kind.is_file() {
        let content = fs::read(path).map(|bytes| without_label(&bytes, label)).map_err(|error| error.kind());
        Entry::File { mode, mtime: metadata.mtime(), content }
    } else {
        Entry::Other
    }
}

fn without_label(bytes: &[u8], label: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..out.len().saturating_sub(label.len() - 1) {
        if out[at..].starts_with(label) {
            out[at..at + label.len()].copy_from_slice(b"<the label of the space>");
        }
    }
    out
}

/// Fails with the first differences between two spaces; both must have entries.
pub fn assert_same_space(one: &Path, other: &Path) {
    let (a, b) = (space_of(one), space_of(other));
    assert!(!a.is_empty(), "{} is empty", one.display());
    let names: std::collections::BTreeSet<&PathBuf> = a.keys().chain(b.keys()).collect();
    let different = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let found_differences: Vec<String> =
        different.take(10).map(|name| difference(name, a.get(name), b.get(name))).collect();
    assert!(
        found_differences.is_empty(),
        "{} and {} differ:\n{}",
        one.display(),
        other.display(),
        found_differences.join("\n")
    );
}

fn difference(name: &Path, a: Option<&Entry>, b: Option<&Entry>) -> String {
    let brief = |entry: Option<&Entry>| match entry {
        None => "absent".to_owned(),
        Some(Entry::File { mode, mtime, content: Ok(bytes) }) => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
            format!("file, mode {mode:04o}, mtime {mtime}, {} bytes, {start:?}", bytes.len())
        }
        Some(entry) => format!("{entry:?}"),
    };
    format!("{}: {} | {}", name.display(), brief(a), brief(b))
}
