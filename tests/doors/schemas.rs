//! The tables of docs/json.md, checked against what the commands print.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::golden::{self, CATALOG, Regime};
use crate::common::sandbox::Sandbox;
use crate::common::{exit, json, project};

/// A row of a table: the types it allows, and whether the field may be absent.
struct Field {
    types: Vec<String>,
    is_optional: bool,
}

/// The fields below each heading.
fn schemas() -> BTreeMap<String, BTreeMap<String, Field>> {
    let page = std::fs::read_to_string(project().join("docs/json.md")).unwrap();
    let (mut all, mut heading) = (BTreeMap::<String, BTreeMap<String, Field>>::new(), String::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.trim_matches('`').clone_into(&mut heading);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let (path, rest) = row.split_once("` | ").unwrap();
        let (types, _) = rest.split_once(" |").unwrap();
        let is_optional = types.ends_with(" ?");
        let types = types.trim_end_matches(" ?").split(" or ").map(str::to_owned).collect();
        all.entry(heading.clone()).or_default().insert(path.to_owned(), Field { types, is_optional });
    }
    all
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn fits(field: &Field, value: &Value) -> bool {
    let is = |name: &String| match (name.strip_prefix("array of "), value) {
        (Some(each), Value::Array(all)) => all.iter().all(|item| type_of(item) == each),
        _ => type_of(value) == name,
    };
    field.types.iter().any(is)
}

/// Splits `*.identity.yaml` into the first component and the rest: a key of the object may contain dots.
fn next<'p>(path: &'p str, object: &serde_json::Map<String, Value>) -> (&'p str, &'p str) {
    let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
    let keys: Vec<usize> =
        ends.filter(|&end| path[..end] == *"*" || object.contains_key(&path[..end])).collect();
    let end = keys.last().copied().unwrap_or_else(|| path.find(['.', '[']).unwrap_or(path.len()));
    (&path[..end], path[end..].trim_start_matches('.'))
}

/// Checks the values that `path` names below `value`, and notes each of them in `seen`.
fn walk(path: &str, value: &Value, at: &str, field: &Field, seen: &mut Vec<String>) {
    if path.is_empty() {
        assert!(fits(field, value), "{at} is {value}, not {}", field.types.join(" or "));
        return seen.push(at.to_owned());
    }
    if let Some(rest) = path.strip_prefix("[]") {
        let items = value.as_array().unwrap_or_else(|| panic!("{at} is no array: {value}"));
        return items
            .iter()
            .for_each(|item| walk(rest.trim_start_matches('.'), item, &format!("{at}[]"), field, seen));
    }
    let Value::Object(object) = value else { panic!("{at} is no object: {value}") };
    let (key, rest) = next(path, object);
    if key == "*" {
        return object
            .iter()
            .for_each(|(name, below)| walk(rest, below, &format!("{at}.{name}"), field, seen));
    }
    match object.get(key) {
        Some(below) => walk(rest, below, &format!("{at}.{key}"), field, seen),
        None => assert!(field.is_optional, "{at}.{key} is missing: {value}"),
    }
}

/// The names of all values that a table has to describe: an array of plain values is one of them.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            object.iter().for_each(|(name, below)| leaves(below, &format!("{at}.{name}"), found));
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            items.iter().for_each(|item| leaves(item, &format!("{at}[]"), found));
        }
        Value::Object(_) | Value::Array(_) => {}
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn json_outputs_are_as_documented() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let schemas = schemas();
    let mut untested: Vec<&str> = schemas.keys().map(String::as_str).collect();
    let specification = golden::file("golden.yaml");
    let specification = specification.to_str().unwrap();
    let commands: [&[&str]; 18] = [
        &["catalogs"],
        &["catalogs", "--identity"],
        &["hash", specification],
        &["variables", CATALOG],
        &["config"],
        &["info"],
        &["mount", CATALOG, "s"],
        &["list"],
        &["stats", "s"],
        &["du", "s"],
        &["diff", "s"],
        &["unmount", "s"],
        &["materialize", CATALOG, "m"],
        &["check"],
        &["gc", "--dry-run"],
        &["reset", "s"],
        &["delete", "m"],
        &["mount", "ffffffff", "s"],
    ];
    for command in commands {
        let args = [command, &["--json"]].concat();
        let (name, output) = match command[1..].first() {
            Some(&"ffffffff") => ("Errors", sandbox.holofs_fails(&args, exit::NOT_FOUND)),
            _ => (command[0], sandbox.holofs_ok(&args)),
        };
        let (value, schema) = (json(&output), &schemas[name]);
        let (mut seen, mut there) = (Vec::new(), Vec::new());
        for (path, field) in schema {
            walk(path, &value, name, field, &mut seen);
        }
        leaves(&value, name, &mut there);
        let described =
            |it: &String| seen.iter().any(|known| it == known || it.starts_with(&format!("{known}[]")));
        there.retain(|it| !described(it));
        assert_eq!(there, [""; 0], "{command:?}: fields that docs/json.md does not have");
        untested.retain(|it| *it != name);
    }
    assert_eq!(untested, [""; 0], "headings without a command");
}
