//! The layer check: which module may import which, where `fuser` and the operating system are allowed, how long files may be, and that
//! no files import each other in a circle.
//! What clippy can check is in `clippy.toml`: printing, the environment, exits, and the length of functions.
//!
//! It reads the sources as text, with comments, strings and test modules blanked out, so it needs no compiler and a
//! `#[cfg]` cannot bypass it. Every rule is a pure function of (path, text), tested below on planted violations.

#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

#[path = "layers/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

use circles::Imports;

/// The layers, lowest first; a module imports only from layers before its own, or from its own.
const LAYERS: [&str; 12] =
    ["error", "sys", "rcc", "store", "space", "remote", "fs", "session", "build", "inspect", "cli", "main"];

/// Operating system interfaces that only `sys` may use.
const SYSTEM: [&str; 4] = ["unsafe ", "libc::", "rustix::", "target_os"];
const FILE_LINES: usize = 500;

#[test]
fn imports_go_down_only() {
    refuse(check_all(imports));
}

#[test]
fn only_the_fuse_layer_names_fuser() {
    refuse(check_all(fuser));
}

#[test]
fn only_the_command_line_uses_anyhow() {
    refuse(check_all(anyhow));
}

#[test]
fn only_sys_touches_the_operating_system() {
    refuse(check_all(system));
}

#[test]
fn every_file_describes_itself_and_stays_short() {
    let roots = ["src", "tests", "fuzz/src", "mount-helper/src"];
    refuse(roots.iter().flat_map(|root| check(root, shape)).collect());
}

#[test]
fn no_file_is_named_mod() {
    refuse(check_all(naming));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for crate_root in ["src", "fuzz/src", "mount-helper/src"] {
        let sources = sources(crate_root);
        refuse(Imports::on_unix(&sources).circles());
        refuse(Imports::on_windows(&sources).circles());
    }
}

// ---- the rules -------------------------------------------------------------------------------------------------

type Rule = fn(&str, &Source) -> Vec<String>;

/// A source file, as it is and with everything blanked that is not code.
struct Source {
    text: String,
    code: String,
}

impl Source {
    fn new(text: &str) -> Source {
        Source { text: text.to_owned(), code: without_tests(&blanked(text)) }
    }
}

/// `path` is relative to `src/`, as `store/codec.rs`.
fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

fn imports(path: &str, source: &Source) -> Vec<String> {
    let module = module_of(path);
    if module == "lib" {
        return Vec::new();
    }
    let Some(layer) = layer_of(module) else {
        return vec![format!("'{module}' is not a layer: add it to the table")];
    };
    let used = crate_paths(&source.code);
    let bad = used.iter().filter(|(_, target)| layer_of(target).is_none_or(|other| other > layer));
    bad.map(|(line, target)| format!("line {line}: '{module}' may not import '{target}'")).collect()
}

/// The top modules named after `crate::` or `holofs::`, also in braces: `use crate::{digest, sys::fs::at}`.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for prefix in ["crate::", "holofs::"] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            found.extend(heads(&code[at + prefix.len()..]).into_iter().map(|head| (line, head)));
        }
    }
    found
}

