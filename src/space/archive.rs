//! `hololib.zip`: an environment with all its blobs in one file, as RCC exports and imports it.
//!
//! ```text
//! library/aa/bb/cc/<digest>     a blob, as it is stored in the library
//! catalog/<blueprint>v12.<platform>
//! ```
//! RCC unpacks such a file over its hololib without checks. Here every name must be one of these two, or the file is rejected before
//! anything is written; a blob is published only after its content was verified; a catalog is published last, and only if it is valid
//! and all its blobs are present and valid. So an import that was interrupted, or found damage, can simply be repeated.
//!
//! The caller holds RCC's lock of the hololib during an import.

mod delta;
mod export;
mod import;
mod names;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;
use crate::store::StoreError;

pub use self::delta::Delta;
pub use self::export::{Exported, export, stream};
pub use self::import::{Imported, Options, import};
pub use self::names::is_catalog;

/// Why nothing, or not everything, was exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
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
    /// The file is not a zip, or one of a kind that RCC does not write.
    #[error("Cannot read {} as a zip file", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// Why.
        source: zip::result::ZipError,
    },
    /// A name that does not belong in a hololib.
    #[error("{} holds {entry:?}, which is neither a blob nor a catalog: nothing was imported", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// The same name occurs twice, possibly once with each kind of slash.
    #[error("{} holds {entry:?} twice: nothing was imported", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// The file contains no catalog.
    #[error("{} holds no catalog: nothing was imported", path.display())]
    NoCatalog {
        /// The file.
        path: PathBuf,
    },
    /// A catalog is not valid.
    #[error("{} holds a bad catalog {entry:?}: nothing was imported", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Why.
        source: Box<CatalogError>,
    },
    /// A catalog's name has another blueprint or platform than its content.
    #[error("{} holds the catalog {inside} under the name {entry:?}: nothing was imported", path.display())]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What its content states.
        inside: String,
    },
    /// RCC could not use it here.
    #[error(
        "{} has {} blobs, and the hololib is {}: RCC could not use them here",
        path.display(),
        if *compressed { "compressed" } else { "raw" },
        if *compressed { "raw (it has catalog/compress.no)" } else { "compressed (it has no catalog/compress.no)" }
    )]
    OtherRegime {
        /// The file.
        path: PathBuf,
        /// The blobs of the file are compressed.
        compressed: bool,
    },
    /// There is not enough disk space.
    #[error("{} needs up to {}, and {} are free in the hololib: nothing was imported", path.display(), HumanBytes(*needed), HumanBytes(*available))]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
    },
    /// Some blobs are missing or damaged, so the catalogs that refer to them were not imported.
    #[error(
        "{} is damaged: {} missing or wrong, and so not imported: {}",
        path.display(),
        if *count == 1 { "1 of its blobs is".to_owned() } else { format!("{count} of its blobs are") },
        catalogs.join(", ")
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The number of such blobs.
        count: usize,
        /// The catalogs that were not imported.
        catalogs: Vec<String>,
        /// The problem of the first of them.
        #[source]
        first: Box<StoreError>,
    },
    /// A catalog of the hololib cannot be read.
    #[error(transparent)]
    OwnCatalog(#[from] CatalogError),
    /// A blob of the hololib is missing or damaged, or cannot be written.
    #[error(transparent)]
    Blob(#[from] StoreError),
}

impl Failure for ArchiveError {
    fn class(&self) -> Option<Class> {
        match self {
            ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(Class::NotFound)
            }
            ArchiveError::Io { .. } | ArchiveError::NoSpace { .. } => None,
            ArchiveError::Zip { .. }
            | ArchiveError::Name { .. }
            | ArchiveError::Twice { .. }
            | ArchiveError::NoCatalog { .. }
            | ArchiveError::Catalog { .. }
            | ArchiveError::Misnamed { .. }
            | ArchiveError::OtherRegime { .. } => Some(Class::BadCatalog),
            ArchiveError::OwnCatalog(error) => error.class(),
            ArchiveError::Damaged { .. } => Some(Class::BadBlob),
            ArchiveError::Blob(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ArchiveError::OtherRegime { .. } => Some("--mixed imports them for HoloFS alone".into()),
            ArchiveError::Zip { .. } => {
                Some("`holofs export` and `rcc holotree export` write such files".into())
            }
            ArchiveError::Damaged { .. } => {
                Some("export it again where it comes from, and import that".into())
            }
            ArchiveError::OwnCatalog(error) => error.hint(),
            ArchiveError::Blob(error) => error.hint(),
            _ => None,
        }
    }
}

impl ArchiveError {
    /// For `map_err`: the operation and its path.
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ArchiveError {
        let path = path.into();
        move |source| ArchiveError::Io { doing, path, source }
    }

    fn zip(path: impl Into<PathBuf>) -> impl FnOnce(zip::result::ZipError) -> ArchiveError {
        let path = path.into();
        move |source| ArchiveError::Zip { path, source }
    }
}
