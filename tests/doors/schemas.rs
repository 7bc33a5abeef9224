//! The tables of docs/json.md, checked against what the commands print.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::golden::{self, CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, json, project, space_path, stdout, text_field};

/// A row of a table: the allowed types, and whether the field may be absent.
struct Field {
    types: Vec<String>,
    is_optional: bool,
}

type Schema = BTreeMap<String, Field>;

/// The fields below each heading; those of a row that refers to another table are that table's.
fn schemas() -> BTreeMap<String, Schema> {
    let page = page();
    let (mut all, mut heading) = (BTreeMap::<String, Schema>::new(), String::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.trim_matches('`').clone_into(&mut heading);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let (path, rest) = row.split_once("` | ").unwrap();
        let (types, _) = rest.split_once(" |").unwrap();
        let is_optional = types.ends_with(" ?");
        let types = types.trim_end_matches(" ?").split(" or ").map(str::to_owned).collect();
        let path = path.trim_start_matches('.').to_owned();
        all.entry(heading.clone()).or_default().insert(path, Field { types, is_optional });
    }
    let schemas = all.keys().map(|heading| (heading.clone(), expanded(&all, &all[heading])));
    schemas.collect()
}

fn page() -> String {
    std::fs::read_to_string(project().join("docs/json.md")).unwrap()
}

/// The schema with the fields of the tables that it refers to.
fn expanded(all: &BTreeMap<String, Schema>, schema: &Schema) -> Schema {
    let mut fields = Schema::new();
    for (path, Field { types, is_optional }) in schema {
        let Some(table) = types[0].strip_prefix("as `").map(|rest| rest.trim_end_matches('`')) else {
            fields.insert(path.clone(), Field { types: types.clone(), is_optional: *is_optional });
            continue;
        };
        let is_optional = *is_optional || types.len() > 1;
        let (heading, part) = table.split_once('.').unwrap_or((table, ""));
        for (below, field) in &expanded(all, &all[heading]) {
            let Some(below) = below.strip_prefix(part) else { continue };
            let below = below.trim_start_matches("[]").trim_start_matches('.');
            let path = format!("{path}.{below}").trim_start_matches('.').to_owned();
            let is_optional = is_optional || field.is_optional;
            fields.insert(path, Field { types: field.types.clone(), is_optional });
        }
    }
    fields
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

/// Checks the values that `path` selects below `value`, and records each of them in `seen`.
fn walk(path: &str, value: &Value, at: &str, field: &Field, seen: &mut Vec<String>) {
    if path.is_empty() {
        assert!(fits(field, value), "{at} is {value}, not {}", field.types.join(" or "));
        return seen.push(at.to_owned());
    }
    if value.is_null() && field.is_optional {
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

/// The names of all values that a table must describe; an array of plain values counts as one value.
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

/// Inserts `--json`, an option of HoloFS, before the command that is run.
fn with_json<'a>(command: &[&'a str]) -> Vec<&'a str> {
    let end = command.iter().position(|word| *word == "--").unwrap_or(command.len());
    [&command[..end], &["--json"], &command[end..]].concat()
}

/// The heading for a command line: the longest one with whose words it begins; for one that fails, "Errors".
fn heading<'s>(schemas: &'s BTreeMap<String, Schema>, command: &[&str]) -> &'s str {
    if command.contains(&"ffffffff") {
        return "Errors";
    }
    let begins = |heading: &&String| command.starts_with(&heading.split(' ').collect::<Vec<_>>());
    schemas.keys().filter(begins).max_by_key(|heading| heading.len()).unwrap()
}

/// Checks the JSON of a command line.
fn check(test_home: &TestHome, command: &[&str], heading: &str, schema: &Schema) {
    let args = with_json(command);
    let output = match heading {
        "Errors" => test_home.holofs_fails(&args, exit::NOT_FOUND),
        _ => test_home.holofs_ok(&args),
    };
    let (value, mut seen, mut there) = (json(&output), Vec::new(), Vec::new());
    for (path, field) in schema {
        walk(path, &value, heading, field, &mut seen);
    }
    leaves(&value, heading, &mut there);
    let described =
        |it: &String| seen.iter().any(|known| it == known || it.starts_with(&format!("{known}[]")));
    there.retain(|it| !described(it));
    assert_eq!(there, [""; 0], "{command:?}: fields that docs/json.md does not have");
}

