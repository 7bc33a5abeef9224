//! The part of YAML that every parser reads alike: what people write into a conda.yaml, and what RCC writes into its settings.
//!
//! Block lists and maps, plain and quoted words on one line, short flow lists, comments. Everything else (anchors, tags, text
//! over several lines, escapes) is refused with its line: RCC reads it by Go's yaml.v2, a dialect between YAML 1.1 and 1.2
//! that no maintained Rust crate speaks, and a hash of something read a little differently would be a wrong name.
//!
//! A word that could be a number, a date, a truth value or nothing is [`Yaml::Other`]: never text by accident.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Text, for every parser.
    Text(String),
    /// A plain word that some parser takes for something else than text; empty for nothing at all.
    Other(String),
    /// A list.
    List(Vec<Yaml>),
    /// A map, in the order of the file; no key stands twice.
    Map(Vec<(String, Yaml)>),
}

/// What is beyond this part of YAML, or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Cannot read line {line} for certain: {why}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is there.
    pub why: &'static str,
}

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 32;

impl Yaml {
    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        let Yaml::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        let Yaml::Text(text) = self else { return None };
        Some(text)
    }

    /// True or false, if it says so.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Yaml::Other(word) if word.eq_ignore_ascii_case("true") => Some(true),
            Yaml::Other(word) if word.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// True for a value that is not there.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Yaml::Other(word) if matches!(word.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads one document.
pub fn parse(text: &str) -> Result<Yaml, YamlError> {
    let lines = lines(text)?;
    let Some(first) = lines.first() else { return Ok(Yaml::Other(String::new())) };
    let indent = first.indent;
    let mut reader = Reader { lines, at: 0 };
    let value = reader.block(indent, 0)?;
    match reader.lines.get(reader.at) {
        None => Ok(value),
        Some(line) => Err(line.refuse("it is indented as nothing before it")),
    }
}

/// A line that says something.
#[derive(Debug, Clone)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

impl Line {
    fn refuse(&self, why: &'static str) -> YamlError {
        YamlError { line: self.number, why }
    }

    fn is_item(&self) -> bool {
        self.text == "-" || self.text.starts_with("- ")
    }
}

fn lines(text: &str) -> Result<Vec<Line>, YamlError> {
    let mut lines = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(' ');
        let content = line.trim_start_matches(' ');
        if content.is_empty() || content.starts_with('#') || (line == "---" && lines.is_empty()) {
            continue;
        }
        let line = Line { number: at + 1, indent: line.len() - content.len(), text: content.to_owned() };
        if line
            .text
            .chars()
            .any(|c| c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
        {
            return Err(line.refuse("it has a tab or another control character"));
        }
        if line.indent == 0
            && (["---", "..."].iter().any(|mark| line.text.starts_with(mark)) || line.text.starts_with('%'))
        {
            return Err(line.refuse("it is a mark between documents"));
        }
        lines.push(line);
    }
    Ok(lines)
}

struct Reader {
    lines: Vec<Line>,
    at: usize,
}

impl Reader {
    /// The list or map whose lines have this indent.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        let Some(line) = self.lines.get(self.at).cloned() else { return Ok(Yaml::Other(String::new())) };
        if depth > MAX_DEPTH {
            return Err(line.refuse("it is nested too deeply"));
        }
        if line.is_item() { self.list(indent, depth) } else { self.map(indent, depth) }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.lines.get(self.at).cloned() {
            if line.indent < indent || (line.indent == indent && !line.is_item()) {
                break;
            }
            if line.indent > indent {
                return Err(line.refuse("it goes on with the text before, or is indented by mistake"));
            }
            let rest = line.text[1..].trim_start();
            let column = indent + line.text.len() - rest.len();
            let inner = Line { indent: column, text: rest.to_owned(), ..line };
            if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
                items.push(self.below(indent, false, depth)?);
            } else if inner.is_item() || key_of(&inner)?.is_some() {
                self.lines[self.at] = inner;
                items.push(self.block(column, depth + 1)?);
            } else {
                self.at += 1;
                items.push(scalar(&inner, rest)?);
            }
        }
        Ok(Yaml::List(items))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Yaml, YamlError> {
        let mut entries: Vec<(String, Yaml)> = Vec::new();
        while let Some(line) = self.lines.get(self.at).cloned() {
            if line.indent < indent || (line.indent == indent && line.is_item()) {
                break;
            }
            if line.indent > indent {
                return Err(line.refuse("it goes on with the text before, or is indented by mistake"));
            }
            let Some((key, rest)) = key_of(&line)? else {
                return Err(line.refuse("it is neither `key: value` nor `- item`"));
            };
            if entries.iter().any(|(name, _)| *name == key) {
                return Err(line.refuse("its key stands twice"));
            }
            self.at += 1;
            let value = match rest {
                "" => self.below(indent, true, depth)?,
                rest if rest.starts_with('#') => self.below(indent, true, depth)?,
                rest => scalar(&line, rest)?,
            };
            entries.push((key, value));
        }
        Ok(Yaml::Map(entries))
    }

    /// What stands below a key or a dash. A list below a key may be indented as the key is.
    fn below(&mut self, indent: usize, is_key: bool, depth: usize) -> Result<Yaml, YamlError> {
        match self.lines.get(self.at) {
            Some(next) if next.indent > indent => {
                let (deeper, next) = (next.indent, next.clone());
                if !next.is_item() && key_of(&next)?.is_none() {
                    return Err(next.refuse("it is text on a line of its own"));
                }
                self.block(deeper, depth + 1)
            }
            Some(next) if is_key && next.indent == indent && next.is_item() => self.block(indent, depth + 1),
            _ => Ok(Yaml::Other(String::new())),
        }
    }
}

