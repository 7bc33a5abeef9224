//! What can go wrong with a remote: what was tried, on what, and whether it helps to try again.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use super::address::BadAddress;
use super::head::HeadError;
use super::object::ObjectId;
use super::reference::ReferenceError;
use crate::error::{Class, Failure};
use crate::rcc::catalog::CatalogError;
use crate::store::StoreError;

/// Why a remote could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It is not where it should be.
    #[error("There is no {what} at {remote}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// Where.
        remote: String,
    },
    /// The server does not let us.
    #[error("{remote} refuses {doing} {what}: {said}")]
    Denied {
        /// What was tried.
        doing: &'static str,
        /// On what.
        what: String,
        /// Where.
        remote: String,
        /// The status, and what the server said to it.
        said: String,
    },
    /// The server failed, or answered something else than asked for.
    #[error("{doing} {what} at {remote} failed: {said}")]
    Answer {
        /// What was tried.
        doing: &'static str,
        /// On what.
        what: String,
        /// Where.
        remote: String,
        /// What came instead.
        said: String,
        /// How long the server asks to be left alone, in seconds.
        retry_after: Option<u64>,
        /// It may succeed the next time.
        is_passing: bool,
    },
    /// Nothing, or not everything, came over the network.
    #[error("{doing} {what} at {remote} failed")]
    Network {
        /// What was tried.
        doing: &'static str,
        /// On what.
        what: String,
        /// Where.
        remote: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// A file could not be read or written.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A remote of this kind cannot do it.
    #[error("{remote} cannot {what}")]
    Unsupported {
        /// What it cannot.
        what: &'static str,
        /// Which.
        remote: String,
    },
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A head is not valid.
    #[error("The head {id} at {remote} is not valid")]
    Head {
        /// Which.
        id: ObjectId,
        /// Where.
        remote: String,
        /// Why.
        source: HeadError,
    },
    /// A catalog cannot become a head.
    #[error("The catalog {name} cannot be pushed")]
    Unfit {
        /// Which.
        name: String,
        /// Why.
        source: HeadError,
    },
    /// A reference is not valid.
    #[error("The reference {name:?} at {remote} is not valid")]
    Reference {
        /// Which.
        name: String,
        /// Where.
        remote: String,
        /// Why.
        source: ReferenceError,
    },
    /// The environment is another than the one that was asked for.
    #[error("{remote} is the environment sha256:{found}, not sha256:{pin}")]
    OtherPin {
        /// Where.
        remote: String,
        /// What was asked for.
        pin: ObjectId,
        /// What is there.
        found: ObjectId,
    },
    /// A pack does not have the bytes that the head says.
    #[error("{what} in {remote} is damaged: {why}")]
    Damaged {
        /// Which blob, in which pack.
        what: String,
        /// Where.
        remote: String,
        /// What is wrong.
        why: String,
    },
    /// The signature is missing, or not of the key.
    #[error("{remote} is not signed with the key {key}: {why}")]
    Signature {
        /// Which environment.
        remote: String,
        /// Which key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The network is not to be used.
    #[error("{what} of {remote} is not on this machine, and --offline forbids to fetch it")]
    Offline {
        /// What is missing.
        what: String,
        /// Where it is.
        remote: String,
    },
    /// A login could not be found out.
    #[error("The login for {remote} cannot be read: {why}")]
    Login {
        /// For what.
        remote: String,
        /// What is wrong.
        why: String,
    },
    /// A catalog of the hololib cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A blob of the hololib is missing or wrong, or cannot be written.
    #[error(transparent)]
    Blob(#[from] StoreError),
}

impl Failure for RemoteError {
    fn class(&self) -> Option<Class> {
        match self {
            RemoteError::NotFound { .. } | RemoteError::Offline { .. } => Some(Class::NotFound),
            RemoteError::Head { .. }
            | RemoteError::Unfit { .. }
            | RemoteError::Reference { .. }
            | RemoteError::OtherPin { .. }
            | RemoteError::Signature { .. } => Some(Class::BadCatalog),
            RemoteError::Damaged { .. } => Some(Class::BadBlob),
            RemoteError::Catalog(error) => error.class(),
            RemoteError::Blob(error) => error.class(),
            RemoteError::Denied { .. }
            | RemoteError::Answer { .. }
            | RemoteError::Network { .. }
            | RemoteError::Io { .. }
            | RemoteError::Unsupported { .. }
            | RemoteError::Address(_)
            | RemoteError::Login { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            RemoteError::Denied { .. } => {
                Some("log in where the remote's own tools do: docker login, aws configure, ~/.netrc".into())
            }
            RemoteError::Damaged { .. } => Some("push it again".into()),
            RemoteError::Offline { .. } => Some("run it once with a network".into()),
            RemoteError::Catalog(error) => error.hint(),
            RemoteError::Blob(error) => error.hint(),
            _ => None,
        }
    }
}

impl RemoteError {
    /// For `map_err`: what was tried, on what file.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RemoteError {
        let path = path.into();
        move |source| RemoteError::Io { doing, path, source }
    }

    /// True if the same request may succeed the next time.
    pub fn is_passing(&self) -> bool {
        match self {
            RemoteError::Answer { is_passing, .. } => *is_passing,
            RemoteError::Network { .. } | RemoteError::Damaged { .. } => true,
            _ => false,
        }
    }

    /// How long the server asks to be left alone, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            RemoteError::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
