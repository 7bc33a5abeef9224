//! The one setting of RCC's `settings.yaml` that concerns us: `holotree.restoration-strategy`.
//!
//! Read line by line, without a YAML parser for one word: the setting must stand in block style,
//! ```text
//! holotree:
//!   restoration-strategy: reflink
//! ```
//! and what is written in another way is refused, not guessed. Everything else in the file is passed over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::tier::{Strategy, UnknownStrategy};

/// Why the setting cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there but cannot be read.
    #[error("Reading {} failed", path.display())]
    Read {
        /// The settings.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("Line {line} of {}: {problem}; write it as 'holotree:' and, indented, 'restoration-strategy: NAME'", path.display())]
    Unclear {
        /// The settings.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// The strategy that the settings at `path` ask for; none if there is no such file or setting.
pub fn configured_strategy(path: &Path) -> Result<Option<Strategy>, SettingsError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| SettingsError::Read { path: path.to_owned(), source })?,
    };
    parse(&text).map_err(|(line, problem)| SettingsError::Unclear { path: path.to_owned(), line, problem })
}

/// What is wrong, and in which line.
type Problem = (usize, String);

fn parse(text: &str) -> Result<Option<Strategy>, Problem> {
    let mut found = None;
    let mut is_inside = false;
    // Settings of `holotree` are all indented as the first one is.
    let mut indent = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let line = without_comment(raw);
        if line.trim().is_empty() || line == "---" {
            continue;
        }
        let depth = line.len() - line.trim_start_matches(' ').len();
        if depth == 0 {
            is_inside = section(line).map_err(|problem| (number, problem))?;
            indent = None;
        } else if is_inside && *indent.get_or_insert(depth) == depth {
            let Some(value) = line.trim().strip_prefix("restoration-strategy:") else { continue };
            let strategy = value_of(value).map_err(|problem| (number, problem))?;
            if found.replace(strategy).is_some() {
                return Err((number, "restoration-strategy stands there twice".to_owned()));
            }
        }
    }
    Ok(found)
}

/// True for the line that begins the section.
fn section(line: &str) -> Result<bool, String> {
    let key = line.split(':').next().unwrap_or(line).trim().trim_matches(['"', '\'']);
    match (key == "holotree", line == "holotree:") {
        (true, false) => Err("holotree is not a plain section".to_owned()),
        (is_section, _) => Ok(is_section),
    }
}

fn value_of(text: &str) -> Result<Strategy, String> {
    let bare = text.trim();
    let quoted = ['"', '\''].iter().find_map(|&quote| bare.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(bare).parse().map_err(|error: UnknownStrategy| error.to_string())
}

fn without_comment(line: &str) -> &str {
    let end = line.find(" #").unwrap_or(line.len());
    let line = if line.starts_with('#') { "" } else { &line[..end] };
    line.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_found_in_its_section_only() {
        let text = "meta:\n  restoration-strategy: copy\n# holotree:\nholotree: # ours\n  other:\n    restoration-strategy: x\n  \
                    restoration-strategy: \"hardlink\" # told\nlast: 1\n";
        assert_eq!(parse(text), Ok(Some(Strategy::Hardlink)));
        assert_eq!(parse("holotree:\n  other: 1\n"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn what_is_written_in_another_way_is_refused() {
        for (text, line) in [
            ("holotree: {restoration-strategy: copy}", 1),
            ("a: 1\nholotree: &anchor", 2),
            ("holotree:\n  restoration-strategy: quick", 2),
            ("holotree:\n  restoration-strategy:", 2),
            ("holotree:\n  restoration-strategy: copy\n  restoration-strategy: copy", 3),
            ("\"holotree\":\n  restoration-strategy: copy", 1),
        ] {
            assert_eq!(parse(text).map_err(|(line, _)| line), Err(line), "{text}");
        }
    }

    #[test]
    fn no_file_is_no_setting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.yaml");
        assert_eq!(configured_strategy(&path).unwrap(), None);
        fs::write(&path, "holotree:\n  restoration-strategy: snapshot\n").unwrap();
        assert_eq!(configured_strategy(&path).unwrap(), Some(Strategy::Snapshot));
    }
}
