//! Creates the pristine tree of a catalog before it is needed.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;

use super::make_pristine::{Build, make_pristine};
use super::pristine::{Places, Pristine, TreeKind};
use crate::rcc::home::Home;
use crate::store::Store;
use crate::store::index::Index;
use crate::store::observe::Observer;

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct WarmedTree {
    /// The catalog's id.
    pub catalog: String,
    /// True if there was no valid pristine tree.
    pub is_new: bool,
    /// `subvolume`, for snapshots, or `directory`, of links into the raw store.
    pub kind: &'static str,
    /// Seconds it took.
    pub seconds: f64,
}

/// Lays the catalog out once, verified, so that the next space is created without decoding. `WouldBlock` if another process is doing
/// it. No space is needed or touched.
pub fn warm(
    home: &Home,
    index: &Index,
    content: &Store,
    observer: &dyn Observer,
    threads: Option<NonZeroUsize>,
) -> io::Result<WarmedTree> {
    let started = Instant::now();
    let places = Places::new(&home.pristine_dir(), &index.id());
    let found = Pristine::open(&places, index);
    let is_new = found.is_none();
    let make = Build { places: &places, index, content, observer };
    let pristine = match found {
        Some(found) => found,
        None => super::pool(threads)?.install(|| make_pristine(make))?,
    };
    let kind = match pristine.kind() {
        TreeKind::Subvolume => "subvolume",
        TreeKind::Directory => "directory",
    };
    Ok(WarmedTree { catalog: index.id().to_string(), is_new, kind, seconds: started.elapsed().as_secs_f64() })
}
