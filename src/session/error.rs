//! Why a space cannot be used: the errors that front ends distinguish.

use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Failure, kind};
use crate::rcc::blueprint::{ComposeError, CondaError};
use crate::rcc::catalog::CatalogError;
use crate::rcc::home::HomeError;
use crate::space::SpaceError;
use crate::space::archive::ArchiveError;
use crate::space::maintain::collect::CollectError;
use crate::space::maintain::delete::DeleteError;
use crate::space::maintain::verify::VerifyError;
use crate::space::materialize::MaterializeError;
use crate::space::record::RecordError;
use crate::space::relocated::ContentError;
use crate::store::StoreError;
use crate::store::index::IndexError;

use super::foreign::ForeignPlace;
use super::method::{Refusal, told};

/// Nothing can be mounted: no device, no permission, no helper.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("Cannot mount {what}: {}", told(refused))]
pub struct CannotMount {
    /// The mountpoint.
    pub what: String,
    /// Each method that was tried, and why it failed.
    pub refused: Vec<Refusal>,
}

/// The catalog is for another operating system or processor.
#[derive(Debug, thiserror::Error)]
#[error("Catalog {catalog} is of another platform: this machine is {ours}")]
pub struct ForeignPlatform {
    /// The catalog's file name.
    pub catalog: String,
    /// This machine.
    pub ours: String,
}

/// An RCC command or option that is not offered.
#[derive(Debug, thiserror::Error)]
#[error("`{what}` is not offered, because {why}")]
pub struct NotOffered {
    /// The command or option.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

/// There is no catalog for a specification file.
#[derive(Debug, thiserror::Error)]
#[error("No catalog for {}: its blueprint {blueprint} is not in the hololib", file.display())]
pub struct NoCatalogFor {
    /// The specification file.
    pub file: PathBuf,
    /// The blueprint.
    pub blueprint: String,
}

impl Failure for ForeignPlatform {
    fn class(&self) -> Option<Class> {
        Some(Class::BadCatalog)
    }
}

impl Failure for NotOffered {
    fn class(&self) -> Option<Class> {
        Some(Class::NotOffered)
    }
}

impl Failure for NoCatalogFor {
    fn class(&self) -> Option<Class> {
        Some(Class::NotFound)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let file = self.file.display();
        let hint = format!(
            "`holofs build {file}` or `rcc holotree variables {file}` builds it, `holofs import` or `holofs pull` brings it"
        );
        Some(hint.into())
    }
}

/// Something was not found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// Something is in use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Busy(pub String);

/// A command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("Cannot run {}", program.display())]
pub struct CannotStart {
    /// The command.
    pub program: OsString,
    /// The file exists, but cannot be executed.
    pub is_there: bool,
    /// Why.
    pub source: std::io::Error,
}

/// The process that should serve a mount failed, with this error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct DaemonFailed {
    /// The failure's class.
    pub class: Class,
    /// What failed.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Its cause.
    pub source: Option<Box<DaemonFailed>>,
}

impl DaemonFailed {
    /// The message of `error`, with all its causes.
    pub fn of(error: &anyhow::Error) -> DaemonFailed {
        let failures = || error.chain().filter_map(failure);
        let class = failures().find_map(Failure::class).unwrap_or(Class::Failed);
        let hint = failures().find_map(Failure::hint).map(Cow::into_owned);
        let mut source = None;
        for cause in error.chain().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let (message, hint) = (cause.to_string(), None);
            source = Some(Box::new(DaemonFailed { class, message, hint, source }));
        }
        DaemonFailed { class, message: error.to_string(), hint, source }
    }
}

impl Failure for DaemonFailed {
    fn class(&self) -> Option<Class> {
        Some(self.class)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        self.hint.as_deref().map(Cow::from)
    }
}

impl Failure for CannotMount {
    fn class(&self) -> Option<Class> {
        Some(Class::CannotMount)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("`holofs materialize` needs no mount, `holofs doctor` shows what would help".into())
    }
}

impl Failure for NotFound {
    fn class(&self) -> Option<Class> {
        Some(Class::NotFound)
    }
}

impl Failure for Busy {
    fn class(&self) -> Option<Class> {
        Some(Class::Busy)
    }
}

/// Checks whether an error is of one kind.
type Downcast = for<'a> fn(&'a (dyn Error + 'static)) -> Option<&'a dyn Failure>;

/// Every kind of error that has a class or a hint.
const KINDS: &[Downcast] = &[
    kind::<CatalogError>,
    kind::<HomeError>,
    kind::<CondaError>,
    kind::<ForeignPlatform>,
    kind::<ForeignPlace>,
    kind::<NotOffered>,
    kind::<NoCatalogFor>,
    kind::<ComposeError>,
    kind::<StoreError>,
    kind::<IndexError>,
    kind::<SpaceError>,
    kind::<MaterializeError>,
    kind::<ArchiveError>,
    kind::<crate::remote::RemoteError>,
    kind::<RecordError>,
    kind::<ContentError>,
    kind::<DeleteError>,
    kind::<CollectError>,
    kind::<VerifyError>,
    #[cfg(unix)]
    kind::<crate::fs::upper::UpperError>,
    #[cfg(unix)]
    kind::<crate::fs::vfs::VfsError>,
    kind::<CannotMount>,
    kind::<NotFound>,
    kind::<Busy>,
    kind::<DaemonFailed>,
];

/// This cause as a failure, if it is one of our errors.
pub fn failure<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a dyn Failure> {
    KINDS.iter().find_map(|kind| kind(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_causes_its_class_and_its_hint_on_the_way() {
        let busy = SpaceError::Mounted { root: "/a".into() };
        let error = anyhow::Error::from(busy).context("Cannot mount it");
        let told = serde_json::to_string(&DaemonFailed::of(&error)).unwrap();
        let heard: DaemonFailed = serde_json::from_str(&told).unwrap();
        assert_eq!((heard.class, heard.hint().as_deref()), (Class::Busy, Some("unmount it first")));
        assert_eq!(
            format!("{:#}", anyhow::Error::from(heard)),
            "Cannot mount it: Something is mounted at /a"
        );
    }
}
