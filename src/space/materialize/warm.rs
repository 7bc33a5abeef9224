//! Makes the pristine tree of a catalog before anybody needs it.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;

use super::Content;
use super::pristine::{self, Build, Kind, Places, Pristine};
use crate::rcc::home::Home;
use crate::store::index::Index;
use crate::store::observe::Observer;

/// What was made.
#[derive(Debug, Clone, Serialize)]
pub struct WarmedTree {
    /// The catalog's id.
    pub catalog: String,
    /// True if there was no pristine tree that could be used.
    pub is_new: bool,
    /// `subvolume`, of which snapshots are made, or `directory`, of links into the raw store.
    pub kind: &'static str,
    /// Seconds it took.
    pub seconds: f64,
}

/// Lays the catalog out once, verified, so that the next space is made without decoding. `WouldBlock` if another process is
/// at it. No space is needed, and none is touched.
pub fn warm(
    home: &Home,
    index: &Index,
    content: &dyn Content,
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
        None => super::pool(threads)?.install(|| pristine::build(make))?,
    };
    let kind = match pristine.kind() {
        Kind::Subvolume => "subvolume",
        Kind::Directory => "directory",
    };
    Ok(WarmedTree { catalog: index.id().to_string(), is_new, kind, seconds: started.elapsed().as_secs_f64() })
}