/// The first components of what follows `crate::`: one identifier, or each at the top level of a brace group.
fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![identifier(rest)];
    };
    let (mut depth, mut fresh, mut heads) = (1, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if fresh && depth == 1 && !c.is_whitespace() => {
                heads.push(identifier(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn fuser(path: &str, source: &Source) -> Vec<String> {
    if path.starts_with("fs/fuse") { Vec::new() } else { words(&source.code, &["fuser"]) }
}

/// Below the command line every layer has its own type of errors.
fn anyhow(path: &str, source: &Source) -> Vec<String> {
    if ["cli", "main"].contains(&module_of(path)) { Vec::new() } else { words(&source.code, &["anyhow"]) }
}

fn system(path: &str, source: &Source) -> Vec<String> {
    if module_of(path) == "sys" {
        return Vec::new();
    }
    // The parts of the FUSE layer depend on the system, like its crate.
    let patterns = SYSTEM.iter().copied().filter(|&pattern| path != "fs/fuse.rs" || pattern != "target_os");
    let mut found = words(&source.code, &patterns.collect::<Vec<&str>>());
    found.extend(words(&source.code, &["use libc", "use rustix"]));
    found
}

/// Every occurrence that is not the tail of a longer word.
fn words(code: &str, patterns: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for pattern in patterns {
            let in_word = |c: char| c.is_alphanumeric() || c == '_';
            let whole = |(at, _): (usize, &str)| {
                let (before, after) = (&line[..at], &line[at + pattern.len()..]);
                let goes_on = pattern.ends_with(in_word) && after.starts_with(in_word);
                !before.ends_with(in_word) && !goes_on
            };
            if line.match_indices(pattern).any(whole) {
                found.push(format!("line {}: '{}' has no place here", number + 1, pattern.trim_end()));
            }
        }
    }
    found
}

fn shape(_: &str, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !source.text.starts_with("//!") {
        found.push("does not begin with '//!': say what it is and what always holds".to_owned());
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        found.push(format!("{lines} lines: at most {FILE_LINES}"));
    }
    found
}

fn naming(path: &str, _: &Source) -> Vec<String> {
    if path.ends_with("mod.rs") {
        vec!["is named mod.rs: use foo.rs next to foo/".to_owned()]
    } else {
        Vec::new()
    }
}

/// Where the brace opened at `open` is closed; the end of the text if it never is.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len()
}

// ---- reading sources -------------------------------------------------------------------------------------------

/// The text with comments, strings and character literals replaced by spaces; line numbers do not change.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = out.ends_with(|p: char| p.is_alphanumeric() || p == '_');
        let length = match not_code(rest, word) {
            0 => {
                out.push(c);
                c.len_utf8()
            }
            length => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                length
            }
        };
        rest = &rest[length..];
    }
    out
}

/// How many bytes at the start of `rest` are a comment or a literal: 0 for code. `word`: just after a word.
fn not_code(rest: &str, word: bool) -> usize {
    let until =
        |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    let raw = rest.trim_start_matches('b');
    if !word && raw.starts_with('r') && raw[1..].trim_start_matches('#').starts_with('"') {
        let hashes = raw[1..].bytes().take_while(|b| *b == b'#').count();
        return until(rest.len() - raw.len() + hashes + 2, &format!("\"{}", "#".repeat(hashes)));
    }
    match rest.as_bytes()[0] {
        b'"' => quoted(rest, '"'),
        b'\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
        _ => 0,
    }
}

/// The length of a literal that ends at the first `quote` without a backslash before it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The code without items below `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(at) = code.find("#[cfg(test)]") {
        let end = match code[at..].find(['{', ';']) {
            Some(open) if code[at + open..].starts_with('{') => closing_brace(&code, at + open) + 1,
            Some(semicolon) => at + semicolon + 1,
            None => code.len(),
        };
        let end = end.min(code.len());
        let lines = "\n".repeat(code[at..end].matches('\n').count());
        code.replace_range(at..end, &lines);
    }
    code
}

fn check_all(rule: Rule) -> Vec<String> {
    check("src", rule)
}

fn check(root: &str, rule: Rule) -> Vec<String> {
    let found = |(path, source): &(String, Source)| {
        rule(path, source).into_iter().map(|what| format!("{root}/{path}: {what}")).collect::<Vec<String>>()
    };
    sources(root).iter().flat_map(found).collect()
}

