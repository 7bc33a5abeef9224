//! Output of untrusted text: to a terminal, to a log, into JSON.
//!
//! Names and messages may contain anything: an escape sequence that rewrites the terminal, a newline that starts another line, a
//! command that a CI system takes from the output. Printed text goes through [`line()`]; JSON goes through serde, with [`path`] and
//! its variants for text that need not be UTF-8. Nothing is escaped where it is created, so nothing is escaped twice.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Prefixes that CI systems treat as a command anywhere in a line.
const COMMANDS: [&str; 2] = ["##[", "##vso["];

/// A file of the system to which any user can add names, such as a table of mounts: one name that is not UTF-8 must not hide the rest, so
/// it is replaced.
pub fn read_lossy(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = std::fs::read(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// `text` as one line that has no effect but being displayed: control characters and marks that change the writing direction become
/// `\u{…}` (newlines and tabs `\n`, `\t`), and CI commands are broken up.
pub fn line(text: &str) -> Cow<'_, str> {
    let command = text.trim_start().starts_with("::");
    if !command && !text.chars().any(acts) && !COMMANDS.iter().any(|command| text.contains(command)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let (mut at_start, mut rest) = (true, text);
    while let Some(c) = rest.chars().next() {
        let begins =
            (at_start && command && c == ':') || COMMANDS.iter().any(|command| rest.starts_with(command));
        if begins || (acts(c) && !matches!(c, '\n' | '\r' | '\t')) {
            shown.extend(c.escape_unicode());
        } else {
            shown.extend(c.escape_debug().filter(|_| acts(c)).chain((!acts(c)).then_some(c)));
        }
        at_start &= c.is_whitespace();
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(shown)
}

/// JSON with the same meaning and no effect on a terminal or a CI system: serde leaves some characters unescaped.
pub fn json(text: &str) -> Cow<'_, str> {
    let active = |c: char| c != '\n' && acts(c);
    if !text.chars().any(active) && !COMMANDS.iter().any(|command| text.contains(command)) {
        return Cow::Borrowed(text);
    }
    // They occur only inside strings.
    let mut shown = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        if active(c) || COMMANDS.iter().any(|command| text[at..].starts_with(command)) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Characters that have an effect other than being displayed.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The bytes as lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |&byte: &u8| [byte >> 4, byte & 0xf].map(|half| char::from(DIGITS[usize::from(half)]));
    bytes.iter().flat_map(digits).collect()
}

/// A path as text without losing bytes: those that are not UTF-8 become `\xNN`.
pub fn of_path(path: &Path) -> Cow<'_, str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
            text
        })),
    }
}

/// Serializes a path that need not be UTF-8, for reports: it is not parsed again.
pub fn path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    of_path(path).serialize(to)
}

/// As [`path`], for several.
pub fn paths<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| of_path(path)))
}

/// As [`path`], for one that may be absent.
pub fn maybe_path<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(of_path).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_seen_is_left_alone() {
        for text in ["", "plain", "grün 漢字 \\ \" ' `x` $y", "a::b", "#[x] ## [x]", "/a b/c"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_acts_is_shown_and_does_not_act() {
        for (text, shown) in [
            ("a\x1b[31mb", r"a\u{1b}[31mb"),
            ("a\nb\r\tc\0", r"a\nb\r\tc\u{0}"),
            ("\u{9b}31m\x7f", r"\u{9b}31m\u{7f}"),
            ("a\u{202e}b\u{2028}c", r"a\u{202e}b\u{2028}c"),
            ("::error::x", r"\u{3a}:error::x"),
            (" ::stop-commands::x", r" \u{3a}:stop-commands::x"),
            ("x\n::error::y", r"x\n::error::y"),
            ("a ##[error]b", r"a \u{23}#[error]b"),
            ("###[x] ##vso[y]", r"#\u{23}#[x] \u{23}#vso[y]"),
        ] {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn json_means_the_same_and_does_nothing() {
        let hard = serde_json::json!({"a\u{9b}b": ["\u{7f}\x1b\n", "##[error]", "\u{202e}", "grün ::x"]});
        let printed = serde_json::to_string_pretty(&hard).unwrap();
        let shown = json(&printed);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), hard);
        assert!(!shown.replace('\n', "").chars().any(acts) && !shown.contains("##["), "{shown}");
    }

    #[test]
    #[cfg(unix)]
    fn a_path_that_is_not_utf_8_is_json_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        #[derive(Serialize)]
        struct Report {
            #[serde(serialize_with = "path")]
            one: PathBuf,
            #[serde(serialize_with = "paths")]
            many: Vec<PathBuf>,
            #[serde(serialize_with = "maybe_path")]
            none: Option<PathBuf>,
        }
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/a\xff\xfe/b"));
        let report = Report { one: odd.clone(), many: vec![odd], none: None };
        let json = serde_json::json!({"one": r"/a\xff\xfe/b", "many": [r"/a\xff\xfe/b"], "none": null});
        assert_eq!(serde_json::to_value(report).unwrap(), json);
    }
}