/// The key of `key: value`, and what stands behind it.
fn key_of(line: &Line) -> Result<Option<(String, &str)>, YamlError> {
    let text = line.text.as_str();
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let (key, rest) = quoted(line, text, quote)?;
        return match rest.strip_prefix(':') {
            Some(value) if value.is_empty() || value.starts_with(' ') => Ok(Some((key, value.trim_start()))),
            _ => Ok(None),
        };
    }
    let end = text.find(" #").unwrap_or(text.len());
    let colon = match text[..end].find(": ") {
        Some(at) => at,
        None if text[..end].trim_end().ends_with(':') => text[..end].trim_end().len() - 1,
        None => return Ok(None),
    };
    let key = &text[..colon];
    match plain(line, key)? {
        Yaml::Text(key) if !key.starts_with(['[', '{']) => Ok(Some((key, text[colon + 1..].trim_start()))),
        _ => Err(line.refuse("its key is no plain word")),
    }
}

/// A value on one line.
fn scalar(line: &Line, text: &str) -> Result<Yaml, YamlError> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(line, text, quote)?;
            if rest.is_empty() || rest.trim_start().starts_with('#') && rest.starts_with(' ') {
                return Ok(Yaml::Text(value));
            }
            Err(line.refuse("something follows the quoted text"))
        }
        Some('[') => flow_list(line, without_comment(text)),
        Some('{') if without_comment(text) == "{}" => Ok(Yaml::Map(Vec::new())),
        _ => plain(line, without_comment(text)),
    }
}

fn without_comment(text: &str) -> &str {
    text.find(" #").map_or(text, |at| &text[..at]).trim_end()
}

/// Quoted text at the start of `text`, and what follows it.
fn quoted<'t>(line: &Line, text: &'t str, quote: char) -> Result<(String, &'t str), YamlError> {
    let mut value = String::new();
    let mut rest = text[1..].char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if quote == '"' => return Err(line.refuse("its quoted text has an escape")),
            '\'' if quote == '\'' && rest.peek().is_some_and(|&(_, next)| next == '\'') => {
                rest.next();
                value.push('\'');
            }
            c if c == quote => return Ok((value, &text[at + 2..])),
            c => value.push(c),
        }
    }
    Err(line.refuse("its quoted text goes on over several lines"))
}

/// `[a, b]`, of plain words.
fn flow_list(line: &Line, text: &str) -> Result<Yaml, YamlError> {
    let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Err(line.refuse("its list goes on over several lines"));
    };
    if inner.trim().is_empty() {
        return Ok(Yaml::List(Vec::new()));
    }
    if inner.contains(['[', ']', '{', '}', '"', '\'', '#', '?']) || inner.contains(": ") {
        return Err(line.refuse("its list in brackets holds more than plain words"));
    }
    inner.split(',').map(|item| plain(line, item.trim())).collect::<Result<_, _>>().map(Yaml::List)
}