/// The command lines; words in capitals are replaced, see [`words`].
const COMMANDS: &[&str] = &[
    "catalogs",
    "catalogs --identity",
    "catalogs --top 2",
    "catalogs --long",
    "catalogs diff CATALOG CATALOG --files",
    "catalogs diff CATALOG OTHER --files",
    "hash SPECIFICATION",
    "hash SPECIFICATION --show-blueprint",
    "build SPECIFICATION",
    "variables CATALOG",
    "config",
    "config path",
    "info",
    "mount CATALOG s",
    "list",
    "list --long",
    "stats s",
    "top",
    "trace CATALOG -- sh READER",
    "explain WRITTEN",
    "du s",
    "df",
    "diff s",
    "restart s",
    "logs s",
    "unmount s",
    "commit s --name more",
    "warm CATALOG",
    "materialize CATALOG m",
    "report CATALOG --output PAGE",
    "verify CATALOG",
    "verify CATALOG --parity",
    "check",
    "doctor",
    "gc --dry-run",
    "export CATALOG --zipfile ZIP",
    "import ZIP",
    "push CATALOG NAMED",
    "pull NAMED",
    "remote ls REMOTE",
    "remote show NAMED",
    "remote verify NAMED",
    "remote gc REMOTE",
    "allow SPECIFICATION",
    "deny SPECIFICATION",
    "kernel install CATALOG --name k",
    "record STAGE --blueprint SPECIFICATION",
    "reset s",
    "delete m",
    "remove CATALOG --dry-run",
    "mount ffffffff s",
];

/// The values of the words in capitals. The space `s` is mounted and has a new file; the catalog OTHER has one file more than the golden one.
fn words(test_home: &TestHome) -> BTreeMap<&'static str, String> {
    let scratch = test_home.scratch();
    let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    std::fs::copy(golden::file("golden.yaml"), path("conda.yaml")).unwrap();
    std::fs::create_dir(path(golden::IDENTITY)).unwrap();
    std::fs::write(scratch.join(golden::IDENTITY).join("file"), path(golden::IDENTITY)).unwrap();
    std::fs::create_dir(path("remote")).unwrap();
    std::fs::write(path("reader"), "cat \"$RCC_HOLOTREE_SPACE_ROOT/plain/no-needle.txt\" >&2").unwrap();
    let writes = |name: &str| {
        let space = space_path(&json(&test_home.holofs_ok(&["mount", CATALOG, "s", "--json"])));
        std::fs::write(space.join(name), name).unwrap();
        space.join(name).to_str().unwrap().to_owned()
    };
    writes("one");
    test_home.holofs_ok(&["unmount", "s"]);
    let other = json(&test_home.holofs_ok(&["commit", "s", "--name", "other", "--json"]));
    BTreeMap::from([
        ("CATALOG", CATALOG.to_owned()),
        ("OTHER", text_field(&other, "blueprint")),
        ("WRITTEN", writes("two")),
        ("SPECIFICATION", path("conda.yaml")),
        ("STAGE", path(golden::IDENTITY)),
        ("READER", path("reader")),
        ("PAGE", path("page.html")),
        ("ZIP", path("hololib.zip")),
        ("REMOTE", format!("file://{}", path("remote"))),
        ("NAMED", format!("file://{}#e", path("remote"))),
    ])
}

#[test]
fn json_outputs_are_as_documented() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (schemas, words) = (schemas(), words(&test_home));
    let mut untested: Vec<&str> = schemas.keys().map(String::as_str).collect();
    for line in COMMANDS {
        let command: Vec<&str> =
            line.split(' ').map(|word| words.get(word).map_or(word, String::as_str)).collect();
        let heading = heading(&schemas, &command);
        check(&test_home, &command, heading, &schemas[heading]);
        untested.retain(|it| *it != heading);
    }
    assert_eq!(untested, [""; 0], "headings without a command");
}

/// The names in the list of commands of a help text.
fn listed(help: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_is_in_the_page_of_json_outputs() {
    let (test_home, schemas, page) = (TestHome::new(), schemas(), page());
    let without = page.split("\n\n").find(|part| part.starts_with("These commands print no JSON")).unwrap();
    let is_known = |name: &str| schemas.contains_key(name) || without.contains(&format!("`{name}`"));
    let help = |words: &[&str]| stdout(&test_home.holofs_ok(&[words, &["--help"]].concat()));
    let mut missing = Vec::new();
    for name in listed(&help(&[])).into_iter().filter(|name| name != "holotree") {
        let below = listed(&help(&[&name]));
        let names = below.iter().map(|below| format!("{name} {below}"));
        let all: Vec<String> =
            names.chain((below.is_empty() || is_known(&name)).then(|| name.clone())).collect();
        missing.extend(all.into_iter().filter(|name| !is_known(name)));
    }
    assert_eq!(missing, [""; 0], "commands that docs/json.md does not have");
}
