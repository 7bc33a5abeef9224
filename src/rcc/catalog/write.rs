//! Writes a catalog byte for byte as RCC does: Go's `json.MarshalIndent(root, "", "  ")`, then gzip.
//!
//! Written by hand because Go escapes `<`, `>`, `&`, U+2028 and U+2029, which serde_json does not, and because a loop with its own
//! stack cannot overflow on a deep tree.

use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::inflate::{Json, inflate};
use super::{Dir, DirId, File, Header};

/// Writes the gzip of the catalog's JSON, with RCC's compression level (BestSpeed).
pub(super) fn gzip(header: &Header, dirs: &[Dir], out: impl Write) -> io::Result<()> {
    let encoder = GzEncoder::new(out, Compression::fast());
    let mut buffered = BufWriter::with_capacity(64 << 10, encoder);
    json(header, dirs, &mut buffered)?;
    let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()
}

/// The text of an `.info` file.
pub(super) fn info(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    for (position, (field, value)) in fields(header).into_iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"{\n  " } else { b",\n  " });
        push_string(&mut out, field.as_bytes());
        out.extend_from_slice(b": ");
        push_string(&mut out, value.as_bytes());
    }
    out.extend_from_slice(b"\n}");
    out
}

fn fields(header: &Header) -> [(&'static str, &str); 7] {
    [
        ("rcc", &header.rcc),
        ("identity", &header.identity),
        ("path", &header.path),
        ("controller", &header.controller),
        ("space", &header.space),
        ("platform", &header.platform),
        ("blueprint", &header.blueprint),
    ]
}

fn json(header: &Header, dirs: &[Dir], out: &mut impl Write) -> io::Result<()> {
    let mut text = Text::default();
    head(header, &mut text);
    tail(header.lifted, dirs, &mut text, out)
}

/// The part that differs between the catalog and the `.meta` of every space: a separate gzip member.
pub(super) fn gzip_head(header: &Header, out: impl Write) -> io::Result<()> {
    let mut text = Text::default();
    head(header, &mut text);
    let mut encoder = GzEncoder::new(out, Compression::fast());
    text.drain(&mut encoder)?;
    encoder.finish()?.flush()
}

/// The part after the head, which is the same for all: a separate gzip member.
pub(super) fn gzip_tail(header: &Header, dirs: &[Dir], out: impl Write) -> io::Result<()> {
    let encoder = GzEncoder::new(out, Compression::fast());
    let mut buffered = BufWriter::with_capacity(64 << 10, encoder);
    let mut text = Text { depth: 1, ..Text::default() };
    tail(header.lifted, dirs, &mut text, &mut buffered)?;
    let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()
}

/// As [`gzip_tail`], but cut out of the text in `stored` instead of generated. Returns false and writes nothing unless the text has
/// RCC's exact form and exactly this head.
pub(super) fn cut_tail(header: &Header, stored: &[u8], out: impl Write) -> io::Result<bool> {
    let Ok(Json::Whole(json)) = inflate(stored) else { return Ok(false) };
    let mut text = Text::default();
    head(header, &mut text);
    let Some(tail) = json.strip_prefix(&text.bytes[..]).filter(|tail| tail.starts_with(b",\n  \"lifted\": "))
    else {
        return Ok(false);
    };
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(tail)?;
    encoder.finish()?.flush()?;
    Ok(true)
}

fn head(header: &Header, text: &mut Text) {
    text.open(b'{');
    for (field, value) in fields(header) {
        text.key(field);
        text.string(value.as_bytes());
    }
}

fn tail(lifted: bool, dirs: &[Dir], text: &mut Text, out: &mut impl Write) -> io::Result<()> {
    text.key("lifted");
    text.raw(if lifted { "true" } else { "false" });
    text.key("tree");
    tree(dirs, text, out)?;
    text.close(b'}');
    text.drain(out)
}

/// The directories, depth first: an open one waits on the stack with the number of subdirs already written.
fn tree(dirs: &[Dir], text: &mut Text, out: &mut impl Write) -> io::Result<()> {
    let mut open = Vec::new();
    let mut next = Some(DirId(0));
    while let Some(id) = next {
        let dir = &dirs[id.index()];
        start_dir(dir, text);
        open.push((dir, dir.subdirs.iter()));
        next = None;
        while let Some((dir, subdirs)) = open.last_mut() {
            if let Some(&child) = subdirs.next() {
                text.entry(dirs[child.index()].name.as_ref().map(|name| name.as_bytes()).unwrap_or_default());
                next = Some(child);
                break;
            }
            end_dir(dir, text);
            open.pop();
        }
        text.drain(out)?;
    }
    Ok(())
}

/// Everything before the first subdir.
fn start_dir(dir: &Dir, text: &mut Text) {
    text.open(b'{');
    text.key("name");
    text.string(dir.name.as_ref().map(|name| name.as_bytes()).unwrap_or_default());
    link(dir.symlink.as_deref(), text);
    text.key("mode");
    text.number(dir.mode.0.into());
    text.key("subdirs");
    text.open(b'{');
}

/// Everything after the last subdir.
fn end_dir(dir: &Dir, text: &mut Text) {
    text.close(b'}');
    text.key("files");
    text.open(b'{');
    for each in &dir.files {
        text.entry(each.name.as_bytes());
        file(each, text);
    }
    text.close(b'}');
    if dir.shadow {
        text.key("shadow");
        text.raw("true");
    }
    text.close(b'}');
}

fn file(file: &File, text: &mut Text) {
    text.open(b'{');
    text.key("name");
    text.string(file.name.as_bytes());
    link(file.symlink.as_deref(), text);
    text.key("size");
    text.number(file.size);
    text.key("mode");
    text.number(file.mode.0.into());
    text.key("digest");
    match &file.digest {
        Some(digest) => text.string(digest.to_string().as_bytes()),
        None => text.string(super::format::NO_DIGEST.as_bytes()),
    }
    text.key("rewrite");
    text.open(b'[');
    for &offset in &file.rewrite {
        text.item();
        text.number(offset);
    }
    text.close(b']');
    text.close(b'}');
}

fn link(symlink: Option<&str>, text: &mut Text) {
    if let Some(symlink) = symlink {
        text.key("symlink");
        text.string(symlink.as_bytes());
    }
}

/// JSON as Go indents it, buffered until it is drained.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    depth: usize,
    /// The most recently opened object or array is still empty.
    empty: bool,
}

