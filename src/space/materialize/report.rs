//! The report of a materialize, and the errors of single files, collected while the others continue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::error::Class;
use crate::store::HINT;
use crate::store::index::{Index, Ino};
use crate::store::observe::{Counter, Fallback, Observer, Tally};

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct MaterializeReport {
    /// The space.
    #[serde(rename = "path")]
    #[serde(serialize_with = "crate::sys::text::path")]
    pub space: PathBuf,
    /// Its label.
    pub label: String,
    /// The catalog's id: the SHA-256 of its file.
    pub catalog: String,
    /// The blueprint's hash.
    pub blueprint: String,
    /// True if there was no space before.
    pub is_new: bool,
    /// True if anything had to be changed.
    pub is_changed: bool,
    /// How file content was placed in the end: `reflink`, `hardlink` or `copy`.
    pub strategy: &'static str,
    /// Every counter that is not zero. `relocated` files are also counted by how their content was placed.
    pub counts: BTreeMap<&'static str, u64>,
    /// Slower or weaker methods that were used, with the reason.
    pub fallbacks: BTreeMap<&'static str, Fallback>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Files that are not as they should be.
    pub errors: Vec<FileError>,
    /// The process that is deleting what was set aside, if the caller has started one.
    pub swept_by: Option<u32>,
}

impl MaterializeReport {
    /// The class of the failure: that of the files' common cause, or [`Class::Partial`] if their causes differ.
    pub(super) fn class(&self) -> Class {
        let all = |kind| self.errors.iter().all(|error| error.kind == kind);
        if all(FileErrorKind::Blob) {
            Class::BadBlob
        } else if all(FileErrorKind::Catalog) {
            Class::BadCatalog
        } else if all(FileErrorKind::Io) {
            Class::Failed
        } else {
            Class::Partial
        }
    }

    /// What to do about the files that failed.
    pub(super) fn hint(&self) -> Option<&'static str> {
        self.errors.iter().any(|error| error.kind == FileErrorKind::Blob).then_some(HINT)
    }
}

/// Seconds by phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Waiting for locks.
    pub wait: f64,
    /// Reading the old records and the current entries.
    pub scan: f64,
    /// Opening or creating the pristine tree.
    pub ingest: f64,
    /// Removing and placing.
    pub place: f64,
    /// Writing `.meta` and the marks of use.
    pub record: f64,
    /// In total.
    pub total: f64,
}

/// One file that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct FileError {
    /// Its path below the space.
    pub path: String,
    /// The kind of its cause.
    pub kind: FileErrorKind,
    /// What failed and why.
    pub message: String,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The cause of an error of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileErrorKind {
    /// The blob is missing or wrong.
    Blob,
    /// The catalog's relocations do not fit the file.
    Catalog,
    /// A system call failed.
    Io,
}

/// Collects errors of files. After an error that would hit all other files too, the work stops.
pub(super) struct Errors<'a> {
    index: &'a Index,
    list: Mutex<Vec<FileError>>,
    stopped: AtomicBool,
}

impl<'a> Errors<'a> {
    pub fn new(index: &'a Index) -> Errors<'a> {
        Errors { index, list: Mutex::default(), stopped: AtomicBool::new(false) }
    }

    pub fn push(&self, ino: Ino, kind: FileErrorKind, message: String) {
        let path = self.index.path_of(ino).map(|path| path.to_string()).unwrap_or_default();
        log::debug!("{path}: {message}");
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(FileError { path, kind, message });
    }

    /// All other files would fail too: stops the work.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The errors so far, by path.
    pub fn take(&self) -> Vec<FileError> {
        let mut list = std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner));
        list.sort_by(|left, right| left.path.cmp(&right.path));
        list
    }
}

/// Counts for the report and forwards everything.
pub(super) struct Counting<'a> {
    pub tally: Tally,
    pub outer: &'a dyn Observer,
}

impl Observer for Counting<'_> {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
        self.outer.count(counter, amount);
    }

    fn fallback(&self, what: &'static str, reason: &str) {
        self.tally.fallback(what, reason);
        self.outer.fallback(what, reason);
    }

    fn expect(&self, total: u64) {
        self.outer.expect(total);
    }

    fn advance(&self, steps: u64) {
        self.outer.advance(steps);
    }
}