/// A plain word or several.
fn plain(line: &Line, text: &str) -> Result<Yaml, YamlError> {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    match first {
        None => return Ok(Yaml::Other(String::new())),
        Some(
            '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | ',' | '[' | ']' | '{' | '}' | '"' | '\'' | '#',
        ) => {
            return Err(line.refuse("it begins with a mark of YAML; quote it"));
        }
        Some('?' | ':' | '-') if second.is_none_or(|c| c == ' ') => {
            return Err(line.refuse("it begins with a mark of YAML; quote it"));
        }
        Some(_) if text.contains(": ") || text.ends_with(':') => {
            return Err(line.refuse("it has a second colon; quote it"));
        }
        Some(_) => {}
    }
    let text = text.to_owned();
    Ok(if may_be_no_text(&text) { Yaml::Other(text) } else { Yaml::Text(text) })
}

/// True if some parser of YAML takes the plain word for a number, a date, a truth value or nothing. Errs on that side.
pub fn may_be_no_text(word: &str) -> bool {
    const WORDS: [&str; 13] =
        ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "="];
    let lower = word.to_ascii_lowercase();
    let unsigned = lower.trim_start_matches(['+', '-']);
    let numeric = |c: char| {
        c.is_ascii_hexdigit() || matches!(c, 'x' | 'o' | '_' | '.' | ':' | '+' | '-' | 't' | 'z' | ' ')
    };
    // A date with a time zone has three dashes; a number of an installation has four.
    let dashes = lower.matches('-').count();
    WORDS.contains(&lower.as_str())
        || [".inf", ".nan"].contains(&unsigned)
        || dashes < 4
            && lower.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
            && lower.contains(|c: char| c.is_ascii_digit())
            && lower.chars().all(numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }

    #[test]
    fn lists_and_maps_of_any_usual_indent_are_read_alike() {
        let flat = "a:\n- x\n- k: z\n  w:\n  - v\nb: 'it''s' # why\n";
        let deep = "---\n# head\na:\n   - x # c\n   -  k: z\n      w:\n         -   v\n\nb:   \"it's\"\r\n";
        let inner = Yaml::Map(vec![("k".into(), text("z")), ("w".into(), Yaml::List(vec![text("v")]))]);
        let expected =
            Yaml::Map(vec![("a".into(), Yaml::List(vec![text("x"), inner])), ("b".into(), text("it's"))]);
        assert_eq!(parse(flat), Ok(expected.clone()));
        assert_eq!(parse(deep), Ok(expected));
    }

    #[test]
    fn words_that_are_not_text_for_everybody_are_told_apart() {
        for word in [
            "yes",
            "No",
            "~",
            "3",
            "1.0",
            "1e5",
            "0x1f",
            "2001-12-14",
            "190:20:30",
            ".5",
            "-1",
            ".inf",
            "null",
        ] {
            assert!(may_be_no_text(word), "{word}");
        }
        for word in [
            "python",
            "python=3.7",
            "7zip",
            "yes-man",
            "--pre",
            "1.0rc1",
            "conda-forge",
            "a",
            "72b5124f-e667-8e5b-e266-4fd105bac84e",
        ] {
            assert!(!may_be_no_text(word), "{word}");
        }
        assert_eq!(parse("a: \"1.0\"").unwrap().get("a"), Some(&text("1.0")));
        assert_eq!(parse("a: true").unwrap().get("a").and_then(Yaml::flag), Some(true));
        assert!(parse("a:\nb: x").unwrap().get("a").is_some_and(Yaml::is_nothing));
    }

    #[test]
    fn short_flow_lists_are_read() {
        assert_eq!(
            parse("a: [ x, y=1 ] # c").unwrap().get("a"),
            Some(&Yaml::List(vec![text("x"), text("y=1")]))
        );
        assert_eq!(parse("a: []").unwrap().get("a"), Some(&Yaml::List(Vec::new())));
    }

    #[test]
    fn what_is_beyond_is_refused_with_its_line() {
        let beyond = [
            "a: &x y",
            "a: *x",
            "a: !!str y",
            "a: |\n  y",
            "a: >-\n  y",
            "a: y\n  z",
            "a: \"x\\n\"",
            "a: 'x",
            "a: [x,\n  y]",
            "a: {x: y}",
            "a:\n  text",
            "a:\tb",
            "a: b\n---\nc: d",
            "a: b\na: c",
            "- a\n - b",
            "a: b: c",
            "? a",
            "a: @b",
            "text",
            "a: [\"x\"]",
            "a: 'b' c",
        ];
        for text in beyond {
            assert!(parse(text).is_err(), "{text:?} is {:?}", parse(text));
        }
        assert_eq!(parse("a: b\nc: &d e").unwrap_err().line, 2);
        assert!(parse(&format!("{}a", "- ".repeat(100))).is_err());
    }
}
