//! The text that RCC's YAML library writes: keys in a fixed order, lists not indented below their key, words as plain as
//! they can be, long plain text folded behind column 80.

use super::{CondaError, Environment};
use crate::rcc::yaml::may_be_no_text;

/// The column behind which the next single blank becomes a new line.
const WIDTH: usize = 80;

/// Writes the environment.
pub(super) fn emit(environment: &Environment) -> Result<String, CondaError> {
    let mut out = String::new();
    if !environment.name.is_empty() {
        line(&mut out, "name:", &environment.name, 2)?;
    }
    list(&mut out, "channels", &environment.channels)?;
    let conda: Vec<String> = environment.conda.iter().map(|item| item.text.clone()).collect();
    match (conda.is_empty(), environment.pip.is_empty()) {
        (true, false) => out.push_str("dependencies:\n"),
        _ => list(&mut out, "dependencies", &conda)?,
    }
    if !environment.pip.is_empty() {
        out.push_str("- pip:\n");
        for item in &environment.pip {
            line(&mut out, "  -", &item.text, 4)?;
        }
    }
    if !environment.prefix.is_empty() {
        line(&mut out, "prefix:", &environment.prefix, 2)?;
    }
    if !environment.post_install.is_empty() {
        list(&mut out, "rccPostInstall", &environment.post_install)?;
    }
    Ok(out)
}

fn list(out: &mut String, key: &str, items: &[String]) -> Result<(), CondaError> {
    out.push_str(key);
    if items.is_empty() {
        out.push_str(": []\n");
        return Ok(());
    }
    out.push_str(":\n");
    items.iter().try_for_each(|item| line(out, "-", item, 2))
}

/// `before text`, folded so that what goes on stands at `indent`.
fn line(out: &mut String, before: &str, text: &str, indent: usize) -> Result<(), CondaError> {
    let unwritable = || CondaError::Unwritable { text: text.to_owned() };
    out.push_str(before);
    out.push(' ');
    match style(text).ok_or_else(unwritable)? {
        Style::Plain => fold(out, text, before.len() + 1, indent),
        // Quoted text is folded by other rules.
        _ if before.len() + text.len() + 3 > WIDTH => return Err(unwritable()),
        Style::Single => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
        Style::Double => out.push_str(&format!("\"{text}\"")),
    }
    out.push('\n');
    Ok(())
}

fn fold(out: &mut String, text: &str, mut column: usize, indent: usize) {
    let bytes = text.as_bytes();
    let mut blanks = false;
    for (at, &byte) in bytes.iter().enumerate() {
        let folds = byte == b' ' && !blanks && column > WIDTH && bytes.get(at + 1) != Some(&b' ');
        if folds {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(char::from(byte));
            column += 1;
        }
        blanks = byte == b' ';
    }
}

enum Style {
    Plain,
    Single,
    Double,
}

/// How the text is written; `None` where that is not certain.
fn style(text: &str) -> Option<Style> {
    let simple = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !simple || text.starts_with(' ') || text.ends_with(' ') {
        return None;
    }
    if may_be_no_text(text) {
        return is_no_text(text).then_some(Style::Double);
    }
    let bytes = text.as_bytes();
    let blank_follows = |at: usize| bytes.get(at + 1).is_none_or(|&byte| byte == b' ');
    let opens = matches!(
        bytes[0],
        b'#' | b','
            | b'['
            | b']'
            | b'{'
            | b'}'
            | b'&'
            | b'*'
            | b'!'
            | b'|'
            | b'>'
            | b'\''
            | b'"'
            | b'%'
            | b'@'
            | b'`'
    ) || (matches!(bytes[0], b'-' | b'?' | b':') && blank_follows(0));
    let marks = bytes.iter().enumerate().skip(1).any(|(at, &byte)| match byte {
        b':' => blank_follows(at),
        b'#' => bytes[at - 1] == b' ',
        _ => false,
    });
    let document = text.starts_with("---") || text.starts_with("...");
    Some(if opens || marks || document { Style::Single } else { Style::Plain })
}

/// True for words that RCC's library certainly takes for a truth value, nothing, or a decimal number.
fn is_no_text(text: &str) -> bool {
    const WORDS: [&str; 11] = ["~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ""];
    let spelled = |word: &str| {
        let mut capital = word.to_owned();
        capital[..usize::from(!word.is_empty())].make_ascii_uppercase();
        [word.to_owned(), capital, word.to_ascii_uppercase()].contains(&text.to_owned())
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.split_once('.').map_or(digits(text), |(whole, part)| digits(whole) && digits(part));
    WORDS.iter().any(|word| spelled(word)) || number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        let mut out = String::new();
        line(&mut out, "-", text, 2).ok()?;
        Some(out)
    }

    #[test]
    fn words_are_quoted_as_the_library_does() {
        let cases = [
            ("python=3.7.8", "- python=3.7.8\n"),
            ("--index-url https://x", "- --index-url https://x\n"),
            ("pkg[a,b]==1; python_version < \"3.9\"", "- pkg[a,b]==1; python_version < \"3.9\"\n"),
            ("true", "- \"true\"\n"),
            ("1.5", "- \"1.5\"\n"),
            ("@x", "- '@x'\n"),
            ("a: b # c", "- 'a: b # c'\n"),
            ("it's", "- it's\n"),
            ("'it's", "- '''it''s'\n"),
            ("---x", "- '---x'\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", " x", "x ", "größe", "1e5", "2001-01-01", "a\nb"] {
            assert_eq!(written(text), None, "{text:?}");
        }
    }

    #[test]
    fn long_plain_text_is_folded_at_the_first_blank_behind_column_80() {
        let text = format!("{} bb {} ccc", "a".repeat(76), "d".repeat(10));
        assert_eq!(written(&text).unwrap(), format!("- {} bb\n  {} ccc\n", "a".repeat(76), "d".repeat(10)));
    }
}
