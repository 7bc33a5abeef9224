//! The state that a shell keeps of an entered environment: which one, and each variable before and after.

use std::collections::BTreeMap;
use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::session::variables::{self, Variable};

use super::Change;
use super::allowed::Asks;

/// The variable with the state.
const ENTERED: &str = "HOLOFS_HOOK";

/// An environment that was entered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entered {
    /// The digest of the request.
    digest: String,
    /// Each variable: its previous value, if it was set, and its new value; in base64, since values may contain any bytes.
    variables: BTreeMap<String, (Option<String>, String)>,
}

impl Entered {
    /// The environment that this shell has entered.
    pub fn from_env() -> Option<Entered> {
        let text = std::env::var(ENTERED).ok()?;
        serde_json::from_str(&text).inspect_err(|error| log::debug!("{ENTERED} is ignored: {error}")).ok()
    }

    /// True if it is the one that `asks` requests.
    pub fn is(&self, asks: &Asks) -> bool {
        self.digest == asks.digest
    }

    /// The changes that leave the environment. Variables changed since then are kept, except PATH, which loses the added directories.
    pub fn left(self, now: &dyn Fn(&str) -> Option<OsString>) -> Vec<Change> {
        let mut changes = vec![(ENTERED.to_owned(), None)];
        for (name, (before, since)) in self.variables {
            let (before, since) = (before.as_deref().map(decoded), decoded(&since));
            if !variables::is_name(&name) {
                continue;
            }
            match now(&name) {
                Some(value) if value == since => changes.push((name, before)),
                Some(value) if name == "PATH" => {
                    changes.push((name, Some(without(&value, &since, before.as_ref()))));
                }
                _ => {}
            }
        }
        changes
    }
}

/// The changes that enter `asks` with these variables; for duplicate names, the last one wins.
pub fn enter(asks: &Asks, list: Vec<Variable>, now: &dyn Fn(&str) -> Option<OsString>) -> Vec<Change> {
    let list: BTreeMap<String, OsString> = list.into_iter().collect();
    let remembered = list.iter().map(|(name, value)| {
        let before = now(name).map(|before| encoded(&before));
        (name.clone(), (before, encoded(value)))
    });
    let entered = Entered { digest: asks.digest.clone(), variables: remembered.collect() };
    let text = serde_json::json!(entered).to_string();
    let changes = list.into_iter().map(|(name, value)| (name, Some(value)));
    changes.chain([(ENTERED.to_owned(), Some(text.into()))]).collect()
}

/// PATH without the directories that were added when an environment was entered.
fn without(path: &OsString, since: &OsString, before: Option<&OsString>) -> OsString {
    let dirs = |path: &OsString| std::env::split_paths(path).collect::<Vec<_>>();
    let (since, before) = (dirs(since), before.map(dirs).unwrap_or_default());
    let kept = dirs(path).into_iter().filter(|dir| !since.contains(dir) || before.contains(dir));
    std::env::join_paths(kept).unwrap_or_else(|_| path.clone())
}

fn encoded(value: &OsString) -> String {
    STANDARD.encode(value.as_encoded_bytes())
}

#[cfg(unix)]
fn decoded(text: &str) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(STANDARD.decode(text).unwrap_or_default())
}

#[cfg(not(unix))]
fn decoded(text: &str) -> OsString {
    String::from_utf8_lossy(&STANDARD.decode(text).unwrap_or_default()).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(variables: &[(&str, Option<&str>, &str)]) -> Entered {
        let each = variables.iter().map(|(name, before, since)| {
            ((*name).to_owned(), (before.map(|it| encoded(&it.into())), encoded(&(*since).into())))
        });
        Entered { digest: "d".to_owned(), variables: each.collect() }
    }

    #[test]
    fn leaving_restores_what_is_as_it_was_set() {
        let entered = entered(&[
            ("A", Some("old"), "new"),
            ("B", None, "new"),
            ("C", Some("old"), "new"),
            ("PATH", Some("/a:/b"), "/space/bin:/a:/b"),
            ("X;id", None, "new"),
        ]);
        let now = |name: &str| match name {
            "A" | "B" => Some("new".into()),
            "C" => Some("mine".into()),
            "PATH" => Some("/mine:/space/bin:/a:/b".into()),
            _ => None,
        };
        let expected =
            [("HOLOFS_HOOK", None), ("A", Some("old")), ("B", None), ("PATH", Some("/mine:/a:/b"))];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(OsString::from)));
        assert_eq!(entered.left(&now), expected);
    }
}
