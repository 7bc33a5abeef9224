//! One scalar as yaml.v2 writes it: plain, in single or double quotes, or as a block, folded after column 80.

use std::fmt::Write as _;

use crate::rcc::yaml::is_text;

/// The column after which the next single space becomes a line break.
const WIDTH: usize = 80;

/// The text, written from `column` on; continuation lines are indented by `indent`. `None` if the line breaks are not certain.
pub(super) fn write(text: &str, column: usize, indent: usize) -> Option<String> {
    if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) || text.starts_with('\u{feff}') {
        return None;
    }
    let mut writer = Writer { out: String::new(), column, indent };
    match style(text) {
        Style::Plain => writer.flow(text, &[], |writer, c| writer.put(c)),
        Style::Single => {
            writer.put('\'');
            writer.flow(text, &[0, text.len() - 1], |writer, c| {
                (0..1 + usize::from(c == '\'')).for_each(|_| writer.put(c))
            });
            writer.put('\'');
        }
        Style::Double => {
            writer.put('"');
            writer.double(text);
            writer.put('"');
        }
        Style::Block => writer.block(text),
    }
    Some(writer.out)
}

struct Writer {
    out: String,
    column: usize,
    indent: usize,
}

impl Writer {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn new_line(&mut self) {
        self.out.push('\n');
        self.out.push_str(&" ".repeat(self.indent));
        self.column = self.indent;
    }

    /// Text without line breaks, folded at single spaces except those at the positions in `never`.
    fn flow(&mut self, text: &str, never: &[usize], put: fn(&mut Writer, char)) {
        let mut after_blank = false;
        for (at, c) in text.char_indices() {
            let folds = c == ' '
                && !after_blank
                && self.column > WIDTH
                && !text[at + 1..].starts_with(' ')
                && !never.contains(&at);
            if folds {
                self.new_line()
            } else {
                put(self, c)
            }
            after_blank = c == ' ';
        }
    }

    fn double(&mut self, text: &str) {
        let mut after_blank = false;
        for (at, c) in text.char_indices() {
            let folds = c == ' ' && !after_blank && self.column > WIDTH && at > 0 && at + 1 < text.len();
            if folds {
                self.new_line();
                if text[at + 1..].starts_with(' ') {
                    self.put('\\');
                }
            } else if is_printable(c) && !matches!(c, '"' | '\\' | '\n') {
                self.put(c);
            } else {
                escape(c).chars().for_each(|c| self.put(c));
            }
            after_blank = c == ' ';
        }
    }

    fn block(&mut self, text: &str) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        self.out.extend(chomp(text));
        self.out.push('\n');
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.out.push_str(&" ".repeat(self.indent));
            }
            self.out.push_str(line);
        }
    }
}

/// The chomping indicator of a block, which decides about its last line break.
fn chomp(text: &str) -> Option<char> {
    match text.strip_suffix('\n') {
        None => Some('-'),
        Some(rest) => (rest.is_empty() || rest.ends_with('\n')).then_some('+'),
    }
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        _ => {
            let (mark, width) = match u32::from(c) {
                0..=0xff => ('x', 2),
                0x100..=0xffff => ('u', 4),
                _ => ('U', 8),
            };
            let mut text = format!("\\{mark}");
            // Writing to a String cannot fail.
            write!(text, "{:0width$X}", u32::from(c)).unwrap_or_default();
            return text;
        }
    };
    format!("\\{short}")
}

/// What the library treats as printable: not the tab, and nothing that needs four bytes.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

#[derive(Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Block,
}

/// yaml.v2 chooses by what the text would mean unquoted, and its emitter by what a style can represent.
fn style(text: &str) -> Style {
    let special = text.chars().any(|c| !is_printable(c)) || text.contains(" \n");
    let indicated = begins_with_indicator(text) || has_indicator(text);
    if text.contains('\n') {
        return if special || text.ends_with(' ') { Style::Double } else { Style::Block };
    }
    if special || !is_text(text) {
        return Style::Double;
    }
    match indicated || text.starts_with(' ') || text.ends_with(' ') {
        true => Style::Single,
        false => Style::Plain,
    }
}

fn begins_with_indicator(text: &str) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let blank_follows = second.is_none_or(|c| matches!(c, ' ' | '\t'));
    match first {
        Some(
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`',
        ) => true,
        Some('?' | ':' | '-') if blank_follows => true,
        _ => text.starts_with("---") || text.starts_with("..."),
    }
}

fn has_indicator(text: &str) -> bool {
    let bytes = text.as_bytes();
    let blank = |at: usize| bytes.get(at).is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    bytes.iter().enumerate().skip(1).any(|(at, byte)| match byte {
        b':' => blank(at + 1),
        b'#' => blank(at - 1),
        _ => false,
    })
}
