//! Warming: puts every blob of a catalog into the raw store before it is needed.
//!
//! Each content is inflated once, on all processors; what exists already costs one lookup. A blob that is missing or damaged is one
//! line of the report, and reading its file is an error.

use std::collections::HashSet;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::chain;
use crate::store::index::{Index, Ino, NodeKind};
use crate::store::observe::Observer;
use crate::store::{Store, StoreError, Wanted};

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct WarmedStore {
    /// Distinct contents of the catalog.
    pub blobs: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Contents that were not available.
    pub errors: Vec<WarmError>,
    /// The duration.
    pub seconds: f64,
}

/// A content that was not available.
#[derive(Debug, Clone, Serialize)]
pub struct WarmError {
    /// A file that needs it, below the space.
    pub path: String,
    /// The digest.
    pub digest: String,
    /// Why.
    pub message: String,
}

/// Inflates every content of `index` into the raw store of `store`.
pub fn warm(index: &Index, store: &Store, observer: &dyn Observer) -> WarmedStore {
    let started = Instant::now();
    let wanted = contents(index);
    observer.expect(wanted.len() as u64);
    let ensure = |(ino, wanted): &(Ino, Wanted)| {
        let outcome = store.ensure_raw(wanted);
        observer.advance(1);
        outcome.err().map(|error| failed(index, *ino, wanted, &error))
    };
    let errors = wanted.par_iter().filter_map(ensure).collect();
    WarmedStore {
        blobs: wanted.len() as u64,
        bytes: wanted.iter().map(|(_, wanted)| wanted.size).sum(),
        errors,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Each content once, with a file that has it; the empty one needs no store.
fn contents(index: &Index) -> Vec<(Ino, Wanted)> {
    let mut seen = HashSet::new();
    let files = index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) if file.size > 0 => Some((node.ino, Wanted::of(&file, node.mode))),
        _ => None,
    });
    files.filter(|(_, wanted)| seen.insert(wanted.key())).collect()
}

fn failed(index: &Index, ino: Ino, wanted: &Wanted, error: &StoreError) -> WarmError {
    let path = index.path_of(ino).map_or_else(|| format!("inode {ino}"), |path| path.to_string());
    WarmError { path, digest: wanted.digest.to_string(), message: chain(error).to_string() }
}
