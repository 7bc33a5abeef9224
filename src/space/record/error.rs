//! Why a tree cannot be recorded. No catalog was written when one of these is returned.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;
use crate::store::StoreError;

/// A tree cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// An operation on the tree or the hololib failed.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path it was on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only directories are recorded.
    #[error("Cannot record {}: it is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory's name cannot be replaced by a label.
    #[error(
        "Cannot record {}: the name of the directory, which spaces replace by their label, must be 24 letters, digits or _, and it has {length} bytes", path.display())]
    Identity {
        /// The directory.
        path: PathBuf,
        /// The length of its name in bytes.
        length: usize,
        /// A name that works.
        advice: String,
    },
    /// The directory's name contains its own last character, which RCC's search looks for.
    #[error(
        "Cannot record {}: RCC's search never finds a name that contains its own last character ({trigger:?}) elsewhere", path.display())]
    Unfindable {
        /// The directory.
        path: PathBuf,
        /// The last character.
        trigger: char,
        /// A name that works.
        advice: String,
    },
    /// A catalog is JSON.
    #[error("Cannot record {}: its name or link text is not UTF-8, and RCC would change it silently", path.display())]
    NotUtf8 {
        /// The entry.
        path: PathBuf,
    },
    /// A dangling link.
    #[error("Cannot record {}: the link to {} leads nowhere", path.display(), target.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// Its text.
        target: PathBuf,
        /// Why it cannot be followed.
        source: io::Error,
    },
    /// A link to a directory that contains it.
    #[error(
        "Cannot record {}: it is a directory that contains itself, through a link", path.display())]
    Loop {
        /// Where the directory occurs again.
        path: PathBuf,
    },
    /// Something without content.
    #[error("Cannot record {}: it is a {kind}, and only files, directories and links can be recorded", path.display())]
    NotAFile {
        /// The entry.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Deeper or larger than a catalog can represent.
    #[error("Cannot record {}: the tree has more than {limit} {what}", path.display())]
    TooLarge {
        /// Where it was noticed.
        path: PathBuf,
        /// The limited quantity.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The tree is still being changed.
    #[error("Cannot record {}: it changed in the meantime", path.display())]
    Changed {
        /// The entry.
        path: PathBuf,
    },
    /// It was interrupted; the blobs that it had written are removed.
    #[error("Recording was interrupted")]
    Interrupted,
    /// A blob cannot be added to the library.
    #[error(transparent)]
    Blob(#[from] StoreError),
    /// The tree violates a rule of catalogs.
    #[error("Cannot record {}", path.display())]
    Catalog {
        /// The recorded directory.
        path: PathBuf,
        /// The rule.
        source: Box<CatalogError>,
    },
}

impl Failure for RecordError {
    fn class(&self) -> Option<Class> {
        match self {
            RecordError::Blob(error) => error.class(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            RecordError::Identity { advice, .. } | RecordError::Unfindable { advice, .. } => {
                Some(format!("build the environment in a directory called {advice}").into())
            }
            RecordError::Dangling { .. } | RecordError::Loop { .. } => Some("remove the link".into()),
            RecordError::Changed { .. } => Some("record again when nothing writes there".into()),
            RecordError::Blob(error) => error.hint(),
            _ => None,
        }
    }
}

impl RecordError {
    /// For `map_err`: the operation and its path.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RecordError {
        let path = path.into();
        move |source| RecordError::Io { doing, path, source }
    }
}
