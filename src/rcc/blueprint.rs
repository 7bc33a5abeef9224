//! An environment's specification in RCC's normal form, whose hash names the catalog.
//!
//! RCC reads one or several files (conda.yaml, package.yaml, or the one a robot.yaml names), merges them, and writes the result with
//! its own YAML library; that text is hashed. So our text must match it byte for byte: [`yaml`](crate::rcc::yaml) reads only what is
//! unambiguous, [`emit`] writes only forms known to be right, and both reject everything else with its location.

mod compose;
mod dependency;
mod emit;
mod package;
mod robot;
mod task;
mod words;

use std::borrow::Cow;

use crate::error::{Class, Failure};
use crate::rcc::yaml::{self, Yaml, YamlError};

pub use self::compose::{BlueprintKind, ComposeError, Composed, Request, compose};
pub use self::robot::Robot;
pub use self::task::TaskError;
use dependency::{Conflict, Dependency, promote, push};

/// The keys of a conda.yaml that are used.
const KEYS: [&str; 5] = ["name", "channels", "dependencies", "prefix", "rccPostInstall"];

/// Why there is no normal form.
#[derive(Debug, thiserror::Error)]
pub enum CondaError {
    /// The file cannot be read unambiguously.
    #[error("Cannot parse it unambiguously")]
    Yaml(#[from] YamlError),
    /// A part is malformed.
    #[error("The value of {part:?} has the wrong type: {why}")]
    Part {
        /// The key.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is not a conda.yaml.
    #[error("This is not a conda.yaml: it has neither channels nor dependencies")]
    NoConda,
    /// It is not a package.yaml.
    #[error("This is not a package.yaml: it is not a map")]
    NoPackage,
    /// RCC rejects it too.
    #[error("Only a package.yaml has dev-dependencies")]
    NoDevDependencies,
    /// RCC refuses to merge the two.
    #[error("Cannot choose between {left:?} and {right:?}; RCC cannot either")]
    Conflict {
        /// One of them.
        left: String,
        /// The other.
        right: String,
    },
    /// It is not certain how RCC would write it.
    #[error("Cannot determine how RCC writes {text:?}")]
    Unwritable {
        /// The text.
        text: String,
    },
}

impl Failure for CondaError {
    fn class(&self) -> Option<Class> {
        Some(Class::BadCatalog)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            CondaError::Yaml(_) => Some("simplify it, or ask `rcc holotree hash`".into()),
            CondaError::Unwritable { .. } => Some("ask `rcc holotree hash`".into()),
            CondaError::Part { .. }
            | CondaError::NoConda
            | CondaError::NoPackage
            | CondaError::NoDevDependencies
            | CondaError::Conflict { .. } => None,
        }
    }
}

impl From<Conflict> for CondaError {
    fn from(conflict: Conflict) -> CondaError {
        CondaError::Conflict { left: conflict.left, right: conflict.right }
    }
}

/// The content of a conda.yaml.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    name: String,
    prefix: String,
    channels: Vec<String>,
    conda: Vec<Dependency>,
    pip: Vec<Dependency>,
    post_install: Vec<String>,
}

impl Environment {
    /// Parses one conda.yaml. The local channel, if there is one, comes before the file's own.
    pub fn parse(bytes: &[u8], local_channel: Option<&str>) -> Result<Environment, CondaError> {
        Environment::from_document(&yaml::parse_bytes(bytes)?, local_channel)
    }

    fn from_document(document: &Yaml, local_channel: Option<&str>) -> Result<Environment, CondaError> {
        if KEYS.iter().all(|key| document.get(key).is_none()) {
            return Err(CondaError::NoConda);
        }
        let mut environment = Environment {
            name: text(document, "name")?,
            prefix: text(document, "prefix")?,
            ..Environment::default()
        };
        union(&mut environment.post_install, texts(document, "rccPostInstall")?);
        let own = texts(document, "channels")?;
        union(&mut environment.channels, local_channel.map(str::to_owned).into_iter().chain(own));
        let (conda, pip) = Environment::dependencies(document)?;
        push_all(&mut environment.conda, conda);
        push_all(&mut environment.pip, pip);
        // For a single file, RCC keeps both where they contradict each other.
        promote(&mut environment.conda, &mut environment.pip).unwrap_or_default();
        Ok(environment)
    }

    /// Merges both, as RCC merges files given one after the other.
    pub fn merge(self, right: Environment) -> Result<Environment, CondaError> {
        let mut merged = Environment::default();
        // Names are joined even if one is empty; two empty ones stay empty.
        if !(self.name.is_empty() && right.name.is_empty()) {
            merged.name = format!("{}+{}", self.name, right.name);
        }
        union(&mut merged.channels, self.channels.into_iter().chain(right.channels));
        union(&mut merged.post_install, self.post_install.into_iter().chain(right.post_install));
        for dependency in self.conda.into_iter().chain(right.conda) {
            push(&mut merged.conda, dependency)?;
        }
        for dependency in self.pip.into_iter().chain(right.pip) {
            push(&mut merged.pip, dependency)?;
        }
        promote(&mut merged.conda, &mut merged.pip)?;
        Ok(merged)
    }

