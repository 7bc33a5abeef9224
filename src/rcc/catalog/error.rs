//! Why a catalog cannot be used: which file, which entry of it, which rule.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::error::{Class, Failure};
use crate::rcc::digest::BadDigest;
use crate::sys::fs::name::BadName;

/// A catalog that cannot be used. Nothing was created when one of these comes back.
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
    /// Not a regular file: it could block, or never end.
    #[error("Cannot read the catalog {}: it is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file's name says that it has another format.
    #[error(
        "Cannot read the catalog {}: its name says version {version}, and only version 12 is known",
        path.display()
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The two characters after the `v`.
        version: String,
    },
    /// The content is not that of a good catalog.
    #[error("Bad catalog{}", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Bad {
        /// The file, when it was read from one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
}

impl Failure for CatalogError {
    /// One that cannot be read at all is a failure of the system, not a bad catalog.
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
    /// What is wrong inside the catalog, unless it could not even be read.
    pub fn flaw(&self) -> Option<&Flaw> {
        match self {
            CatalogError::Bad { flaw, .. } => Some(flaw),
            _ => None,
        }
    }

    /// The entry that is wrong, as a path below the catalog's root (`.` for the root itself).
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
    /// Neither gzip nor zstd: RCC refuses plain JSON too.
    #[error("It is neither gzip nor zstd")]
    NotCompressed,
    /// It ends early, or is damaged: RCC writes catalogs in place, so a reader can meet half of one.
    #[error("It cannot be inflated as {encoding}, so it is truncated or damaged")]
    Inflate {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// Why.
        source: io::Error,
    },
    /// More than the documented limit of something.
    #[error("It has more than {limit} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Not JSON, or not of the right types.
    #[error("{entry} cannot be understood")]
    Json {
        /// The entry being read when it happened.
        entry: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A field of the head is wrong.
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
    /// No thread for the parser.
    #[error("It cannot be parsed: there is no thread for it")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

/// A rule that an entry of a catalog breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A catalog can only hold UTF-8.
    #[error("The name or link text is not UTF-8")]
    NotUtf8,
    /// The key in the parent and the entry's own name differ.
    #[error("The entry is called {name:?} inside")]
    OtherName {
        /// The name inside, cut to 300 characters.
        name: String,
    },
    /// Two entries with one name.
    #[error("There are two entries of this name")]
    DuplicateName,
    /// A field that stands twice in one object.
    #[error("The field {field:?} stands there twice")]
    DuplicateField {
        /// Which.
        field: &'static str,
    },
    /// More levels than [`super::MAX_DEPTH`].
    #[error("It is nested deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// The root is a link, shadow, or has a name.
    #[error("The root must be a directory without name, link and shadow")]
    Root,
    /// Below a link must be shadow, and only there.
    #[error("The shadow mark is wrong: what is below a link to a directory has it, and nothing else")]
    Shadow,
    /// A link text that no file system takes.
    #[error("The link text has {length} bytes, or a NUL; 1 to 4095 without NUL can be made")]
    LinkText {
        /// Its length.
        length: usize,
    },
    /// Below zero, or beyond what a file can have.
    #[error("The size {size} is no size of a file")]
    Size {
        /// The size.
        size: i128,
    },
    /// Type bits of something that a catalog cannot hold there.
    #[error("The mode {mode:#x} is not that of {expected}")]
    Mode {
        /// Go's mode.
        mode: u32,
        /// What may stand there.
        expected: &'static str,
    },
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] BadDigest),
    /// Only a link can be without digest.
    #[error("It has no digest")]
    NoDigest,
    /// A relocation before the start or behind the end of the file.
    #[error("The relocation at {offset} does not fit into {size} bytes")]
    Relocation {
        /// Where it should be.
        offset: i128,
        /// The size of the file.
        size: u64,
    },
    /// The arena of a catalog made by a program is not a tree in the promised order.
    #[error("The directories are not in the order of a tree")]
    Order,
}

/// A text of a catalog, made fit for a message: escaped, and cut in the middle when it is long.
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
