//! Every promise in `SECURITY.md` has the test that it names.

#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names of all functions in the tests.
fn functions() -> BTreeSet<String> {
    let dirs = ["tests", "src", "mount-helper"].map(|dir| project().join(dir));
    let texts = dirs.iter().flat_map(|dir| rust_files(dir)).map(|path| fs::read_to_string(path).unwrap());
    let names = texts.flat_map(|text| {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
        lines.map(str::to_owned).collect::<Vec<String>>()
    });
    names.collect()
}

/// Text in backticks that looks like a test's name: several words in lower case.
fn named_tests(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let is_name = |text: &&str| {
        text.matches('_').count() >= 2
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    quoted.filter(is_name).collect()
}

#[test]
fn security_md_names_only_tests_that_exist() {
    let (text, functions) = (fs::read_to_string(project().join("SECURITY.md")).unwrap(), functions());
    let named: Vec<&str> = text.lines().flat_map(named_tests).collect();
    assert!(named.len() > 80, "only {} names", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn security_md_has_a_test_for_every_promise_and_threat() {
    let text = fs::read_to_string(project().join("SECURITY.md")).unwrap();
    let mut section = "";
    let mut rows = 0;
    for line in text.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let is_row = line.starts_with("| ") && !line.starts_with("| promise") && !line.starts_with("| #");
        if is_row && ["Promises", "Attacks and faults, and their tests"].contains(&section) {
            rows += 1;
            assert!(!named_tests(line).is_empty(), "without a test: {line}");
        }
    }
    assert!(rows > 45, "only {rows} rows");
}
