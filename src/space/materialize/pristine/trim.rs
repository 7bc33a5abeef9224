//! Keeps pristine trees within bounds: those used least recently go. A restore that loses its tree goes on from the store.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::stamp::Stamp;
use super::{Places, discard};
use crate::rcc::catalog::CatalogId;
use crate::sys::fs::lock;

/// How much may stay.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of content of all trees together.
    pub bytes: u64,
    /// Trees that nobody used for so long go whatever there is.
    pub unused: Option<Duration>,
    /// Only tell what would go.
    pub dry_run: bool,
}

struct Tree {
    id: CatalogId,
    bytes: u64,
    used: SystemTime,
}

/// Removes what is beyond the bounds and is not the tree of `keep`; gives back what went, or would go.
pub fn trim(pristine_dir: &Path, bounds: Bounds, keep: Option<&CatalogId>) -> io::Result<Vec<PathBuf>> {
    let mut trees = list(pristine_dir)?;
    // What is kept counts first.
    trees.sort_by_key(|tree| (keep != Some(&tree.id), Reverse(tree.used)));
    let (mut total, mut gone) = (0_u64, Vec::new());
    for Tree { id, bytes, used } in trees {
        let age = SystemTime::now().duration_since(used).unwrap_or_default();
        let is_beyond =
            total.saturating_add(bytes) > bounds.bytes || bounds.unused.is_some_and(|most| age > most);
        let places = Places::new(pristine_dir, &id);
        if keep == Some(&id) || !is_beyond || !(bounds.dry_run || drop_tree(&places)?) {
            total = total.saturating_add(bytes);
        } else {
            gone.push(places.tree());
        }
    }
    Ok(gone)
}

/// Removes a tree, unless somebody makes it at this moment.
fn drop_tree(places: &Places) -> io::Result<bool> {
    let lock = lock::open(&places.path(".lock"), 0o600)?;
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    discard(places).map(|()| true)
}

/// The trees that count for something: those with a stamp, whose time is that of the last use.
fn list(dir: &Path) -> io::Result<Vec<Tree>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let tree = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.strip_suffix(".stamp")?.parse().ok()?;
        let bytes = Stamp::content_bytes(&entry.path())?;
        Some(Tree { id, bytes, used: entry.metadata().ok()?.modified().ok()? })
    };
    Ok(entries.flatten().filter_map(tree).collect())
}
