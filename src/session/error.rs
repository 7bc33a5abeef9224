//! Errors of sessions: [`SessionError`] is every way to fail, and its types are those that front ends distinguish.

use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Failure, all, kind};
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
use super::method::{Refusal, described};

/// A session failed.
#[derive(Debug)]
pub enum SessionError {
    /// A step failed: what was tried on what, and why.
    Step {
        /// What was tried on what.
        tried: Cow<'static, str>,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something is in an unexpected state: a description of it.
    State(Cow<'static, str>),
    /// An error with a class or a hint, and nothing to add.
    Known(Box<dyn Failure + Send + Sync>),
    /// The operating system failed.
    Io(io::Error),
    /// A message between our processes cannot be written or parsed.
    Json(serde_json::Error),
    /// The front end failed in what it does for a session.
    Front(Box<dyn Error + Send + Sync>),
}

impl SessionError {
    /// The error that this one only passes on, or this one.
    fn inner(&self) -> &(dyn Error + 'static) {
        match self {
            SessionError::Step { .. } | SessionError::State(_) => self,
            SessionError::Known(error) => &**error,
            SessionError::Io(error) => error,
            SessionError::Json(error) => error,
            SessionError::Front(error) => &**error,
        }
    }

    /// An error of the front end.
    pub fn front(error: impl Into<Box<dyn Error + Send + Sync>>) -> SessionError {
        SessionError::Front(error.into())
    }

    /// The first cause that is an `E`.
    pub fn find<E: Error + 'static>(&self) -> Option<&E> {
        find(self)
    }
}

/// The first cause of `error` that is an `E`, itself included.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    all(error).find_map(|cause| passed_on(cause).downcast_ref())
}

/// The error that `cause` only passes on, or itself.
fn passed_on<'a>(cause: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    cause.downcast_ref::<SessionError>().map_or(cause, SessionError::inner)
}

impl Display for SessionError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Step { tried: text, .. } | SessionError::State(text) => f.write_str(text),
            SessionError::Known(error) => error.fmt(f),
            SessionError::Io(error) => error.fmt(f),
            SessionError::Json(error) => error.fmt(f),
            SessionError::Front(error) => error.fmt(f),
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SessionError::Step { source, .. } => Some(&**source),
            SessionError::State(_) => None,
            other => other.inner().source(),
        }
    }
}

impl<E: Failure + Send + Sync + 'static> From<E> for SessionError {
    fn from(error: E) -> SessionError {
        SessionError::Known(Box::new(error))
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> SessionError {
        SessionError::Io(error)
    }
}

impl From<serde_json::Error> for SessionError {
    fn from(error: serde_json::Error) -> SessionError {
        SessionError::Json(error)
    }
}

/// Says what was tried, if it failed.
pub trait Tried<T> {
    /// What was tried, as a constant text.
    fn tried(self, what: impl Into<Cow<'static, str>>) -> Result<T, SessionError>;

    /// What was tried on what.
    fn tried_with(self, what: impl FnOnce() -> String) -> Result<T, SessionError>;
}

impl<T, E: Error + Send + Sync + 'static> Tried<T> for Result<T, E> {
    fn tried(self, what: impl Into<Cow<'static, str>>) -> Result<T, SessionError> {
        self.map_err(|error| SessionError::Step { tried: what.into(), source: Box::new(error) })
    }

    fn tried_with(self, what: impl FnOnce() -> String) -> Result<T, SessionError> {
        self.map_err(|error| SessionError::Step { tried: what().into(), source: Box::new(error) })
    }
}

/// Without a value, what was tried is all that is known.
impl<T> Tried<T> for Option<T> {
    fn tried(self, what: impl Into<Cow<'static, str>>) -> Result<T, SessionError> {
        self.ok_or_else(|| SessionError::State(what.into()))
    }

    fn tried_with(self, what: impl FnOnce() -> String) -> Result<T, SessionError> {
        self.ok_or_else(|| SessionError::State(what().into()))
    }
}

/// Nothing can be mounted: no device, no permission, no helper.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("Cannot mount {what}: {}", described(refused))]
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
#[error("`{what}` is not supported: {why}")]
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
            "`holofs build {file}` or `rcc holotree variables {file}` builds it, `holofs import` or `holofs pull` fetches it"
        );
        Some(hint.into())
    }
}

/// Something was not found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// Something was not found; the hint names the command that lists what exists.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct NotAmong {
    what: String,
    hint: &'static str,
}

impl NotAmong {
    /// There is no such space.
    pub fn spaces(what: String) -> NotAmong {
        NotAmong { what, hint: "`holofs list` shows the spaces" }
    }

    /// There is no file that defines an environment.
    pub fn definitions(what: String) -> NotAmong {
        NotAmong {
            what,
            hint: "name a file, a directory with one, or a catalog; `holofs catalogs` shows the catalogs",
        }
    }
}

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
    pub source: io::Error,
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
    pub fn of(error: &SessionError) -> DaemonFailed {
        let failures = || all(error).filter_map(failure);
        let class = failures().find_map(Failure::class).unwrap_or(Class::Failed);
        let hint = failures().find_map(Failure::hint).map(Cow::into_owned);
        let mut source = None;
        for cause in all(error).skip(1).collect::<Vec<_>>().into_iter().rev() {
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

impl Failure for CannotStart {}

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

impl Failure for NotAmong {
    fn class(&self) -> Option<Class> {
        Some(Class::NotFound)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(self.hint.into())
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
    kind::<NotAmong>,
    kind::<Busy>,
    kind::<DaemonFailed>,
];

/// This cause as a failure, if it is one of our errors.
pub fn failure<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a dyn Failure> {
    match cause.downcast_ref() {
        Some(SessionError::Known(error)) => Some(&**error),
        _ => KINDS.iter().find_map(|kind| kind(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn find_gives_a_cause_that_a_step_or_nothing_stands_before() {
        let busy = || SessionError::from(Busy("It is used".to_owned()));
        assert!(busy().find::<Busy>().is_some());
        let step = Err::<(), _>(busy()).tried("Cannot unmount /a").unwrap_err();
        assert_eq!(
            (step.to_string(), step.find::<Busy>().unwrap().0.as_str()),
            ("Cannot unmount /a".to_owned(), "It is used")
        );
        assert_eq!(chain(&step).to_string(), "Cannot unmount /a: It is used");
        assert!(step.find::<NotFound>().is_none());
        assert_eq!(failure(step.source().unwrap()).unwrap().class(), Some(Class::Busy));
    }

    #[test]
    fn a_failure_keeps_its_causes_its_class_and_its_hint_on_the_way() {
        let busy = SpaceError::Mounted { root: "/a".into() };
        let error = Err::<(), _>(busy).tried("Cannot mount it").unwrap_err();
        let text = serde_json::to_string(&DaemonFailed::of(&error)).unwrap();
        let heard: DaemonFailed = serde_json::from_str(&text).unwrap();
        assert_eq!((heard.class, heard.hint().as_deref()), (Class::Busy, Some("unmount it first")));
        assert_eq!(
            chain(&SessionError::from(heard)).to_string(),
            "Cannot mount it: Something is mounted at /a"
        );
    }
}
