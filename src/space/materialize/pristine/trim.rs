//! Limits the total size of pristine trees: the least recently used are removed. A materialize that loses its tree continues from the
//! store.

use std::cmp::Reverse;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::stamp::Stamp;
use super::{Places, discard};
use crate::rcc::catalog::CatalogId;
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Content bytes of all trees together.
    pub bytes: u64,
    /// Trees that were not used for this long are removed in any case.
    pub unused: Option<Duration>,
    /// Only report what would be removed.
    pub dry_run: bool,
}

struct Tree {
    id: CatalogId,
    bytes: u64,
    used: SystemTime,
}

/// Removes trees beyond the limits, except that of `keep`; returns those that were removed, or would be.
pub fn trim(pristine_dir: &Place, bounds: Bounds, keep: Option<&CatalogId>) -> io::Result<Vec<PathBuf>> {
    let mut trees = list(pristine_dir)?;
    // The kept tree counts first.
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
            gone.push(places.tree().into());
        }
    }
    Ok(gone)
}

/// Removes a tree, unless another process is creating it.
fn drop_tree(places: &Places) -> io::Result<bool> {
    let lock = lock::open_own(&places.path(".lock"))?;
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    discard(places).map(|()| true)
}

/// The trees with a stamp, whose time is that of the last use.
fn list(dir: &Place) -> io::Result<Vec<Tree>> {
    let tree = |place: Place| {
        let id = place.file_name()?.to_str()?.strip_suffix(".stamp")?.parse().ok()?;
        let bytes = Stamp::content_bytes(&place)?;
        Some(Tree { id, bytes, used: place.open_file().ok()?.metadata().ok()?.modified().ok()? })
    };
    Ok(dir.entries()?.into_iter().filter_map(tree).collect())
}
