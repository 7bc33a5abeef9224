//! Finds the start of the command of `holofs run` without a `--`. Pure.
//!
//! ```text
//! holofs run conda.yaml python -V          the first word asks for a catalog, the command follows
//! holofs run python -V                     the first word does not: the files here ask for one
//! holofs run CATALOG SPACE -- python -V    the older form: two words before `--`
//! ```
//! A word selects a catalog if it is a YAML file, a directory with one, the address or short name of a remote environment, or looks
//! like a catalog's name (8 hex digits or more).
//! Everything else needs the `--`.

use std::ffi::OsString;

/// The classification of words on a command line.
pub struct Grammar<'a> {
    /// True for an option whose value is the next word.
    pub takes_value: &'a dyn Fn(&str) -> bool,
    /// True for a word that selects a catalog.
    pub is_target: &'a dyn Fn(&OsString) -> bool,
}

/// The command line with a `--` before the command of `run`, if it is missing.
pub fn with_separator(words: Vec<OsString>, grammar: &Grammar<'_>) -> Vec<OsString> {
    let Some(run) = position_of_run(&words, grammar) else { return words };
    match command_at(&words, run + 1, grammar) {
        Some(at) => {
            let mut words = words;
            words.insert(at, "--".into());
            words
        }
        None => words,
    }
}

/// The position of `run`, if it is the command.
fn position_of_run(words: &[OsString], grammar: &Grammar<'_>) -> Option<usize> {
    let at = next_plain(words, 1, grammar)?;
    (words[at] == "run").then_some(at)
}

/// The next word from `at` on that is neither an option nor the value of one; `None` if `--` comes first.
fn next_plain(words: &[OsString], mut at: usize, grammar: &Grammar<'_>) -> Option<usize> {
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if text == "--" {
            return None;
        }
        if !text.starts_with('-') || text == "-" {
            return Some(at);
        }
        at += if !text.contains('=') && (grammar.takes_value)(&text) { 2 } else { 1 };
    }
    None
}

/// The position of the command; `None` if there is a `--`, or no command.
fn command_at(words: &[OsString], from: usize, grammar: &Grammar<'_>) -> Option<usize> {
    let first = next_plain(words, from, grammar)?;
    if !(grammar.is_target)(&words[first]) {
        let separated = words[first..].iter().any(|word| word == "--");
        // With a `--` after it, clap parses the rest.
        return (!separated).then_some(first);
    }
    let second = next_plain(words, first + 1, grammar)?;
    let is_space =
        next_plain(words, second + 1, grammar).is_none() && words[second..].iter().any(|word| word == "--");
    (!is_space).then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(line: &str) -> String {
        let grammar = Grammar {
            takes_value: &|option| matches!(option, "--space" | "--mode" | "-s"),
            is_target: &|word| word.to_string_lossy().ends_with(".yaml") || word == "14023a1f332a0231",
        };
        let words = line.split(' ').map(OsString::from).collect();
        let words = with_separator(words, &grammar);
        words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn command_begins_behind_what_asks_for_a_catalog() {
        let cases = [
            ("holofs run conda.yaml python -V", "holofs run conda.yaml -- python -V"),
            ("holofs run --space x conda.yaml python", "holofs run --space x conda.yaml -- python"),
            (
                "holofs run conda.yaml --space x -v python -c x",
                "holofs run conda.yaml --space x -v -- python -c x",
            ),
            (
                "holofs run conda.yaml --space=x git log -- a",
                "holofs run conda.yaml --space=x -- git log -- a",
            ),
            ("holofs --json run python -V", "holofs --json run -- python -V"),
            ("holofs run --mode mount python run.yaml", "holofs run --mode mount -- python run.yaml"),
            ("holofs run 14023a1f332a0231 ls", "holofs run 14023a1f332a0231 -- ls"),
        ];
        for (line, expected) in cases {
            assert_eq!(separated(line), expected);
        }
    }

    #[test]
    fn command_line_that_says_where_stays() {
        for line in [
            "holofs run 14023a1f332a0231 space -- python -V",
            "holofs run 14023a1f332a0231 space --mode mount -- python -V",
            "holofs run 140 space -- python",
            "holofs run conda.yaml -- python",
            "holofs run -- python",
            "holofs run conda.yaml",
            "holofs run --help",
            "holofs mount conda.yaml x",
            "holofs",
        ] {
            assert_eq!(separated(line), line);
        }
    }
}
