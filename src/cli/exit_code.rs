//! Exit codes: one per class of failure, stable. `run` exits with the status of its command.

use std::process::ExitCode;

use crate::catalog::CatalogError;
use crate::home::HomeError;
use crate::space::SpaceError;
use crate::store::StoreError;
use crate::tree::IndexError;

/// The catalog is truncated, hostile, or of an unknown kind.
pub const BAD_CATALOG: u8 = 3;
/// There is no such catalog or space.
pub const NOT_FOUND: u8 = 4;
/// A blob is missing or damaged.
pub const BAD_BLOB: u8 = 5;
/// The space is live, locked, or in use.
pub const BUSY: u8 = 6;
/// Nothing could be mounted here.
pub const CANNOT_MOUNT: u8 = 7;
/// The operating system failed, or anything else.
pub const FAILED: u8 = 8;

/// Nothing can be mounted: no device, no permission, no helper.
#[derive(Debug, thiserror::Error)]
#[error("Cannot mount {what}: {reasons}; `holofs materialize` needs no mount")]
pub struct CannotMount {
    /// The mountpoint.
    pub what: String,
    /// Each way that was tried, and why it failed.
    pub reasons: String,
}

/// There is no such thing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// Something is in use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(pub String);

/// Says what failed, and why, and gives the code of its class.
#[allow(clippy::print_stderr)]
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("holofs: {error:#}");
    ExitCode::from(code(error))
}

/// The class of an error: that of the first cause which has one.
fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(class).unwrap_or(FAILED)
}

fn class(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref::<CatalogError>() {
        return Some(catalog_class(error));
    }
    if let Some(error) = cause.downcast_ref::<IndexError>() {
        return match error {
            IndexError::Catalog(error) => Some(catalog_class(error)),
            IndexError::TooLarge { .. } => Some(BAD_CATALOG),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<SpaceError>() {
        let busy =
            matches!(error, SpaceError::Locked { .. } | SpaceError::Live { .. } | SpaceError::Mounted { .. });
        return busy.then_some(BUSY);
    }
    if cause.is::<HomeError>() || cause.is::<NotFound>() {
        return Some(NOT_FOUND);
    }
    if cause.is::<StoreError>() {
        return Some(BAD_BLOB);
    }
    if cause.is::<Busy>() {
        return Some(BUSY);
    }
    cause.is::<CannotMount>().then_some(CANNOT_MOUNT)
}

/// A catalog that cannot be read at all is a failure of the system, not a bad catalog.
fn catalog_class(error: &CatalogError) -> u8 {
    match error {
        CatalogError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
        CatalogError::Unreadable { .. } => FAILED,
        _ => BAD_CATALOG,
    }
}
