//! Garbage collection: raw entries, indexes, pristine trees, bytecode, remote environments, the state of deleted spaces, and, on request,
//! blobs.
//!
//! Data is in use if a catalog of the hololib, or of a recently used remote environment, refers to it, or if a live space needs
//! it. A live space holds the kernel's lock in its state directory. For a mount, `mount.json` names the catalog, which is kept
//! even if it was removed from the hololib; for a running materialize the catalog is not known, so nothing that it could be using
//! is collected.
//!
//! Everything but the written state of a space and the blobs can be created again: collecting it costs time only. State is removed
//! only with its space, when both its directory and its `.meta` are gone. The caller holds RCC's lock of the hololib.

mod hold;
mod leftovers;
mod parts;
mod remotes;
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
use crate::sys::fs::place::Place;

use self::hold::Holds;
pub use self::hold::Lease;

/// What to collect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Only report what would be removed.
    pub dry_run: bool,
    /// Shrink the raw store, and the pristine trees, to this many bytes each, least recently used first.
    pub max_size: Option<u64>,
    /// Collect raw entries, pristine trees and bytecode that were not used for this long, although a catalog refers to them.
    pub unused: Option<Duration>,
    /// Collect blobs that no catalog refers to.
    pub hololib: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default, serde::Serialize)]
pub struct Collected {
    /// Nothing was removed: this is only what would be.
    pub dry_run: bool,
    /// Entries of the raw store.
    pub raw_entries: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Bytes that remain in the raw store.
    pub raw_bytes_left: u64,
    /// Temporary files left by crashes in the raw store.
    pub raw_temps: u64,
    /// Indexes, stamps, pristine trees and bytecode of catalogs that are gone, or that were not used for too long.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub derived: Vec<PathBuf>,
    /// Local state of remote environments: unused ones, partial files, names.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub remotes: Vec<PathBuf>,
    /// The state of deleted spaces, including written files.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub spaces: Vec<PathBuf>,
    /// Leftovers of killed commands: directories that materialize set aside or was building, temporary directories and files, records
    /// of mounts.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub trash: Vec<PathBuf>,
    /// Mount points of mounts whose server is gone.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub mounts: Vec<PathBuf>,
    /// Blobs that no catalog refers to.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// What was kept, with reasons that a user may want to know.
    pub kept: Vec<String>,
    /// Spaces in use, whose data is kept.
    pub leases: Vec<Lease>,
    /// The duration.
    pub seconds: f64,
}

/// Why collection stopped.
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
    /// A system call failed.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path it was on.
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

/// A collection in progress: the modules of this one remove one kind of data each.
struct Sweep<'s> {
    home: &'s Home,
    options: Options,
    holds: &'s Holds,
    report: &'s mut Collected,
}

/// The entries of one of our directories; none if it does not exist.
fn entries(dir: &Place) -> Result<Vec<Place>, CollectError> {
    dir.entries().map_err(CollectError::io("Listing", dir.path()))
}

/// Runs the collection. The caller holds the lock of the hololib.
pub fn collect(home: &Home, options: Options) -> Result<Collected, CollectError> {
    let started = Instant::now();
    let mut report = Collected { dry_run: options.dry_run, ..Collected::default() };
    let mut holds = Holds::of(home)?;
    remotes::hold(&mut holds, home, options.unused)?;
    report.kept.extend(holds.reasons());
    let mut sweep = Sweep { home, options, holds: &holds, report: &mut report };
    sweep.leftovers()?;
    sweep.records()?;
    sweep.spaces()?;
    sweep.trash()?;
    sweep.temps()?;
    sweep.parts()?;
    sweep.remotes()?;
    sweep.raw()?;
    sweep.derived()?;
    if options.hololib {
        sweep.blobs()?;
    }
    report.leases = holds.leases;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