    /// The text that RCC hashes and writes into `identity.yaml`.
    pub fn normal_form(&self) -> Result<String, CondaError> {
        emit::emit(self)
    }

    /// Items that are neither text nor a map with a list below `pip` are skipped, as in RCC.
    fn dependencies(document: &Yaml) -> Result<(Vec<Dependency>, Vec<Dependency>), CondaError> {
        let items = list(document, "dependencies")?;
        let conda = items.iter().filter_map(Yaml::text).filter_map(Dependency::parse).collect();
        let lists = items.iter().filter_map(|item| match item.get("pip") {
            Some(Yaml::List(list)) => Some(list),
            _ => None,
        });
        let pip = lists.flatten().filter_map(Yaml::text).filter_map(Dependency::parse).collect();
        Ok((conda, pip))
    }
}

/// Appends one after the other. RCC stops at the first two that contradict each other, without an error.
fn push_all(into: &mut Vec<Dependency>, from: Vec<Dependency>) {
    for dependency in from {
        if push(into, dependency).is_err() {
            return;
        }
    }
}

fn union(into: &mut Vec<String>, from: impl IntoIterator<Item = String>) {
    for item in from {
        if !into.contains(&item) {
            into.push(item);
        }
    }
}

/// A value as RCC reads it into a text field: a number as written, nothing for null.
fn word(value: &Yaml) -> Option<String> {
    if value.is_nothing() {
        return Some(String::new());
    }
    value.as_written().map(str::to_owned)
}

fn text(document: &Yaml, part: &'static str) -> Result<String, CondaError> {
    let value = document.get(part).map_or(Some(String::new()), word);
    value.ok_or(CondaError::Part { part, why: "it is not a text" })
}

fn list<'y>(document: &'y Yaml, part: &'static str) -> Result<&'y [Yaml], CondaError> {
    match document.get(part) {
        None => Ok(&[]),
        Some(value) if value.is_nothing() => Ok(&[]),
        Some(Yaml::List(items)) => Ok(items),
        Some(_) => Err(CondaError::Part { part, why: "it is not a list" }),
    }
}

fn texts(document: &Yaml, part: &'static str) -> Result<Vec<String>, CondaError> {
    let texts = list(document, part)?.iter().map(word);
    texts.collect::<Option<_>>().ok_or(CondaError::Part { part, why: "an item is not a text" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::home::blueprint_hash;

    fn normal(text: &str) -> String {
        Environment::parse(text.as_bytes(), None).unwrap().normal_form().unwrap()
    }

    #[test]
    fn known_specifications_have_their_known_hashes() {
        let vectors = [
            ("channels:\n  - conda-forge\ndependencies:\n  - ca-certificates\n", "c34ed96c2d8a459a"),
            ("dependencies:\n- python=3.7.8 # old\nchannels: [conda-forge]\n", "79ba58276b645f09"),
            ("dependencies:\n- python=3.12.8", "547f1ccbe5dc992e"),
            ("dependencies:\n- pip: [a==1]\n- python=3.12.8\n- uv=0.6.1\n", "07258da83de269a4"),
        ];
        for (text, expected) in vectors {
            assert_eq!(blueprint_hash(normal(text).trim()), expected, "{text}");
        }
    }

    #[test]
    fn the_more_exact_of_two_wins_where_the_first_stood_and_pip_goes_last() {
        let text = "channels:\n- b\n- a\n- b\ndependencies:\n- pip:\n  - x\n  - z==2\n- python\n- y=1\n- python=3\n- z\n";
        assert_eq!(
            normal(text),
            "channels:\n- b\n- a\ndependencies:\n- python=3\n- y=1\n- z==2\n- pip:\n  - x\n"
        );
    }

    #[test]
    fn files_merge_into_one() {
        let left =
            Environment::parse(b"name: l\nprefix: p\nchannels: [a]\ndependencies: [x, y=1]\n", None).unwrap();
        let right =
            Environment::parse(b"channels: [b, a]\ndependencies: [x=2]\nrccPostInstall: [do it]\n", None)
                .unwrap();
        let merged = left.clone().merge(right).unwrap().normal_form().unwrap();
        assert_eq!(
            merged,
            "name: l+\nchannels:\n- a\n- b\ndependencies:\n- x=2\n- y=1\nrccPostInstall:\n- do it\n"
        );
        let other = Environment::parse(b"dependencies: [y=2]\n", None).unwrap();
        assert!(matches!(left.merge(other), Err(CondaError::Conflict { .. })));
    }

    #[test]
    fn what_rcc_refuses_is_refused() {
        for text in [
            "tasks:\n  x: y\n",
            "dependencies: {a: b}\n",
            "channels: x\n",
            "channels: []\nrccPostInstall: [{a: b}]\n",
            "- a\n",
        ] {
            assert!(Environment::parse(text.as_bytes(), None).is_err(), "{text}");
        }
    }
}
