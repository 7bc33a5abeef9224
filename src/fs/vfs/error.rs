//! What can go wrong in a space, and the one table from an error to the errno that a program sees.

use std::borrow::Cow;
use std::io;

use crate::error::{Class, Failure};
use crate::fs::upper::UpperError;
use crate::space::relocated::ContentError;
use crate::store::index::Ino;
use crate::sys::errno::Errno;

/// An operation that did not work.
#[derive(Debug, thiserror::Error)]
pub enum VfsError {
    /// The kernel asked for an inode that never was, or is gone.
    #[error("There is no inode {0}")]
    NoSuchInode(Ino),
    /// No entry of that name.
    #[error("There is no entry of that name")]
    NoEntry,
    /// The inode is no directory.
    #[error("Inode {0} is not a directory")]
    NotADirectory(Ino),
    /// The inode is a directory.
    #[error("Inode {0} is a directory")]
    IsADirectory(Ino),
    /// The inode is no link.
    #[error("Inode {0} is not a symbolic link")]
    NotALink(Ino),
    /// The inode is no regular file.
    #[error("Inode {0} is not a regular file")]
    NotAFile(Ino),
    /// There is an entry of that name.
    #[error("There is something of that name already")]
    Exists,
    /// The directory has entries.
    #[error("The directory {0} is not empty")]
    NotEmpty(Ino),
    /// What is asked cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// What is asked is nobody's right.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// What is asked is not done here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// There is neither data nor a hole from there on.
    #[error("That is beyond the end of the file")]
    BeyondEnd,
    /// The attributes of one inode would be too large.
    #[error("There is no room for this extended attribute")]
    TooManyAttributes,
    /// The space has as many inodes as it may.
    #[error("There is no room for another inode")]
    TooManyInodes,
    /// The upper could not take or give it.
    #[error(transparent)]
    Upper(#[from] UpperError),
    /// The space is mounted read-only.
    #[error("The space is read-only")]
    ReadOnly,
    /// No extended attribute of that name.
    #[error("There is no such extended attribute")]
    NoAttribute,
    /// A name that cannot be.
    #[error(transparent)]
    BadName(#[from] crate::sys::fs::name::BadName),
    /// The content cannot be had: missing, damaged, not what the catalog says.
    #[error("Cannot read {path}")]
    Content {
        /// The file, below the space.
        path: String,
        /// What the store said.
        source: ContentError,
    },
    /// The system failed while doing something.
    #[error("Cannot {doing} for inode {ino}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// For which inode.
        ino: Ino,
        /// What the system said.
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
    /// The errno of this error: the only place that decides one.
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
            // Damage of the store is not "no such file": whatever the cause, a program must not take it for absence.
            VfsError::Content { .. } => Errno::IO,
            VfsError::Io { source, .. } => Errno::of(source),
        }
    }

    /// True for what programs ask all the time and nobody needs to be told.
    pub fn is_ordinary(&self) -> bool {
        match self {
            VfsError::Content { .. } | VfsError::NoSuchInode(_) => false,
            // A full disk is told to whoever writes, every time.
            VfsError::Io { .. } | VfsError::Upper(_) => {
                matches!(self.errno(), Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
            }
            _ => true,
        }
    }
}
