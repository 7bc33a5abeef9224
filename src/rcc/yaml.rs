//! YAML as RCC reads it: the events of `saphyr-parser`, with the rules of Go's yaml.v2 for the meaning of plain scalars.
//!
//! The parser implements YAML 1.2, and yaml.v2 the older dialect of libyaml. A text that both accept but would read differently is
//! rejected with its line, because hashing a different reading would give a wrong name. A text that only one of them accepts needs no
//! such check.
//!
//! Only the first document is read, as in RCC. Aliases are replaced by their targets and `<<` by the keys it merges; both are bounded,
//! so that a small text cannot become a huge tree.

mod reader;
mod scalar;

use std::borrow::Cow;

pub use self::scalar::{Word, is_text};

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Text.
    Text(String),
    /// A plain scalar that is not text, and how it was written.
    Word(Word, String),
    /// A list.
    List(Vec<Yaml>),
    /// A map, in file order. For a duplicate key the last value counts, at the position of the first.
    Map(Vec<(String, Yaml)>),
}

/// Something that cannot be read, or would not be read as RCC does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Line {line}: {why}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// The problem.
    pub why: Cow<'static, str>,
}

impl Yaml {
    /// The value of a key, if this is a map that contains it.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        let Yaml::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        let Yaml::Text(text) = self else { return None };
        Some(text)
    }

    /// The value for a text field: a number or a boolean as it was written.
    pub fn as_written(&self) -> Option<&str> {
        match self {
            Yaml::Text(text) | Yaml::Word(_, text) => Some(text),
            Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    /// The boolean, if it is one.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Yaml::Word(Word::Truth(truth), _) => Some(*truth),
            _ => None,
        }
    }

    /// True for null.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Yaml::Word(Word::Nothing, _))
    }
}

/// Parses the first document of a file, in any encoding that YAML allows.
pub fn parse_bytes(bytes: &[u8]) -> Result<Yaml, YamlError> {
    parse(&decode(bytes)?)
}

/// Parses the first document.
pub fn parse(text: &str) -> Result<Yaml, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    reader::read(text)
}

/// UTF-8, or UTF-16 if there is a byte order mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, YamlError> {
    let wide = |read: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        let text = char::decode_utf16(pairs.iter().map(|pair| read(*pair))).collect::<Result<String, _>>();
        match text {
            Ok(text) if rest.is_empty() => Ok(Cow::Owned(text)),
            _ => Err(YamlError { line: 1, why: "It is not valid UTF-16".into() }),
        }
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| YamlError {
            line: 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count(),
            why: "It is not valid UTF-8".into(),
        }),
    }
}

/// Rejects what libyaml rejects, and line breaks that only one of the two dialects knows.
fn check_characters(text: &str) -> Result<(), YamlError> {
    let wrong = |c: char| match c {
        '\u{85}' | '\u{2028}' | '\u{2029}' => {
            Some("It has a line break that YAML 1.1 and 1.2 read differently")
        }
        '\u{feff}' => Some("It has a byte order mark that is not at the start"),
        '\t' | '\n' | '\r' => None,
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => Some("It has a control character"),
        _ => None,
    };
    for (at, line) in text.split('\n').enumerate() {
        if let Some(why) = line.chars().find_map(wrong) {
            return Err(YamlError { line: at + 1, why: why.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
