//! Errors of a space, and the only table that maps errors to an errno.

use std::borrow::Cow;
use std::io;

use crate::error::{Class, Failure};
use crate::fs::upper::UpperError;
use crate::space::relocated::ContentError;
use crate::store::index::Ino;
use crate::sys::errno::Errno;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum VfsError {
    /// The kernel named an inode that never existed, or was removed.
    #[error("There is no inode {0}")]
    NoSuchInode(Ino),
    /// The catalog's entries cannot be read, so it is unknown what exists.
    #[error("The entries of the catalog cannot be read")]
    Lost,
    /// No entry of that name.
    #[error("There is no entry with that name")]
    NoEntry,
    /// The inode is not a directory.
    #[error("Inode {0} is not a directory")]
    NotADirectory(Ino),
    /// The inode is a directory.
    #[error("Inode {0} is a directory")]
    IsADirectory(Ino),
    /// The inode is not a symbolic link.
    #[error("Inode {0} is not a symbolic link")]
    NotALink(Ino),
    /// The inode is not a regular file.
    #[error("Inode {0} is not a regular file")]
    NotAFile(Ino),
    /// An entry with that name exists already.
    #[error("There is already an entry with that name")]
    Exists,
    /// The directory has entries.
    #[error("The directory {0} is not empty")]
    NotEmpty(Ino),
    /// The request is not valid.
    #[error("{0}")]
    Invalid(&'static str),
    /// The request is never permitted.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// The request is not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// There is neither data nor a hole at or after that offset.
    #[error("That is beyond the end of the file")]
    BeyondEnd,
    /// The attributes of one inode would be too large.
    #[error("There is no room for this extended attribute")]
    TooManyAttributes,
    /// The space has reached its limit of inodes.
    #[error("There is no room for another inode")]
    TooManyInodes,
    /// The upper failed.
    #[error(transparent)]
    Upper(#[from] UpperError),
    /// The space is mounted read-only.
    #[error("The space is read-only")]
    ReadOnly,
    /// No extended attribute of that name.
    #[error("There is no such extended attribute")]
    NoAttribute,
    /// An invalid name.
    #[error(transparent)]
    BadName(#[from] crate::sys::fs::name::BadName),
    /// The content is not available: missing, damaged, or not as in the catalog.
    #[error("Cannot read {path}")]
    Content {
        /// The file, relative to the space.
        path: String,
        /// The error of the store.
        source: ContentError,
    },
    /// A system call failed.
    #[error("Cannot {doing} for inode {ino}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The inode.
        ino: Ino,
        /// The system error.
        source: io::Error,
    },
}

impl Failure for VfsError {
    fn class(&self) -> Option<Class> {
        match self {
            VfsError::Upper(error) => error.class(),
            VfsError::Content { source, .. } => source.class(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            VfsError::Upper(error) => error.hint(),
            VfsError::Content { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl VfsError {
    /// The errno of this error: decided only here.
    pub fn errno(&self) -> Errno {
        match self {
            VfsError::NoSuchInode(_) => Errno::STALE,
            VfsError::NoEntry => Errno::NOENT,
            VfsError::NotADirectory(_) => Errno::NOTDIR,
            VfsError::IsADirectory(_) => Errno::ISDIR,
            VfsError::NotALink(_) | VfsError::NotAFile(_) | VfsError::Invalid(_) => Errno::INVAL,
            VfsError::Exists => Errno::EXIST,
            VfsError::NotEmpty(_) => Errno::NOTEMPTY,
            VfsError::NotPermitted(_) => Errno::PERM,
            VfsError::Unsupported(_) => Errno::NOTSUP,
            VfsError::BeyondEnd => Errno::NXIO,
            VfsError::TooManyAttributes | VfsError::TooManyInodes => Errno::NOSPC,
            VfsError::Upper(error) => Errno::of(&error.as_io()),
            VfsError::ReadOnly => Errno::ROFS,
            VfsError::NoAttribute => Errno::NODATA,
            VfsError::BadName(crate::sys::fs::name::BadName::TooLong(_)) => Errno::NAMETOOLONG,
            VfsError::BadName(_) => Errno::INVAL,
            // Damage of the store is never ENOENT: a program must not take it for a missing file.
            VfsError::Content { .. } | VfsError::Lost => Errno::IO,
            VfsError::Io { source, .. } => Errno::of(source),
        }
    }

    /// True for errors that programs cause all the time, which are not worth a warning.
    pub fn is_ordinary(&self) -> bool {
        match self {
            VfsError::Content { .. } | VfsError::Lost | VfsError::NoSuchInode(_) => false,
            // On a full disk, every write of every program gets this error.
            VfsError::Io { .. } | VfsError::Upper(_) => {
                matches!(self.errno(), Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
            }
            _ => true,
        }
    }
}
