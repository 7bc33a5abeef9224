//! Builds the tree from the parser's events.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::scalar::meaning;
use super::{Yaml, YamlError};

/// The maximum nesting depth.
const MAX_DEPTH: usize = 200;
/// The maximum number of values, counting aliases each time: about a hundred times the largest file that people write.
const MAX_VALUES: usize = 200_000;

/// Reads the first document of `text`.
pub(super) fn read(text: &str) -> Result<Yaml, YamlError> {
    let mut reader = Reader::new(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| refused(&error))?;
        match event {
            Event::DocumentEnd | Event::StreamEnd => break,
            event => reader.take(event, span)?,
        }
    }
    Ok(reader.root.unwrap_or(Yaml::Word(super::Word::Nothing, String::new())))
}

fn refused(error: &ScanError) -> YamlError {
    YamlError { line: error.marker().line(), why: format!("It is not valid YAML: {}", error.info()).into() }
}

/// A list or map that is not complete.
struct Open {
    value: Yaml,
    anchor: usize,
    /// The key that is waiting for its value.
    key: Option<Yaml>,
    /// Where a flow list or map begins.
    flow: Option<Span>,
}

struct Reader {
    /// The text by characters, as the parser counts them.
    text: Vec<char>,
    open: Vec<Open>,
    anchors: HashMap<usize, Yaml>,
    root: Option<Yaml>,
    values: usize,
}

impl Reader {
    fn new(text: &str) -> Reader {
        let text = text.chars().collect();
        Reader { text, open: Vec::new(), anchors: HashMap::new(), root: None, values: 0 }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => Ok(()),
            Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let value =
                    known.ok_or_else(|| wrong(span, "An alias refers to a value that contains it"))?;
                self.put(value, span)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text = self.as_ended(text.into_owned(), style, span);
                let value = scalar(text, style, tag.as_deref(), span)?;
                self.remember(anchor, &value);
                self.put(value, span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Yaml::List(Vec::new()), anchor, tag.is_some(), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Yaml::Map(Vec::new()), anchor, tag.is_some(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
        }
    }

    fn begin(&mut self, value: Yaml, anchor: usize, tagged: bool, span: Span) -> Result<(), YamlError> {
        if tagged {
            return Err(wrong(span, "It has a tag"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(wrong(span, "It is nested too deeply"));
        }
        let flow = matches!(self.text.get(span.start.index()), Some('[' | '{')).then_some(span);
        self.open.push(Open { value, anchor, key: None, flow });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        if let Some(start) = open.flow {
            self.check_flow(start, span)?;
        }
        self.remember(open.anchor, &open.value);
        self.put(open.value, span)
    }

    /// In flow style the dialects differ about `?`, and about a colon before another indicator.
    fn check_flow(&self, start: Span, end: Span) -> Result<(), YamlError> {
        let inside = self.text.get(start.start.index()..end.end.index()).unwrap_or_default();
        let differs = |pair: &[char]| {
            pair[1] == '?' || (pair[0] == ':' && matches!(pair[1], ',' | '[' | ']' | '{' | '}'))
        };
        match inside.windows(2).any(differs) {
            true => Err(wrong(
                start,
                "YAML 1.1 and 1.2 read what is in these brackets differently; write it as a block",
            )),
            false => Ok(()),
        }
    }

    /// A block scalar at the end of a file that does not end with a line break: libyaml adds none.
    fn as_ended(&self, mut text: String, style: ScalarStyle, span: Span) -> String {
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let is_last = span.end.index() >= self.text.len() && !matches!(self.text.last(), Some('\n' | '\r'));
        if block && is_last && text.ends_with('\n') {
            text.pop();
        }
        text
    }

    fn remember(&mut self, anchor: usize, value: &Yaml) {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
    }

    fn put(&mut self, value: Yaml, span: Span) -> Result<(), YamlError> {
        self.values += count(&value);
        if self.values > MAX_VALUES {
            return Err(wrong(span, "It has too many values"));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match (&mut open.value, open.key.take()) {
            (Yaml::List(items), _) => items.push(value),
            (Yaml::Map(_), None) => open.key = Some(value),
            (Yaml::Map(entries), Some(key)) => insert(entries, &key, value, span)?,
            (Yaml::Text(_) | Yaml::Word(..), _) => {}
        }
        Ok(())
    }
}

/// The number of values that an item adds to the tree. The items of a list or map were counted when they were added, those of an alias
/// were not; counting the former twice does no harm.
fn count(value: &Yaml) -> usize {
    match value {
        Yaml::Text(_) | Yaml::Word(..) => 1,
        Yaml::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Yaml::Map(entries) => 1 + entries.iter().map(|(_, value)| count(value)).sum::<usize>(),
    }
}

fn insert(entries: &mut Vec<(String, Yaml)>, key: &Yaml, value: Yaml, span: Span) -> Result<(), YamlError> {
    match key {
        Yaml::Text(name) if name == "<<" => merge(entries, value, span),
        key => {
            let name = key.as_written().ok_or_else(|| wrong(span, "A key is a list or a map"))?;
            set(entries, name.to_owned(), value);
            Ok(())
        }
    }
}

/// yaml.v2 merges at the position of `<<`, so that it replaces earlier keys, and of several maps the first wins.
fn merge(entries: &mut Vec<(String, Yaml)>, value: Yaml, span: Span) -> Result<(), YamlError> {
    let maps = match value {
        Yaml::List(maps) => maps,
        map => vec![map],
    };
    for map in maps.into_iter().rev() {
        let Yaml::Map(merged) = map else { return Err(wrong(span, "Only maps are merged")) };
        merged.into_iter().for_each(|(name, value)| set(entries, name, value));
    }
    Ok(())
}

fn set(entries: &mut Vec<(String, Yaml)>, name: String, value: Yaml) {
    match entries.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => entries.push((name, value)),
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Yaml, YamlError> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Yaml::Text(text)),
        Some(_) => Err(wrong(span, "It has a tag")),
        None if style != ScalarStyle::Plain => Ok(Yaml::Text(text)),
        None => Ok(match meaning(&text) {
            Some(word) => Yaml::Word(word, text),
            None => Yaml::Text(text),
        }),
    }
}

fn wrong(span: Span, why: &'static str) -> YamlError {
    YamlError { line: span.start.line(), why: why.into() }
}
