//! Exit codes: one per class of failure, stable. `run` exits with the status of its command.

use std::process::ExitCode;

#[cfg(unix)]
use crate::fs::upper::UpperError;
use crate::rcc::blueprint::{ComposeError, CondaError};
use crate::rcc::catalog::CatalogError;
use crate::rcc::home::HomeError;
use crate::session::error::{Busy, CannotMount, DaemonFailed, NotFound};
use crate::space::SpaceError;
use crate::space::archive::TransferError;
use crate::space::maintain::collect::GcError;
use crate::space::maintain::delete::DiscardError;
use crate::space::maintain::verify::CheckError;
use crate::space::materialize::{FileErrorKind, Report, RestoreError};
use crate::store::StoreError;
use crate::store::index::IndexError;

/// The catalog is truncated, hostile, or of an unknown kind.
pub const BAD_CATALOG: u8 = 3;
/// There is no such catalog or space.
pub const NOT_FOUND: u8 = 4;
/// A blob is missing or damaged.
pub const BAD_BLOB: u8 = 5;
/// The space is live, locked, or in use.
pub const BUSY: u8 = 6;
/// Nothing could be mounted here.
const CANNOT_MOUNT: u8 = 7;
/// The operating system failed, or anything else.
pub const FAILED: u8 = 8;
/// Some files failed, for several reasons.
pub const PARTIAL: u8 = 9;
/// `run` failed before the command began: of its own status nothing is known.
pub const OUR_OWN: u8 = 125;

/// Says what failed, and why, and gives the code of its class.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(tell(error))
}

/// Prints an error; the code of its class.
#[allow(clippy::print_stderr)]
pub fn tell(error: &anyhow::Error) -> u8 {
    eprintln!("holofs: {error:#}");
    code(error)
}

/// The class of an error: that of the first cause which has one.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(class).unwrap_or(FAILED)
}

fn class(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref() {
        return catalog_class(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return index_class(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return space_class(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return restore_class(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return transfer_class(error);
    }
    if let Some(error) = cause.downcast_ref::<ComposeError>() {
        return compose_class(error);
    }
    if let Some(failed) = cause.downcast_ref::<DaemonFailed>() {
        return Some(failed.code);
    }
    if let Some(error) = cause.downcast_ref::<DiscardError>() {
        return discard_class(error);
    }
    if let Some(error) = cause.downcast_ref::<GcError>() {
        return gc_class(error);
    }
    let classes = [
        (cause.is::<HomeError>() || cause.is::<NotFound>(), NOT_FOUND),
        (matches!(cause.downcast_ref(), Some(CheckError::Home(_))), NOT_FOUND),
        (cause.is::<CondaError>(), BAD_CATALOG),
        (cause.is::<StoreError>(), BAD_BLOB),
        (cause.is::<Busy>() || is_of_another(cause), BUSY),
        (cause.is::<CannotMount>(), CANNOT_MOUNT),
    ];
    classes.iter().find(|(is, _)| *is).map(|&(_, code)| code)
}

/// The space holds what was written to another catalog.
#[cfg(unix)]
fn is_of_another(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(UpperError::OtherCatalog { .. }))
}

/// Nothing is written to a space that would be kept apart.
#[cfg(not(unix))]
fn is_of_another(_cause: &(dyn std::error::Error + 'static)) -> bool {
    false
}

fn index_class(error: &IndexError) -> Option<u8> {
    match error {
        IndexError::Catalog(error) => catalog_class(error),
        IndexError::TooLarge { .. } => Some(BAD_CATALOG),
        _ => None,
    }
}

fn space_class(error: &SpaceError) -> Option<u8> {
    let busy =
        matches!(error, SpaceError::Locked { .. } | SpaceError::Live { .. } | SpaceError::Mounted { .. });
    busy.then_some(BUSY)
}

fn restore_class(error: &RestoreError) -> Option<u8> {
    match error {
        RestoreError::Space(error) => space_class(error),
        RestoreError::Catalog(error) => catalog_class(error),
        RestoreError::Incomplete { report } => Some(incomplete_class(report)),
        _ => None,
    }
}

fn compose_class(error: &ComposeError) -> Option<u8> {
    match error {
        ComposeError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(NOT_FOUND),
        ComposeError::Read { .. } => None,
        ComposeError::Conda { .. } | ComposeError::NoEnvironment { .. } | ComposeError::Nothing => {
            Some(BAD_CATALOG)
        }
    }
}

fn transfer_class(error: &TransferError) -> Option<u8> {
    match error {
        TransferError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(NOT_FOUND),
        TransferError::Io { .. } | TransferError::NoSpace { .. } => None,
        TransferError::Zip { .. }
        | TransferError::Name { .. }
        | TransferError::Twice { .. }
        | TransferError::NoCatalog { .. }
        | TransferError::Catalog { .. }
        | TransferError::Misnamed { .. }
        | TransferError::OtherRegime { .. } => Some(BAD_CATALOG),
        TransferError::OwnCatalog(error) => catalog_class(error),
        TransferError::Damaged { .. } => Some(BAD_BLOB),
        TransferError::Blob(error) => store_class(error),
    }
}

/// Damage has a class of its own; a library that cannot be read is a failure of the system.
fn store_class(error: &StoreError) -> Option<u8> {
    error.is_damage().then_some(BAD_BLOB)
}

fn discard_class(error: &DiscardError) -> Option<u8> {
    match error {
        DiscardError::Space(error) => space_class(error),
        DiscardError::Io { .. } => None,
    }
}

fn gc_class(error: &GcError) -> Option<u8> {
    match error {
        GcError::Discard(error) => discard_class(error),
        GcError::Catalog(error) => catalog_class(error),
        GcError::Store(error) => store_class(error),
        GcError::Home(_) | GcError::Io { .. } => None,
    }
}

/// If all files failed for one reason that has a class, it is that class.
fn incomplete_class(report: &Report) -> u8 {
    let all = |kind| report.errors.iter().all(|error| error.kind == kind);
    match () {
        () if all(FileErrorKind::Blob) => BAD_BLOB,
        () if all(FileErrorKind::Catalog) => BAD_CATALOG,
        () if all(FileErrorKind::Io) => FAILED,
        () => PARTIAL,
    }
}

/// A catalog that cannot be read at all is a failure of the system, not a bad catalog.
fn catalog_class(error: &CatalogError) -> Option<u8> {
    match error {
        CatalogError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Some(NOT_FOUND)
        }
        CatalogError::Unreadable { .. } => None,
        _ => Some(BAD_CATALOG),
    }
}
