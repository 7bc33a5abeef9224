//! The package indexes of a build, and when they are part of what names its catalog.
//!
//! An index decides to which version a requirement resolves, and which bytes a pinned version has: so the indexes are part of the
//! specification of a requirements.txt, unless each of its requirements has a hash. They change nothing in uv.lock, pylock.toml and
//! package-lock.json, which name the bytes; and files that RCC can read are named by RCC's blueprint, which has no indexes.
//!
//! The address of an index may contain a token, and the specification is pushed with the catalog: it has only the host and a digest of the
//! address. User and password do not count: colleagues get the same catalog.

use std::process::Command;

use crate::rcc::digest::{Digest, Regime};

/// The default of pip and uv.
const PYPI: &str = "https://pypi.org/simple";
/// What the lines of a specification about indexes begin with.
const KEYS: [&str; 3] = ["index: ", "extra-index: ", "index-strategy: "];
/// The digits of a digest.
const DIGITS: usize = 16;

/// The indexes of Python packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The index, if not the tool's default.
    pub default: Option<String>,
    /// Other indexes, which uv asks first.
    pub extra: Vec<String>,
}

impl Indexes {
    /// Makes uv, and pip if another tool calls it, use these indexes. What is not named here stays as it is in the environment and
    /// configuration of the tools. They are passed as variables: other users can see the arguments of a process.
    pub fn pass_to(&self, command: &mut Command) {
        if let Some(url) = &self.default {
            // uv prefers this variable to the others, and to --index-url.
            command.env("UV_DEFAULT_INDEX", url).env("PIP_INDEX_URL", url).env_remove("UV_INDEX_URL");
        }
        if !self.extra.is_empty() {
            let urls = self.extra.join(" ");
            command.env("UV_INDEX", &urls).env("PIP_EXTRA_INDEX_URL", &urls).env_remove("UV_EXTRA_INDEX_URL");
        }
    }

    /// The lines of a specification for these indexes and those in uv's variables. Empty if packages come from PyPI.
    pub fn lines(&self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let set = |name: &&str| variable(name).filter(|value| !value.trim().is_empty());
        let words = |name: &str| {
            let value = set(&name).unwrap_or_default();
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let default =
            self.default.clone().or_else(|| ["UV_DEFAULT_INDEX", "UV_INDEX_URL"].iter().find_map(set));
        let extra = match self.extra.is_empty() {
            true => ["UV_INDEX", "UV_EXTRA_INDEX_URL"].into_iter().flat_map(words).collect(),
            false => self.extra.clone(),
        };
        let default = default.map(|url| plain(&url)).filter(|url| url != PYPI);
        let mut lines: Vec<String> = default.iter().map(|url| line(KEYS[0], url)).collect();
        lines.extend(extra.iter().map(|url| line(KEYS[1], &plain(url))));
        if !lines.is_empty() {
            lines.extend(set(&"UV_INDEX_STRATEGY").map(|strategy| format!("{}{strategy}", KEYS[2])));
        }
        lines
    }
}

/// The lines of a specification that [`Indexes::lines`] made.
pub fn lines_of(specification: &str) -> Vec<&str> {
    let head = specification.lines().take_while(|line| !line.starts_with("--- "));
    head.filter(|line| KEYS.iter().any(|key| line.starts_with(key))).collect()
}

/// The address without the name that uv allows before it, and without user, password and final slashes.
fn plain(index: &str) -> String {
    let url = match index.split_once('=') {
        Some((name, url)) if name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) => url,
        _ => index,
    };
    let url = url.trim().trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (place, path) = rest.split_at(end);
    format!("{scheme}://{}{path}", place.rsplit('@').next().unwrap_or(place))
}

fn line(key: &str, url: &str) -> String {
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let digest = Digest::of(Regime::Sha256, url.as_bytes()).to_string();
    format!("{key}{} {}", if host.is_empty() { "local" } else { host }, &digest[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(indexes: &Indexes, variables: &[(&str, &str)]) -> Vec<String> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        indexes.lines(&|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn indexes(default: Option<&str>, extra: &[&str]) -> Indexes {
        Indexes {
            default: default.map(str::to_owned),
            extra: extra.iter().map(|&url| url.to_owned()).collect(),
        }
    }

    #[test]
    fn indexes_have_a_line_each_without_secrets() {
        let one = lines(&indexes(Some("https://me:secret@example.org/simple/"), &[]), &[]);
        assert_eq!(one, lines(&indexes(Some("https://example.org/simple"), &[]), &[]));
        assert!(one[0].starts_with("index: example.org ") && one.len() == 1, "{one:?}");
        let token = lines(&indexes(Some("https://example.org/token/simple"), &[]), &[]);
        assert!(token != one && !token[0].contains("token"), "{token:?}");
        assert_eq!(lines(&indexes(Some("https://pypi.org/simple/"), &[]), &[]), [""; 0]);
        assert_eq!(lines(&Indexes::default(), &[("UV_INDEX_STRATEGY", "unsafe-best-match")]), [""; 0]);
    }

    #[test]
    fn variables_of_uv_count_like_options_which_take_precedence() {
        let (a, b) = ("https://a.example/simple", "https://b.example/simple");
        let both = lines(&indexes(Some(a), &[b]), &[]);
        assert_eq!(both.len(), 2);
        assert_eq!(
            lines(&Indexes::default(), &[("UV_DEFAULT_INDEX", a), ("UV_INDEX", &format!("b={b}"))]),
            both
        );
        assert_eq!(lines(&Indexes::default(), &[("UV_INDEX_URL", a), ("UV_EXTRA_INDEX_URL", b)]), both);
        assert_eq!(lines(&indexes(Some(a), &[b]), &[("UV_INDEX_URL", b), ("UV_INDEX", a)]), both);
        let strategy = lines(&indexes(Some(a), &[b]), &[("UV_INDEX_STRATEGY", "unsafe-best-match")]);
        assert_eq!(strategy[..2], both);
        assert_eq!(strategy[2], "index-strategy: unsafe-best-match");
        let text = format!("# holofs build 1\n{}\n--- a\nindex: no\n", both.join("\n"));
        assert_eq!(lines_of(&text), both);
    }
}
