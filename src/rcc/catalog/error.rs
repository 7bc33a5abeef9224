//! Why a catalog cannot be used: which file, which entry of it, which rule.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::error::{Class, Failure};
use crate::rcc::digest::BadDigest;
use crate::sys::fs::name::BadName;

/// A catalog cannot be used. Nothing was created when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("Cannot read the catalog {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a regular file: reading could block, or never end.
    #[error("Cannot read the catalog {}: it is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file name indicates another format version.
    #[error(
        "Cannot read the catalog {}: its name has version {version}, and only version 12 is supported",
        path.display()
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The two characters after the `v`.
        version: String,
    },
    /// The content is not a valid catalog.
    #[error("Bad catalog{}", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Bad {
        /// The file, if it was read from one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
}

impl Failure for CatalogError {
    /// A file that cannot be read is a system failure, not a bad catalog.
    fn class(&self) -> Option<Class> {
        match self {
            CatalogError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(Class::NotFound)
            }
            CatalogError::Unreadable { .. } => None,
            _ => Some(Class::BadCatalog),
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            CatalogError::OtherVersion { .. } => {
                Some("rebuild the environment with an RCC that writes v12".into())
            }
            CatalogError::Bad { flaw, .. } => flaw.hint(),
            CatalogError::Unreadable { .. } | CatalogError::NotAFile { .. } => None,
        }
    }
}

impl CatalogError {
    /// The flaw in the content, unless it could not even be read.
    pub fn flaw(&self) -> Option<&Flaw> {
        match self {
            CatalogError::Bad { flaw, .. } => Some(flaw),
            _ => None,
        }
    }

    /// The invalid entry, as a path below the catalog's root (`.` for the root itself).
    pub fn entry(&self) -> Option<&str> {
        match self.flaw()? {
            Flaw::Json { entry, .. } | Flaw::Entry { entry, .. } => Some(entry),
            _ => None,
        }
    }
}

impl From<Flaw> for CatalogError {
    fn from(flaw: Flaw) -> CatalogError {
        CatalogError::Bad { path: None, flaw }
    }
}

impl Failure for Flaw {
    fn hint(&self) -> Option<Cow<'_, str>> {
        matches!(self, Flaw::Inflate { .. }).then_some("record the environment again".into())
    }
}

/// What is wrong with the content of a catalog.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// Neither gzip nor zstd: RCC rejects plain JSON too.
    #[error("It is neither gzip nor zstd")]
    NotCompressed,
    /// Truncated or damaged: RCC writes catalogs in place, so a reader can see a partial one.
    #[error("It cannot be inflated as {encoding}, so it is truncated or damaged")]
    Inflate {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A documented limit is exceeded.
    #[error("It has more than {limit} {what}")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Not JSON, or values of wrong types.
    #[error("{entry} cannot be understood")]
    Json {
        /// The entry being read at that point.
        entry: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A field of the header is wrong.
    #[error("The {field} {value:?} {rule}")]
    Header {
        /// Which field.
        field: &'static str,
        /// Its value, cut to 300 characters.
        value: String,
        /// What it should be.
        rule: &'static str,
    },
    /// An entry breaks a rule.
    #[error("{entry}: {rule}")]
    Entry {
        /// The path below the root, `.` for the root itself.
        entry: String,
        /// The rule.
        rule: Rule,
    },
    /// The parser's thread could not be started.
    #[error("It cannot be parsed: cannot start a thread")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

/// A rule that an entry of a catalog violates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Not a valid name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A catalog can only contain UTF-8.
    #[error("The name or link text is not UTF-8")]
    NotUtf8,
    /// The key in the parent and the entry's own name differ.
    #[error("The entry's own name is {name:?}")]
    OtherName {
        /// The name inside, cut to 300 characters.
        name: String,
    },
    /// Two entries with one name.
    #[error("There are two entries with this name")]
    DuplicateName,
    /// A field that occurs twice in one object.
    #[error("The field {field:?} occurs twice")]
    DuplicateField {
        /// Which.
        field: &'static str,
    },
    /// More levels than [`super::MAX_DEPTH`].
    #[error("It is nested deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// The root is a link, is a shadow, or has a name.
    #[error("The root must be a directory without name, link and shadow")]
    Root,
    /// Entries below a link, and only those, must be shadows.
    #[error("The shadow mark is wrong: only entries below a link to a directory have it, and all of them")]
    Shadow,
    /// A link text that no file system accepts.
    #[error("The link text has {length} bytes, or a NUL; allowed are 1 to 4095 bytes without NUL")]
    LinkText {
        /// Its length.
        length: usize,
    },
    /// Negative, or beyond the maximum file size.
    #[error("The size {size} is not a valid file size")]
    Size {
        /// The size.
        size: i128,
    },
    /// Type bits that a catalog cannot have there.
    #[error("The mode {mode:#x} is not that of {expected}")]
    Mode {
        /// Go's mode.
        mode: u32,
        /// What is allowed there.
        expected: &'static str,
    },
    /// Not a valid digest.
    #[error(transparent)]
    Digest(#[from] BadDigest),
    /// Only a link can have no digest.
    #[error("It has no digest")]
    NoDigest,
    /// A relocation before the start or beyond the end of the file.
    #[error("The relocation at {offset} does not fit into {size} bytes")]
    Relocation {
        /// Its offset.
        offset: i128,
        /// The size of the file.
        size: u64,
    },
    /// The arena of a generated catalog is not a tree in the required order.
    #[error("The directories are not in the order of a tree")]
    Order,
}

/// A text of a catalog, prepared for a message: escaped, and shortened in the middle if it is long.
pub(super) fn shown(text: &str) -> String {
    const HEAD: usize = 100;
    const TAIL: usize = 200;
    let escaped: Vec<char> = text.chars().flat_map(char::escape_debug).collect();
    if escaped.len() <= HEAD + TAIL {
        return escaped.into_iter().collect();
    }
    let (head, tail) = (&escaped[..HEAD], &escaped[escaped.len() - TAIL..]);
    head.iter().chain("[…]".chars().collect::<Vec<_>>().iter()).chain(tail).collect()
}
