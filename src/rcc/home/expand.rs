//! Paths as RCC expands them: Go's `os.ExpandEnv`, on Windows `%NAME%` too, then absolute and clean.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Environment;

/// Expands variables in `text`, makes it absolute, and cleans it lexically (links are not resolved).
pub(super) fn expand_path(text: &OsStr, env: &Environment<'_>) -> io::Result<PathBuf> {
    let mut expanded = expand(text.as_encoded_bytes(), env.var);
    if cfg!(windows) {
        expanded = expand_percent(&expanded, env.var);
    }
    Ok(clean(&std::path::absolute(Path::new(&from_bytes(expanded)))?))
}

/// Go's `filepath.Clean` of an absolute path.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// `os.ExpandEnv`, including its corner cases: `${}` and an unclosed `${` are dropped, a lone `$` stays.
fn expand(text: &[u8], lookup: &dyn Fn(&str) -> Option<OsString>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.extend_from_slice(before);
        let (name, width) = variable(after);
        match std::str::from_utf8(name) {
            Ok("") if width == 0 => out.push(b'$'),
            Ok("") | Err(_) => {}
            Ok(name) => out.extend_from_slice(lookup(name).unwrap_or_default().as_encoded_bytes()),
        }
        rest = &after[width..];
    }
    out.extend_from_slice(rest);
    out
}

/// The variable's name at the start of `text` (which follows a `$`), and how many bytes it takes.
fn variable(text: &[u8]) -> (&[u8], usize) {
    match text {
        [b'{', special, b'}', ..] if is_special(*special) => (&text[1..2], 3),
        [b'{', tail @ ..] => match tail.iter().position(|&byte| byte == b'}') {
            Some(end) => (&tail[..end], end + 2),
            None => (b"", 1),
        },
        [special, ..] if is_special(*special) => (&text[..1], 1),
        _ => {
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let end = text.iter().position(|byte| !word(byte)).unwrap_or(text.len());
            (&text[..end], end)
        }
    }
}

/// Replaces each `%NAME%` that consists of letters only, from left to right; unset variables stay as they are.
fn expand_percent(text: &[u8], lookup: &dyn Fn(&str) -> Option<OsString>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.extend_from_slice(before);
        let end = after.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        match (std::str::from_utf8(name), tail) {
            (Ok(word), [b'%', tail @ ..]) if !word.is_empty() => {
                match lookup(word) {
                    Some(value) => out.extend_from_slice(value.as_encoded_bytes()),
                    None => out.extend_from_slice(&rest[at..][..end + 2]),
                }
                rest = tail;
            }
            _ => {
                out.push(b'%');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> String {
        let lookup =
            |name: &str| (name == "A" || name == "LONG_1").then(|| OsString::from(format!("<{name}>")));
        String::from_utf8(expand(text.as_bytes(), &lookup)).unwrap()
    }

    #[test]
    fn variables_expand_as_in_go() {
        let cases = [
            ("plain", "plain"),
            ("$A/${LONG_1}x$LONG_1.y", "<A>/<LONG_1>x<LONG_1>.y"),
            ("a${}b", "ab"),
            ("a${b", "ab"),
            ("cost $", "cost $"),
            ("$/x", "$/x"),
            ("$NOPE-$A", "-<A>"),
            ("$1A${*}$A", "A<A>"),
        ];
        for (text, expected) in cases {
            assert_eq!(expanded(text), expected, "{text}");
        }
    }

    #[test]
    fn names_between_percent_signs_expand_as_in_rcc_on_windows() {
        let lookup = |name: &str| match name {
            "A" | "Bc" => Some(OsString::from(format!("<{name}>"))),
            "Empty" => Some(OsString::new()),
            _ => None,
        };
        let cases = [
            ("plain", "plain"),
            (r"%A%\%Bc%x", r"<A>\<Bc>x"),
            ("%Empty%x", "x"),
            ("%NOPE%A%A%", "%NOPE%A<A>"),
            ("100%A%Bc%", "100<A>Bc%"),
            ("%%A%%", "%<A>%"),
            ("%A1%A%", "%A1<A>"),
            ("%A b%", "%A b%"),
            ("%", "%"),
        ];
        for (text, expected) in cases {
            let expanded = String::from_utf8(expand_percent(text.as_bytes(), &lookup)).unwrap();
            assert_eq!(expanded, expected, "{text}");
        }
    }

    #[test]
    fn cleaning_is_by_words() {
        assert_eq!(clean(Path::new("/a/./b/../c//d/")), Path::new("/a/c/d"));
        assert_eq!(clean(Path::new("/../..")), Path::new("/"));
    }
}
