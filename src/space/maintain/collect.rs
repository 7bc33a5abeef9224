//! Collecting what nothing uses: raw entries, indexes, layouts, bytecode, the state of deleted spaces, and, when asked, blobs.
//!
//! Used is what a catalog of the hololib names, and what a live space holds. A live space holds the kernel's lock in its state
//! directory: a mount says by its `mount.json` which catalog it shows, and that is kept whatever became of the catalog; of a
//! materialize at work nothing is known but that it works, and then nothing it could be using is collected.
//!
//! Everything but the written state of a space and the blobs can be made again: collecting it costs time only. State goes with
//! its space: only when both its directory and its `.meta` are gone. The caller holds RCC's lock of the hololib.

mod hold;
mod leftovers;
mod sweep;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;
use crate::rcc::home::{Home, HomeError};
use crate::space::maintain::delete::DeleteError;
use crate::store::StoreError;

pub use self::hold::Lease;

/// What is to be collected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Only tell what would go.
    pub dry_run: bool,
    /// Bring the raw store, and the layouts, down to so many bytes each, the least recently used first.
    pub max_size: Option<u64>,
    /// Collect raw entries, layouts and bytecode that nobody used for so long, although a catalog names them.
    pub unused: Option<Duration>,
    /// Collect blobs that no catalog names.
    pub hololib: bool,
}

/// What went, or would go.
#[derive(Debug, Default, serde::Serialize)]
pub struct Collected {
    /// Nothing was removed: it was only asked what would be.
    pub dry_run: bool,
    /// Entries of the raw store.
    pub raw_entries: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Bytes that stay in the raw store.
    pub raw_bytes_left: u64,
    /// Temporary files that crashes left in the raw store.
    pub raw_temps: u64,
    /// Indexes, stamps, layouts and bytecode of catalogs that are gone, or that nobody used for too long.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub derived: Vec<PathBuf>,
    /// The state of spaces that are deleted, written files among it.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub spaces: Vec<PathBuf>,
    /// What commands that were killed left: what materialize set aside or was making, temporary directories, records of mounts.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub trash: Vec<PathBuf>,
    /// Where a mount was whose server is gone.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub mounts: Vec<PathBuf>,
    /// Blobs that no catalog names.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// What was kept for a reason that a user may want to know.
    pub kept: Vec<String>,
    /// Spaces that are in use, and keep what they use.
    pub leases: Vec<Lease>,
    /// How long it took.
    pub seconds: f64,
}

/// Why nothing more was collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The catalogs cannot be listed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The library cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state of a space cannot be removed.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// The operating system refused.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure for CollectError {
    fn class(&self) -> Option<Class> {
        match self {
            CollectError::Home(error) => error.class(),
            CollectError::Catalog(error) => error.class(),
            CollectError::Store(error) => error.class(),
            CollectError::Delete(error) => error.class(),
            CollectError::Io { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            CollectError::Home(error) => error.hint(),
            CollectError::Catalog(error) => error.hint(),
            CollectError::Store(error) => error.hint(),
            CollectError::Delete(error) => error.hint(),
            CollectError::Io { .. } => None,
        }
    }
}

impl CollectError {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CollectError {
        let path = path.into();
        move |source| CollectError::Io { doing, path, source }
    }
}

/// Collects. The caller holds the lock of the hololib.
pub fn collect(home: &Home, options: Options) -> Result<Collected, CollectError> {
    let started = Instant::now();
    let mut report = Collected { dry_run: options.dry_run, ..Collected::default() };
    let holds = hold::Holds::of(home)?;
    report.kept.extend(holds.reasons());
    let mut sweep = sweep::Sweep { home, options, holds: &holds, report: &mut report };
    sweep.leftovers()?;
    sweep.records()?;
    sweep.spaces()?;
    sweep.trash()?;
    sweep.temps()?;
    sweep.raw()?;
    sweep.derived()?;
    if options.hololib {
        sweep.blobs()?;
    }
    report.leases = holds.leases;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
