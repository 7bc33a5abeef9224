//! Errors of the written state.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::error::{Class, Failure};
use crate::sys::errno::Errno;

use super::Ino;

/// A failed operation on the upper.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// The state belongs to another catalog.
    #[error(
        "The written state in {} belongs to catalog {found}, not to {wanted}",
        path.display()
    )]
    OtherCatalog {
        /// The database.
        path: PathBuf,
        /// The catalog named in it.
        found: String,
        /// The catalog that was expected.
        wanted: String,
    },
    /// A newer program wrote the state.
    #[error(
        "The written state in {} has format {found}, and this program supports only {known}",
        path.display()
    )]
    NewerFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The state is inconsistent, or not our format at all.
    #[error("The written state in {} is damaged: {what}", path.display())]
    Damaged {
        /// The database, or a file that is inconsistent with it.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A database operation failed.
    #[error("Cannot {doing} {}", path.display())]
    Database {
        /// The operation.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// The error of SQLite; shared, because one commit may carry several operations.
        source: Arc<rusqlite::Error>,
    },
    /// A file operation in the upper failed.
    #[error("Cannot {doing} {}", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// The bytes of an inode are missing, after a power cut or because they were removed.
    #[error("The bytes of inode {ino} are missing in {}", path.display())]
    Lost {
        /// The inode.
        ino: Ino,
        /// Where they should be.
        path: PathBuf,
    },
    /// The state was opened read-only.
    #[error("The written state in {} was opened for reading only", path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
}

/// An error that a full disk may have caused.
pub trait IsFull {
    /// True if the disk was full.
    fn is_full(&self) -> bool;
}

impl IsFull for io::Error {
    fn is_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl IsFull for UpperError {
    fn is_full(&self) -> bool {
        self.as_io().is_full()
    }
}

impl Failure for UpperError {
    fn class(&self) -> Option<Class> {
        matches!(self, UpperError::OtherCatalog { .. }).then_some(Class::Busy)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            UpperError::OtherCatalog { .. } => {
                "mount that catalog, or drop the state with --fresh or `holofs reset`"
            }
            UpperError::NewerFormat { .. } => {
                "use the newer program, or drop the state with --fresh or `holofs reset`"
            }
            UpperError::Damaged { .. } => {
                "save what you need from it, then drop it with --fresh or `holofs reset`"
            }
            UpperError::Lost { .. } => "remove the file, or get it back with `holofs reset`",
            UpperError::Database { .. } | UpperError::Io { .. } | UpperError::ReadOnly { .. } => return None,
        };
        Some(hint.into())
    }
}

impl UpperError {
    /// The failure as a system error: a full disk is ENOSPC, wherever it was detected.
    pub fn as_io(&self) -> io::Error {
        let number = match self {
            UpperError::Io { source, .. } => Errno::of(source),
            UpperError::Database { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Errno::NOSPC,
                _ => Errno::IO,
            },
            UpperError::ReadOnly { .. } => Errno::ROFS,
            UpperError::OtherCatalog { .. }
            | UpperError::NewerFormat { .. }
            | UpperError::Damaged { .. }
            | UpperError::Lost { .. } => Errno::IO,
        };
        io::Error::from_raw_os_error(number.0)
    }
}
