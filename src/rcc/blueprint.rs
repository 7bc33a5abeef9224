//! An environment's specification in RCC's normal form, whose hash names the catalog.
//!
//! RCC reads one or several conda.yaml files, merges what they say, and writes the result out again with a YAML library of
//! its own; the hash is of that text. So the text must be the same to the byte: [`yaml`](crate::rcc::yaml) reads only
//! what is certain, and [`emit`] writes only what is known, and both refuse the rest with the place.

mod dependency;
mod emit;

use crate::rcc::yaml::{self, Yaml, YamlError};

use dependency::{Conflict, Dependency, promote, push};

/// Why there is no normal form.
#[derive(Debug, thiserror::Error)]
pub enum CondaError {
    /// The file cannot be read for certain.
    #[error("Cannot be sure what RCC makes of this conda.yaml; simplify it, or ask `rcc holotree hash`")]
    Yaml(#[from] YamlError),
    /// A part is not what it should be.
    #[error("Cannot be sure what RCC makes of '{part}' in this conda.yaml: {why}; ask `rcc holotree hash`")]
    Part {
        /// The key.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is some other file.
    #[error("This is no conda.yaml: it has neither channels nor dependencies")]
    NoConda,
    /// RCC refuses to merge it.
    #[error("Cannot choose between {left:?} and {right:?}; RCC cannot either")]
    Conflict {
        /// One of them.
        left: String,
        /// The other.
        right: String,
    },
    /// RCC would write it in a way that is not certain.
    #[error("Cannot be sure how RCC writes {text:?}; ask `rcc holotree hash`")]
    Unwritable {
        /// The text.
        text: String,
    },
}

impl From<Conflict> for CondaError {
    fn from(conflict: Conflict) -> CondaError {
        CondaError::Conflict { left: conflict.left, right: conflict.right }
    }
}

/// What a conda.yaml asks for.
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
    /// Reads one conda.yaml. A channel of this machine, if there is one, comes before its own.
    pub fn parse(text: &str, local_channel: Option<&str>) -> Result<Environment, CondaError> {
        let document = yaml::parse(text)?;
        if document.get("channels").is_none() && document.get("dependencies").is_none() {
            return Err(CondaError::NoConda);
        }
        let mut environment = Environment {
            name: word(&document, "name")?,
            prefix: word(&document, "prefix")?,
            post_install: words(&document, "rccPostInstall")?,
            ..Environment::default()
        };
        let own = words(&document, "channels")?;
        union(&mut environment.channels, local_channel.map(str::to_owned).into_iter().chain(own));
        environment.add_dependencies(&document)?;
        // RCC leaves both where they contradict each other, if it is one file.
        promote(&mut environment.conda, &mut environment.pip).unwrap_or_default();
        Ok(environment)
    }

    /// Both together, as RCC merges files given after each other.
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

    /// The text that RCC hashes, and writes into `identity.yaml`.
    pub fn normal_form(&self) -> Result<String, CondaError> {
        emit::emit(self)
    }

    fn add_dependencies(&mut self, document: &Yaml) -> Result<(), CondaError> {
        let part = "dependencies";
        for item in list(document, part)? {
            match item {
                Yaml::Text(text) => push_text(&mut self.conda, text)?,
                // RCC knows one kind of map here, and passes over others.
                Yaml::Map(_) => {
                    let pip = item.get("pip").map(|_| list(item, "pip")).transpose()?.unwrap_or_default();
                    for item in pip {
                        let Yaml::Text(text) = item else {
                            return Err(CondaError::Part { part: "pip", why: "an item is no text" });
                        };
                        push_text(&mut self.pip, text)?;
                    }
                }
                Yaml::Other(_) | Yaml::List(_) => {
                    return Err(CondaError::Part { part, why: "an item is neither text nor a map" });
                }
            }
        }
        Ok(())
    }
}

/// What RCC takes for no dependency at all is passed over.
fn push_text(list: &mut Vec<Dependency>, text: &str) -> Result<(), CondaError> {
    match Dependency::parse(text) {
        Some(dependency) => Ok(push(list, dependency)?),
        None => Ok(()),
    }
}

fn union(into: &mut Vec<String>, from: impl Iterator<Item = String>) {
    for item in from {
        if !into.contains(&item) {
            into.push(item);
        }
    }
}

fn word(document: &Yaml, part: &'static str) -> Result<String, CondaError> {
    match document.get(part) {
        None => Ok(String::new()),
        Some(value) if value.is_nothing() => Ok(String::new()),
        Some(Yaml::Text(text)) => Ok(text.clone()),
        Some(_) => Err(CondaError::Part { part, why: "it is no text" }),
    }
}

fn list<'y>(document: &'y Yaml, part: &'static str) -> Result<&'y [Yaml], CondaError> {
    match document.get(part) {
        None => Ok(&[]),
        Some(value) if value.is_nothing() => Ok(&[]),
        Some(Yaml::List(items)) => Ok(items),
        Some(_) => Err(CondaError::Part { part, why: "it is no list" }),
    }
}

fn words(document: &Yaml, part: &'static str) -> Result<Vec<String>, CondaError> {
    let texts = list(document, part)?.iter().map(|item| item.text().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or(CondaError::Part { part, why: "an item is no text" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::home::blueprint_hash;

    fn normal(text: &str) -> String {
        Environment::parse(text, None).unwrap().normal_form().unwrap()
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
            Environment::parse("name: l\nprefix: p\nchannels: [a]\ndependencies: [x, y=1]\n", None).unwrap();
        let right =
            Environment::parse("channels: [b, a]\ndependencies: [x=2]\nrccPostInstall: [do it]\n", None)
                .unwrap();
        let merged = left.clone().merge(right).unwrap().normal_form().unwrap();
        assert_eq!(
            merged,
            "name: l+\nchannels:\n- a\n- b\ndependencies:\n- x=2\n- y=1\nrccPostInstall:\n- do it\n"
        );
        let other = Environment::parse("dependencies: [y=2]\n", None).unwrap();
        assert!(matches!(left.merge(other), Err(CondaError::Conflict { .. })));
    }

    #[test]
    fn what_is_not_certain_is_refused() {
        for text in [
            "tasks:\n  x: y\n",
            "dependencies:\n- 3\n",
            "channels: x\n",
            "name: 1.0\nchannels: []\n",
            "dependencies:\n- a=1\n- a=2\n",
        ] {
            assert!(Environment::parse(text, None).is_err(), "{text}");
        }
    }
}