impl Text {
    fn open(&mut self, bracket: u8) {
        self.bytes.push(bracket);
        self.depth += 1;
        self.empty = true;
    }

    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        if !std::mem::take(&mut self.empty) {
            self.line();
        }
        self.bytes.push(bracket);
    }

    fn line(&mut self) {
        self.bytes.push(b'\n');
        self.bytes.resize(self.bytes.len() + 2 * self.depth, b' ');
    }

    /// Starts the next value of an array or object.
    fn item(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.bytes.push(b',');
        }
        self.line();
    }

    /// A key that needs no escaping.
    fn key(&mut self, key: &str) {
        self.entry(key.as_bytes());
    }

    fn entry(&mut self, key: &[u8]) {
        self.item();
        self.string(key);
        self.bytes.extend_from_slice(b": ");
    }

    fn string(&mut self, value: &[u8]) {
        push_string(&mut self.bytes, value);
    }

    fn raw(&mut self, value: &str) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, value: u64) {
        self.raw(&value.to_string());
    }

    fn drain(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

/// A string as Go's encoder escapes it.
fn push_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let mut clean = 0;
    let mut at = 0;
    while at < value.len() {
        let (length, escape) = escaped(&value[at..]);
        if let Some(escape) = escape {
            out.extend_from_slice(&value[clean..at]);
            out.extend_from_slice(escape.as_bytes());
            clean = at + length;
        }
        at += length;
    }
    out.extend_from_slice(&value[clean..]);
    out.push(b'"');
}

/// How many bytes of `rest` to consume, and their escaped form if they need one.
fn escaped(rest: &[u8]) -> (usize, Option<std::borrow::Cow<'static, str>>) {
    let short = match rest[0] {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        8 => "\\b",
        12 => "\\f",
        control @ (0..=0x1f | b'<' | b'>' | b'&') => return (1, Some(format!("\\u{control:04x}").into())),
        0xe2 if rest.starts_with("\u{2028}".as_bytes()) => return (3, Some("\\u2028".into())),
        0xe2 if rest.starts_with("\u{2029}".as_bytes()) => return (3, Some("\\u2029".into())),
        _ => return (1, None),
    };
    (1, Some(short.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let cases = [
            ("plain ü 日 🐍 \u{7f}", "\"plain ü 日 🐍 \u{7f}\""),
            ("<a>&\"b\\c", r#""\u003ca\u003e\u0026\"b\\c""#),
            ("\n\r\t\u{8}\u{c}\u{1}\u{1f}", r#""\n\r\t\b\f\u0001\u001f""#),
            ("a\u{2028}b\u{2029}\u{2027}", "\"a\\u2028b\\u2029\u{2027}\""),
            ("", "\"\""),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            push_string(&mut out, value.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
