//! Errors of remotes: what was tried, on what, and whether a retry may help.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::address::BadAddress;
use super::head::HeadError;
use super::object::ObjectId;
use super::reference::ReferenceError;
use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;
use crate::space::archive::ArchiveError;
use crate::store::StoreError;

/// Why a remote could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It does not exist.
    #[error("There is no {what} at {remote}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// Where.
        remote: String,
    },
    /// It does not have this environment.
    #[error("There is no environment {environment} at {remote}")]
    NoEnvironment {
        /// Its quoted name, or its identity.
        environment: String,
        /// Where.
        remote: String,
    },
    /// The server denies access.
    #[error("{remote} refuses {doing} {what}: {said}")]
    Denied {
        /// The operation.
        doing: &'static str,
        /// Its object.
        what: String,
        /// Where.
        remote: String,
        /// The status, and the server's message.
        said: String,
    },
    /// The server failed, or gave an unexpected answer.
    #[error("{doing} {what} at {remote} failed: {said}")]
    Answer {
        /// The operation.
        doing: &'static str,
        /// Its object.
        what: String,
        /// Where.
        remote: String,
        /// The actual answer.
        said: String,
        /// The status, if that is what is wrong.
        status: Option<u16>,
        /// The Retry-After of the server, in seconds.
        retry_after: Option<u64>,
        /// A retry may succeed.
        is_passing: bool,
    },
    /// The network failed before or during the transfer.
    #[error("{doing} {what} at {remote} failed")]
    Network {
        /// The operation.
        doing: &'static str,
        /// Its object.
        what: String,
        /// Where.
        remote: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// It counts as down, so nothing was sent.
    #[error("{remote} is down: {cause}")]
    Down {
        /// Where.
        remote: String,
        /// Why it counts as down.
        cause: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Remotes of this kind do not support it.
    #[error("{remote} cannot {what}")]
    Unsupported {
        /// The operation.
        what: &'static str,
        /// The remote.
        remote: String,
    },
    /// The text is not a valid address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A head is invalid.
    #[error("The head {id} at {remote} is not valid")]
    Head {
        /// The head.
        id: ObjectId,
        /// Where.
        remote: String,
        /// Why.
        source: HeadError,
    },
    /// A catalog cannot be turned into a head.
    #[error("The catalog {name} cannot be pushed")]
    Unfit {
        /// The catalog.
        name: String,
        /// Why.
        source: HeadError,
    },
    /// A reference is invalid.
    #[error("The reference {name:?} at {remote} is not valid")]
    Reference {
        /// Its name.
        name: String,
        /// Where.
        remote: String,
        /// Why.
        source: ReferenceError,
    },
    /// The environment is not the pinned one.
    #[error("{remote} is the environment sha256:{found}, not sha256:{pin}")]
    OtherPin {
        /// Where.
        remote: String,
        /// The pin.
        pin: ObjectId,
        /// The identity found.
        found: ObjectId,
    },
    /// A pack does not contain the bytes that the head describes.
    #[error("{what} in {remote} is damaged: {why}")]
    Damaged {
        /// The blob and the pack.
        what: String,
        /// Where.
        remote: String,
        /// The problem.
        why: String,
    },
    /// The signature is missing, or not by this key.
    #[error("{remote} is not signed with the key {key}: {why}")]
    Signature {
        /// The environment.
        remote: String,
        /// The key.
        key: String,
        /// The problem.
        why: String,
    },
    /// Network access is disabled.
    #[error("{what} of {remote} is not on this machine, and --offline forbids fetching it")]
    Offline {
        /// What is missing.
        what: String,
        /// Where it is.
        remote: String,
    },
    /// A login could not be determined.
    #[error("The login for {remote} cannot be read: {why}")]
    Login {
        /// The remote.
        remote: String,
        /// The problem.
        why: String,
    },
    /// A catalog of the hololib cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A blob of the hololib is missing or wrong, or cannot be written.
    #[error(transparent)]
    Blob(#[from] StoreError),
    /// A catalog of an rccremote server cannot be used.
    #[error("The catalog {name} at {remote} is not valid")]
    Foreign {
        /// The catalog.
        name: String,
        /// Where.
        remote: String,
        /// Why.
        source: HeadError,
    },
    /// The zip file of an rccremote server is not valid.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl Failure for RemoteError {
    fn class(&self) -> Option<Class> {
        match self {
            RemoteError::NotFound { .. }
            | RemoteError::NoEnvironment { .. }
            | RemoteError::Offline { .. } => Some(Class::NotFound),
            RemoteError::Head { .. }
            | RemoteError::Unfit { .. }
            | RemoteError::Reference { .. }
            | RemoteError::OtherPin { .. }
            | RemoteError::Signature { .. }
            | RemoteError::Foreign { .. } => Some(Class::BadCatalog),
            RemoteError::Damaged { .. } => Some(Class::BadBlob),
            RemoteError::Catalog(error) => error.class(),
            RemoteError::Blob(error) => error.class(),
            RemoteError::Archive(error) => error.class(),
            RemoteError::Denied { .. }
            | RemoteError::Answer { .. }
            | RemoteError::Network { .. }
            | RemoteError::Down { .. }
            | RemoteError::Io { .. }
            | RemoteError::Unsupported { .. }
            | RemoteError::Address(_)
            | RemoteError::Login { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            RemoteError::Denied { .. } => Some(
                "log in with the remote's own tools: docker login, aws configure, az login, ~/.netrc".into(),
            ),
            RemoteError::NoEnvironment { .. } => Some("`holofs remote ls` shows what is there".into()),
            RemoteError::Damaged { .. } => Some("push it again".into()),
            RemoteError::Offline { .. } => Some("run it once with a network".into()),
            RemoteError::Catalog(error) => error.hint(),
            RemoteError::Blob(error) => error.hint(),
            _ => None,
        }
    }
}

impl RemoteError {
    /// For `map_err`: the operation and its file.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RemoteError {
        let path = path.into();
        move |source| RemoteError::Io { doing, path, source }
    }

    /// True if the same request may succeed when retried.
    pub fn is_passing(&self) -> bool {
        match self {
            RemoteError::Answer { is_passing, .. } => *is_passing,
            RemoteError::Network { .. } | RemoteError::Damaged { .. } => true,
            _ => false,
        }
    }

    /// True if the remote gave no useful answer at all: it may be down.
    pub fn is_down(&self) -> bool {
        match self {
            RemoteError::Answer { status, is_passing, .. } => {
                *is_passing && status.is_some_and(|status| status >= 500)
            }
            RemoteError::Network { .. } => true,
            _ => false,
        }
    }

    /// True if the remote asks for fewer requests.
    pub fn is_too_many(&self) -> bool {
        matches!(self, RemoteError::Answer { status: Some(429), .. })
    }

    /// The Retry-After of the server, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            RemoteError::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
