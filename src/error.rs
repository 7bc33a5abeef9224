//! How all errors are reported.
//!
//! `Display` says what failed on what. `source()` is the cause, and its text is never repeated in `Display`. [`Failure`] adds the
//! class, which decides the exit code, and the hint: what the user can do. To show a single error, in a log line or in a field of a
//! report, use [`chain`] or [`line()`], so that no cause is lost.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{Display, Formatter, Result};

use serde::{Deserialize, Serialize};

/// The kind of a failure, whatever its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The catalog is truncated, hostile, or of an unknown kind.
    BadCatalog,
    /// There is no such catalog or space.
    NotFound,
    /// A blob is missing or damaged.
    BadBlob,
    /// The space is live, locked, or in use.
    Busy,
    /// No mount was possible here.
    CannotMount,
    /// The operating system failed, or any other failure.
    Failed,
    /// Some files failed, for several reasons.
    Partial,
    /// An RCC command or option that HoloFS does not offer.
    NotOffered,
}

impl Class {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::BadCatalog => "bad-catalog",
            Class::NotFound => "not-found",
            Class::BadBlob => "bad-blob",
            Class::Busy => "busy",
            Class::CannotMount => "cannot-mount",
            Class::Failed => "failed",
            Class::Partial => "partial",
            Class::NotOffered => "not-offered",
        }
    }
}

/// What our errors provide in addition to their text.
pub trait Failure: Error {
    /// The class; `None` if the causes decide.
    fn class(&self) -> Option<Class> {
        None
    }

    /// What to do about it: a clause in lower case.
    fn hint(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// `error` as a failure, if it is an `E`.
pub fn kind<'a, E: Failure + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn Failure> {
    error.downcast_ref::<E>().map(|error| error as &dyn Failure)
}

/// The error and its causes in one line.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Display + use<'a> {
    Chain(error)
}

/// Like [`chain`], followed by the hint: for a log.
pub fn line<E: Failure + 'static>(error: &E) -> impl Display + use<'_, E> {
    Line(error)
}

/// `error` and its causes, outermost first.
pub fn all<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause of `error`, or `error` itself.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    all(error).last().unwrap_or(error)
}

/// The causes of an error, outermost first. A cause that a foreign error already includes in its own text is not repeated.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.remove(0);
    texts
}

/// A count with its noun: `1 file`, `2 files`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.0)?;
        causes(self.0).iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

struct Line<'a, E>(&'a E);

impl<E: Failure + 'static> Display for Line<'_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Chain(self.0).fmt(f)?;
        self.0.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Cannot open a")]
    struct Outer(#[source] std::io::Error);

    impl Failure for Outer {
        fn hint(&self) -> Option<Cow<'_, str>> {
            Some("make one".into())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("foreign: {0}")]
    struct Foreign(#[source] std::io::Error);

    fn no_such_file() -> std::io::Error {
        std::io::Error::other("there is none")
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        assert_eq!(chain(&Outer(no_such_file())).to_string(), "Cannot open a: there is none");
        assert_eq!(chain(&Foreign(no_such_file())).to_string(), "foreign: there is none");
        assert_eq!(causes(&Foreign(no_such_file())), [""; 0]);
    }

    #[test]
    fn a_line_says_what_to_do() {
        assert_eq!(line(&Outer(no_such_file())).to_string(), "Cannot open a: there is none; make one");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(["1 file", "0 files", "2 files"], [1, 0, 2].map(|count| counted(count, "file")));
    }
}
