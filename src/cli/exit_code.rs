//! Exit codes and error messages: one code per class of failure, stable. `run` exits with the status of its command.
//!
//! All errors have the same form: what failed, each cause once, and a hint. With `--json` the same is printed on stdout as `{"error":
//! {"code", "class", "message", "causes", "hint"}}`.

use std::borrow::Cow;
use std::error::Error;
use std::process::ExitCode;

use serde::Serialize;

use crate::build::BuildError;
use crate::error::{Class, Failure, all, causes, kind};
use crate::rcc::blueprint::TaskError;
use crate::session::error::failure;
use crate::sys::text;

use super::terminal;

/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The catalog is truncated, hostile, or of an unknown kind.
pub const BAD_CATALOG: u8 = 3;
/// There is no such catalog or space.
pub const NOT_FOUND: u8 = 4;
/// A blob is missing or damaged.
pub const BAD_BLOB: u8 = 5;
/// The space is live, locked, or in use.
pub const BUSY: u8 = 6;
/// No mount was possible here.
const CANNOT_MOUNT: u8 = 7;
/// The operating system failed, or any other failure.
pub const FAILED: u8 = 8;
/// Some files failed, for several reasons.
pub const PARTIAL: u8 = 9;
/// `run` failed before the command started, so the command has no status.
pub const OUR_OWN: u8 = 125;
/// An RCC command or option that HoloFS does not offer.
const NOT_OFFERED: u8 = 10;

/// The status that a shell reports for a command interrupted by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// The reported parts of an error.
#[derive(Debug, Serialize)]
struct Shown {
    /// The exit code.
    code: u8,
    /// The name of its class.
    class: &'static str,
    /// What failed on what.
    message: String,
    /// The causes, nearest first.
    causes: Vec<String>,
    /// What to do about it.
    hint: Option<String>,
}

/// Reports an error, and returns the exit code of its class.
pub fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    fail_as(error, json, code(error.as_ref()))
}

/// Like [`fail`], with another code.
pub fn fail_as(error: &anyhow::Error, json: bool, code: u8) -> ExitCode {
    if json {
        print_json(&Shown { code, ..Shown::of(error) });
    }
    tell(error);
    ExitCode::from(code)
}

#[allow(clippy::print_stdout)]
fn print_json(error: &Shown) {
    println!("{}", text::json(&format!("{:#}", serde_json::json!({ "error": error }))));
}

/// The exit code of a process that worked for this one.
#[cfg(unix)]
pub fn of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}

/// Prints an error as text; returns the code of its class.
#[allow(clippy::print_stderr)]
pub fn tell(error: &anyhow::Error) -> u8 {
    let shown = Shown::of(error);
    eprint!("{}", shown.text());
    shown.code
}

/// The exit code of an error's class.
pub fn code(error: &(dyn Error + 'static)) -> u8 {
    code_of(class(error))
}

/// The class of the first cause that has one.
fn class(error: &(dyn Error + 'static)) -> Class {
    all(error).filter_map(ours).find_map(Failure::class).unwrap_or(Class::Failed)
}

impl Shown {
    fn of(error: &anyhow::Error) -> Shown {
        let class = class(error.as_ref());
        let hint = error.chain().filter_map(ours).find_map(Failure::hint).map(Cow::into_owned);
        let (message, causes) = (error.to_string(), causes(error.as_ref()));
        Shown { code: code_of(class), class: class.name(), message, causes, hint }
    }

    /// One line for each part, or more if a text has several lines.
    fn text(&self) -> String {
        let causes = self.causes.iter().map(|cause| ("caused by", cause));
        let lines = std::iter::once(("error", &self.message)).chain(causes);
        let lines = lines.chain(self.hint.iter().map(|hint| ("hint", hint)));
        let whole = |(what, said): (_, &String)| {
            let lines: Vec<Cow<'_, str>> = said.lines().map(text::line).collect();
            format!("{}: {}\n", terminal::leading(what), lines.join("\n  "))
        };
        lines.map(whole).collect()
    }
}

fn code_of(class: Class) -> u8 {
    match class {
        Class::BadCatalog => BAD_CATALOG,
        Class::NotFound => NOT_FOUND,
        Class::BadBlob => BAD_BLOB,
        Class::Busy => BUSY,
        Class::CannotMount => CANNOT_MOUNT,
        Class::Failed => FAILED,
        Class::Partial => PARTIAL,
        Class::NotOffered => NOT_OFFERED,
    }
}

/// This cause as a failure, if it is one of our errors.
fn ours<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a dyn Failure> {
    failure(cause).or_else(|| kind::<BuildError>(cause)).or_else(|| kind::<TaskError>(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::SpaceError;
    use crate::space::materialize::MaterializeError;
    use std::path::PathBuf;

    fn error() -> anyhow::Error {
        let busy = SpaceError::Mounted { root: PathBuf::from("/a\u{1b}[2J") };
        anyhow::Error::from(MaterializeError::Space(busy)).context("Cannot materialize")
    }

    #[test]
    fn error_is_shown_with_causes_and_hint() {
        let shown = Shown::of(&error());
        let text = "error: Cannot materialize\ncaused by: Something is mounted at /a\\u{1b}[2J\nhint: unmount it first\n";
        assert_eq!(shown.text(), text);
        assert_eq!(shown.code, BUSY);
    }

    #[test]
    fn json_has_the_same() {
        let expected = serde_json::json!({
            "code": 6,
            "class": "busy",
            "message": "Cannot materialize",
            "causes": ["Something is mounted at /a\u{1b}[2J"],
            "hint": "unmount it first",
        });
        assert_eq!(serde_json::to_value(Shown::of(&error())).unwrap(), expected);
    }

    #[test]
    fn an_error_of_nobody_is_a_failure_without_a_hint() {
        let shown = Shown::of(&anyhow::anyhow!("Something"));
        assert_eq!((shown.code, shown.class, shown.hint), (FAILED, "failed", None));
    }
}
