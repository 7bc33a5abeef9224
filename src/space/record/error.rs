//! Why a tree cannot be recorded. No catalog was written when one of these comes back.

use std::io;
use std::path::PathBuf;

use crate::rcc::catalog::CatalogError;
use crate::store::StoreError;

/// A tree that cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Something of the tree or of the hololib does not work.
    #[error("{doing} {path:?} failed: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only directories are recorded.
    #[error("Cannot record {path:?}: it is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory's name cannot be replaced by a label.
    #[error(
        "Cannot record {path:?}: the name of the directory is what spaces replace by their label, so it must be \
         24 letters, digits or _, and it has {length} bytes; build the environment in a directory called {advice}"
    )]
    Identity {
        /// The directory.
        path: PathBuf,
        /// The length of its name in bytes.
        length: usize,
        /// A name that works.
        advice: String,
    },
    /// The directory's name holds its own last character, which RCC's search looks for.
    #[error(
        "Cannot record {path:?}: RCC's search never finds a name that holds its own last character ({trigger:?}) \
         elsewhere; build the environment in a directory called {advice}"
    )]
    Unfindable {
        /// The directory.
        path: PathBuf,
        /// The last character.
        trigger: char,
        /// A name that works.
        advice: String,
    },
    /// A catalog is JSON.
    #[error("Cannot record {path:?}: its name or link text is not UTF-8, and RCC would change it silently")]
    NotUtf8 {
        /// The entry.
        path: PathBuf,
    },
    /// A link that leads nowhere.
    #[error("Cannot record {path:?}: the link to {target:?} leads nowhere ({source}); remove it")]
    Dangling {
        /// The link.
        path: PathBuf,
        /// Its text.
        target: PathBuf,
        /// Why it cannot be followed.
        source: io::Error,
    },
    /// A link to a directory it is in.
    #[error(
        "Cannot record {path:?}: it is a directory that contains itself, through a link; remove the link"
    )]
    Loop {
        /// Where the directory is met again.
        path: PathBuf,
    },
    /// Something without content.
    #[error("Cannot record {path:?}: it is a {kind}; only files, directories and links can be recorded")]
    NotAFile {
        /// The entry.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Deeper, or more, than a catalog can hold.
    #[error("Cannot record {path:?}: the tree has more than {limit} {what}")]
    TooLarge {
        /// Where it was noticed.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Somebody is still working there.
    #[error("Cannot record {path:?}: it changed meanwhile; record again when nothing writes there")]
    Changed {
        /// The entry.
        path: PathBuf,
    },
    /// A blob cannot be put into the library.
    #[error(transparent)]
    Blob(#[from] StoreError),
    /// The tree breaks a rule of catalogs.
    #[error("Cannot record {path:?}: {source}")]
    Catalog {
        /// The recorded directory.
        path: PathBuf,
        /// Which rule.
        source: Box<CatalogError>,
    },
}

impl RecordError {
    /// For `map_err`: what was tried, on what.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RecordError {
        let path = path.into();
        move |source| RecordError::Io { doing, path, source }
    }
}
