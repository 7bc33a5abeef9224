//! Errors about blobs, worded so that the user can act on them.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use crate::error::{Class, Failure};
use crate::rcc::digest::Digest;
use crate::store::codec::Codec;

/// How a user gets a good blob again.
pub const HINT: &str =
    "`holofs check --repair` or `rcc holotree check` removes it, then import or build the environment again";

/// A blob cannot be provided, or its destination cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The library has no such blob.
    #[error("Cannot find blob {digest}: there is no {}", path.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// Where it should be.
        path: Box<Path>,
    },
    /// The blob's path is not a regular file.
    #[error("Cannot open blob {digest} at {}: it is a {kind}, not a file", path.display())]
    NotRegular {
        /// The blob.
        digest: Digest,
        /// Where it should be.
        path: Box<Path>,
        /// What is there instead.
        kind: &'static str,
    },
    /// The content is too short.
    #[error("Blob {digest} at {} is truncated: {tried} it has {got} of {size} bytes", path.display())]
    Truncated {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// How it was read.
        tried: Box<Tried>,
        /// Bytes of content found.
        got: u64,
        /// Bytes that the catalog declares.
        size: u64,
    },
    /// The content continues after its declared end.
    #[error("Blob {digest} at {} is too long: {tried} it has more than its {size} bytes", path.display())]
    Longer {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// How it was read.
        tried: Box<Tried>,
        /// Bytes that the catalog declares.
        size: u64,
    },
    /// The decoder rejects the bytes.
    #[error("Blob {digest} at {} is damaged: {tried} it cannot be decoded", path.display())]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// How it was read.
        tried: Box<Tried>,
        /// The decoder's error.
        source: io::Error,
    },
    /// The content has another digest.
    #[error("Blob {digest} at {} is damaged: {tried} its content has the digest {actual}", path.display())]
    Mismatch {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// How it was read.
        tried: Box<Tried>,
        /// The digest of the content found.
        actual: Box<Digest>,
    },
    /// The blob's encoding is not allowed for its kind of digest, or is not supported.
    #[error("Blob {digest} at {} is stored as {found}, which is not allowed for its digest", path.display())]
    WrongCodec {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// The encoding found.
        found: &'static str,
    },
    /// The system does not allow opening or reading the blob.
    #[error("Cannot read blob {digest} at {}", path.display())]
    Unreadable {
        /// The blob.
        digest: Digest,
        /// Where it is.
        path: Box<Path>,
        /// Why.
        source: io::Error,
    },
    /// The destination of the content cannot be written.
    #[error("Cannot write the content of blob {digest}")]
    Sink {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The raw store failed for this entry.
    #[error("Cannot use {} for blob {digest}", path.display())]
    RawStore {
        /// The blob.
        digest: Digest,
        /// The entry of the raw store.
        path: Box<Path>,
        /// Why.
        source: io::Error,
    },
    /// The content is not on this machine, and its supplier did not provide it.
    #[error("Cannot fetch blob {digest}")]
    Supply {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The library itself cannot be opened.
    #[error("Cannot open the hololib's library {}", path.display())]
    Library {
        /// The library.
        path: Box<Path>,
        /// Why.
        source: io::Error,
    },
    /// A blob could not be added to the library.
    #[error("Cannot write blob {digest} to {}", path.display())]
    Publish {
        /// The blob.
        digest: Digest,
        /// Where it should be.
        path: Box<Path>,
        /// Why.
        source: io::Error,
    },
}

/// How a blob was read before its content was found to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The encoding that was assumed.
    pub codec: Codec,
    /// The undecoded bytes as content, where the blob might have been raw.
    pub raw: Option<RawReading>,
}

/// The undecoded bytes of a blob, as content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawReading {
    /// Their number, which is not the declared size.
    Length(u64),
    /// Their digest.
    Digest(Digest),
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.raw {
            None => write!(f, "read as {},", self.codec),
            Some(RawReading::Length(len)) => {
                write!(f, "read as {} (undecoded it has {len} bytes),", self.codec)
            }
            Some(RawReading::Digest(digest)) => {
                write!(f, "read as {} (undecoded it has the digest {digest}),", self.codec)
            }
        }
    }
}

impl Failure for StoreError {
    /// Damage has its own class; a library that cannot be read is a system failure.
    fn class(&self) -> Option<Class> {
        self.is_damage().then_some(Class::BadBlob)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        self.is_damage().then_some(HINT.into())
    }
}

impl StoreError {
    /// True if the blob itself is missing or wrong: only a new copy helps.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Missing { .. }
            | StoreError::NotRegular { .. }
            | StoreError::Truncated { .. }
            | StoreError::Longer { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Mismatch { .. }
            | StoreError::WrongCodec { .. } => true,
            StoreError::Unreadable { .. }
            | StoreError::Sink { .. }
            | StoreError::RawStore { .. }
            | StoreError::Library { .. }
            | StoreError::Supply { .. }
            | StoreError::Publish { .. } => false,
        }
    }

    /// The affected blob.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            StoreError::Missing { digest, .. }
            | StoreError::NotRegular { digest, .. }
            | StoreError::Truncated { digest, .. }
            | StoreError::Longer { digest, .. }
            | StoreError::Corrupt { digest, .. }
            | StoreError::Mismatch { digest, .. }
            | StoreError::WrongCodec { digest, .. }
            | StoreError::Unreadable { digest, .. }
            | StoreError::Sink { digest, .. }
            | StoreError::RawStore { digest, .. }
            | StoreError::Supply { digest, .. }
            | StoreError::Publish { digest, .. } => Some(digest),
            StoreError::Library { .. } => None,
        }
    }

    /// The system error, if there is one.
    pub(super) fn io(&self) -> Option<&io::Error> {
        match self {
            StoreError::Corrupt { source, .. }
            | StoreError::Unreadable { source, .. }
            | StoreError::Sink { source, .. }
            | StoreError::RawStore { source, .. }
            | StoreError::Library { source, .. }
            | StoreError::Publish { source, .. } => Some(source),
            _ => None,
        }
    }
}
