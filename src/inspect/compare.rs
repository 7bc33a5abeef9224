//! The differences between two catalogs: packages, files, bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::packages::Packages;
use crate::store::index::{Index, NodeKind};

/// How a file or package differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// In both, with other content.
    Changed,
}

/// A package that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The version in the first catalog, if it is in there.
    pub before: Option<String>,
    /// The version in the second catalog, if it is in there.
    pub after: Option<String>,
}

/// A file that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path below the environment.
    pub path: String,
    /// The kind of change.
    pub change: Change,
    /// Bytes in the first catalog.
    pub before: u64,
    /// Bytes in the second catalog.
    pub after: u64,
}

/// All differences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// By name.
    pub packages: Vec<PackageChange>,
    /// By path.
    pub files: Vec<FileChange>,
    /// Bytes of equal files.
    pub same_bytes: u64,
    /// Bytes of files that are new or changed in the second.
    pub new_bytes: u64,
}

/// Compares regular files and links by path and content, ignoring modes.
pub fn compare(before: (&Index, &Packages), after: (&Index, &Packages)) -> Comparison {
    let (old, new) = (contents(before.0), contents(after.0));
    let mut files = Vec::new();
    let (mut same_bytes, mut new_bytes) = (0, 0);
    for (path, content) in &new {
        match old.get(path) {
            Some(other) if other.0 == content.0 => same_bytes += content.1,
            other => {
                new_bytes += content.1;
                let change = if other.is_some() { Change::Changed } else { Change::Added };
                let before = other.map_or(0, |other| other.1);
                files.push(FileChange { path: path.clone(), change, before, after: content.1 });
            }
        }
    }
    let gone = old.iter().filter(|(path, _)| !new.contains_key(*path));
    files.extend(gone.map(|(path, content)| FileChange {
        path: path.clone(),
        change: Change::Removed,
        before: content.1,
        after: 0,
    }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Comparison { packages: packages(before.1, after.1), files, same_bytes, new_bytes }
}

/// The content and its size, by path.
fn contents(index: &Index) -> BTreeMap<String, (String, u64)> {
    let nodes = index.nodes().filter_map(|node| {
        let path = index.path_of(node.ino)?.to_string();
        match node.kind {
            NodeKind::File(file) => Some((path, (file.digest.to_string(), file.size))),
            NodeKind::Link { target } => {
                Some((path, (format!("-> {}", String::from_utf8_lossy(target)), target.len() as u64)))
            }
            NodeKind::Dir { .. } => None,
        }
    });
    nodes.collect()
}

fn packages(before: &Packages, after: &Packages) -> Vec<PackageChange> {
    let versions = |packages: &Packages| -> BTreeMap<String, String> {
        packages.sorted().iter().map(|package| (package.name.clone(), package.version.clone())).collect()
    };
    let (old, new) = (versions(before), versions(after));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| PackageChange {
            name: name.clone(),
            before: old.get(name).cloned(),
            after: new.get(name).cloned(),
        })
        .collect()
}
