//! Why there is no Index.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::build::TooLarge;
use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;

/// Why there is no Index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be read; `NotFound` means that this catalog is not compiled yet.
    #[error("Cannot read the index {}", path.display())]
    Read {
        /// The Index.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// It has another format, or belongs to another catalog.
    #[error("The index {} is of another catalog or version", path.display())]
    Foreign {
        /// The Index.
        path: PathBuf,
    },
    /// Its bytes are not those that were written.
    #[error("The index {} is damaged: {what}", path.display())]
    Damaged {
        /// The Index.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The source catalog is bad or unreadable.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog's tree is too large for the format.
    #[error("Cannot compile {}", path.display())]
    TooLarge {
        /// The catalog.
        path: PathBuf,
        /// The limit.
        source: TooLarge,
    },
}

impl Failure for IndexError {
    fn class(&self) -> Option<Class> {
        match self {
            IndexError::Catalog(error) => error.class(),
            IndexError::TooLarge { .. } => Some(Class::BadCatalog),
            IndexError::Read { .. } | IndexError::Foreign { .. } | IndexError::Damaged { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            IndexError::Catalog(error) => error.hint(),
            _ => None,
        }
    }
}