/// The files of a crate by their paths below `root`; without modules that only contain tests, to which no rule for code applies.
fn sources(root: &str) -> Vec<(String, Source)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let files = rust_files(&root);
    assert!(files.len() > 5, "the referee sees no sources in {}", root.display());
    let read = |file: PathBuf| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        (path, Source::new(&fs::read_to_string(&file).unwrap()))
    };
    files.into_iter().map(read).filter(|(path, _)| !path.ends_with("tests.rs")).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn refuse(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

// ---- the check finds violations --------------------------------------------------------------------------------

mod planted {
    use super::*;

    fn says(rule: Rule, path: &str, text: &str) -> Vec<String> {
        rule(path, &Source::new(text))
    }

    #[test]
    fn imports_refuse_one_that_climbs() {
        let climbs = ["line 1: 'rcc' may not import 'store'"];
        assert_eq!(says(imports, "rcc/catalog.rs", "use crate::store::Store;"), climbs);
        assert_eq!(says(imports, "rcc/catalog/write.rs", "fn f() { crate::store::open() }"), climbs);
        assert_eq!(says(imports, "rcc/catalog.rs", "use crate::{sys::{fs::at, errno}, store};"), climbs);
        assert_eq!(
            says(imports, "store.rs", "\nuse crate::rcc::catalog;\nuse crate::fs::vfs;"),
            ["line 3: 'store' may not import 'fs'"]
        );
        assert_eq!(
            says(imports, "store/index.rs", "use crate::rcc::catalog;\nuse crate::store::Ino;"),
            [""; 0]
        );
    }

    #[test]
    fn imports_refuse_a_module_outside_the_layers() {
        assert_eq!(says(imports, "util.rs", ""), ["'util' is not a layer: add it to the table"]);
        assert_eq!(says(imports, "cli.rs", "use crate::util;"), ["line 1: 'cli' may not import 'util'"]);
    }

    #[test]
    fn fuser_refuses_it_outside_its_layer() {
        assert_eq!(says(fuser, "fs/vfs.rs", "use fuser::FileAttr;"), ["line 1: 'fuser' has no place here"]);
        assert_eq!(says(fuser, "fs/fuse/session.rs", "use fuser::FileAttr;"), [""; 0]);
        assert_eq!(says(fuser, "fs/vfs.rs", "let fusermount = 1; // fuser"), [""; 0]);
    }

    #[test]
    fn anyhow_refuses_it_below_the_command_line() {
        let found = ["line 1: 'anyhow' has no place here"];
        assert_eq!(says(anyhow, "session/run.rs", "fn f() -> anyhow::Result<()> { g() }"), found);
        assert_eq!(says(anyhow, "cli/run.rs", "fn f() -> anyhow::Result<()> { g() }"), [""; 0]);
    }

    #[test]
    fn system_refuses_it_outside_sys() {
        assert_eq!(says(system, "store.rs", "use rustix::fs;").len(), 2);
        assert_eq!(
            says(system, "store.rs", "fn f() { unsafe { g() } }"),
            ["line 1: 'unsafe' has no place here"]
        );
        assert_eq!(says(system, "vfs.rs", "const E: i32 = libc::EIO;").len(), 1);
        assert_eq!(says(system, "cli/run.rs", "#[cfg(target_os = \"linux\")]").len(), 1);
        assert_eq!(says(system, "sys/at.rs", "use rustix::fs; unsafe { libc::f() }"), [""; 0]);
    }

    #[test]
    fn system_ignores_tests_inside_a_file_but_not_what_follows() {
        let text = "#[cfg(test)]\nmod tests {\n    fn f() { libc::f(\"}\"); }\n}\nfn g() { libc::g() }";
        assert_eq!(says(system, "store.rs", text), ["line 5: 'libc::' has no place here"]);
    }

    #[test]
    fn shape_refuses_a_file_without_a_head_or_too_long() {
        assert_eq!(says(shape, "a.rs", "use x;").len(), 1);
        assert_eq!(
            says(shape, "a.rs", &format!("//! a\n{}", "\n".repeat(FILE_LINES))),
            ["501 lines: at most 500"]
        );
        assert_eq!(says(shape, "a.rs", &format!("//! a\n{}", "\n".repeat(FILE_LINES - 1))), [""; 0]);
    }

    #[test]
    fn blanked_hides_braces_in_strings_and_characters() {
        let text = "fn f<'a>() { let a = '{'; let b = \"{\\\"{\"; let c = r#\"{\"#; let d = b'\\''; } // {\nfn g() {}";
        let code = blanked(text);
        let open = code.find('{').unwrap();
        assert_eq!(code[..=closing_brace(&code, open)].matches('\n').count(), 0);
        assert!(code.ends_with("\nfn g() {}"), "{code}");
    }

    #[test]
    fn naming_refuses_a_file_named_mod() {
        assert_eq!(says(naming, "store/mod.rs", "").len(), 1);
    }
}
