//! Circles of files: files that need each other, directly or through others, so that none can be understood without the rest.
//!
//! A file needs another if its code, tests aside, names it or something in it: in `use`, also in a group, or in a path such as
//! `super::other::function()`. A name that a module passes on (`pub use child::Name`) counts for this module and for the one that
//! defines it. That a file takes something from a module which contains it does not count: a parent may hold what its children share,
//! and use them. What one file gives another without a path, such as a method, is not seen. Windows has files of its own, so it is
//! looked at separately.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;

/// A module, as the components of its path in its crate; empty for the crate itself.
type Module = Vec<String>;

/// The files of a crate on one platform, and what they name.
#[derive(Default)]
pub struct Imports {
    files: BTreeMap<Module, File>,
    /// The names that `use` brings into a module, and the full path of each.
    brought: BTreeMap<(Module, String), Module>,
}

struct File {
    path: String,
    /// Every path in its code with the line, and each path of a `use`.
    named: Vec<(usize, Module)>,
}

/// For each module, those that it needs, each with a place that says so.
type Needs = BTreeMap<Module, BTreeMap<Module, String>>;

impl Imports {
    /// On Unix: without the files for Windows.
    pub fn on_unix(files: &[(String, Source)]) -> Imports {
        Imports::of(files.iter().filter(|(path, _)| !is_for_windows(path)))
    }

    /// On Windows: its own files replace those of the same module.
    pub fn on_windows(files: &[(String, Source)]) -> Imports {
        let (own, others) = files.iter().partition::<Vec<_>, _>(|(path, _)| is_for_windows(path));
        Imports::of(others.into_iter().chain(own))
    }

    /// Paths below the root of the crate, and their sources; the last file of a module counts.
    fn of<'s>(files: impl Iterator<Item = &'s (String, Source)>) -> Imports {
        let files: BTreeMap<Module, &(String, Source)> =
            files.map(|file| (module_of(&file.0), file)).collect();
        let mut imports = Imports::default();
        let mut uses = Vec::new();
        for (module, (path, source)) in files {
            let (trees, rest) = use_trees(&source.code);
            let mut named = paths_in(&rest);
            for (line, tree) in trees {
                for (path, name) in expanded(&tree) {
                    uses.push((module.clone(), name, path.clone()));
                    named.push((line, path));
                }
            }
            imports.files.insert(module, File { path: path.clone(), named });
        }
        for (module, name, path) in uses {
            if let Some(full) = imports.full(&module, &path) {
                imports.brought.entry((module, name)).or_insert(full);
            }
        }
        imports
    }

    /// Each circle as one line: the shortest way around, from its first file.
    pub fn circles(&self) -> Vec<String> {
        let needs = self.needs();
        let mut shown = BTreeSet::new();
        let mut found = Vec::new();
        for start in needs.keys() {
            if shown.contains(start) {
                continue;
            }
            if let Some(way) = around(&needs, start) {
                let steps = way.windows(2).map(|step| needs[&step[0]][&step[1]].as_str());
                found.push(format!(
                    "{} needs itself: {}",
                    start.join("::"),
                    steps.collect::<Vec<_>>().join(", ")
                ));
                shown.extend(way);
            }
        }
        found
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs::new();
        for (module, file) in &self.files {
            for (line, path) in &file.named {
                let full = self.full(module, path).unwrap_or_default();
                for other in self.givers_of(full).into_iter().filter(|other| !module.starts_with(other)) {
                    let place = || format!("{}:{line} names {}", file.path, other.join("::"));
                    needs.entry(module.clone()).or_default().entry(other.clone()).or_insert_with(place);
                }
            }
        }
        needs
    }

    /// The path from the root of the crate; `None` if it starts in another crate, or with a local name.
    fn full(&self, module: &Module, path: &Module) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" | "holofs" => Vec::new(),
            "self" => module.clone(),
            "super" => {
                let above = module.split_last()?.1.to_vec();
                let ups = rest.iter().take_while(|part| *part == "super").count();
                let start = above.get(..above.len().checked_sub(ups)?)?.to_vec();
                return Some([start, rest[ups..].to_vec()].concat());
            }
            _ => {
                let child = [module.as_slice(), std::slice::from_ref(first)].concat();
                let brought = self.brought.get(&(module.clone(), first.clone()));
                if self.files.contains_key(&child) { child } else { brought?.clone() }
            }
        };
        Some([start, rest.to_vec()].concat())
    }

    /// The modules that give what `path` names: the one that defines it, and those that pass it on.
    fn givers_of(&self, mut path: Module) -> BTreeSet<Module> {
        let mut givers = BTreeSet::new();
        while let Some(known) =
            (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length]))
        {
            let (module, rest) = path.split_at(known);
            let passed_on = rest.first().and_then(|name| self.brought.get(&(module.to_vec(), name.clone())));
            match passed_on {
                _ if !givers.insert(module.to_vec()) => break,
                Some(full) => path = [full.as_slice(), &rest[1..]].concat(),
                None => break,
            }
        }
        givers
    }
}

/// The shortest way from a module back to itself.
fn around(needs: &Needs, start: &Module) -> Option<Vec<Module>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way.last().and_then(|last| needs.get(last)).into_iter().flat_map(BTreeMap::keys) {
                let way = [way.as_slice(), std::slice::from_ref(next)].concat();
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

fn is_for_windows(path: &str) -> bool {
    path.split('/').any(|part| part == "windows")
}

/// The module of a file; a counterpart for Windows has the module of the file that it replaces.
fn module_of(path: &str) -> Module {
    let parts = path.trim_end_matches(".rs").split('/').filter(|part| *part != "windows");
    if path == "lib.rs" { Module::new() } else { parts.map(str::to_owned).collect() }
}

/// The trees of all `use` with their lines, and the code without them.
fn use_trees(code: &str) -> (Vec<(usize, String)>, String) {
    let (mut trees, mut rest) = (Vec::new(), code.to_owned());
    for (at, _) in code.match_indices("use ") {
        let is_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if let Some(length) = code[at..].find(';').filter(|_| is_word) {
            let statement = &code[at..at + length];
            trees.push((code[..at].matches('\n').count() + 1, statement["use ".len()..].to_owned()));
            let blank: String = statement.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            if blank.len() == statement.len() {
                rest.replace_range(at..at + length, &blank);
            }
        }
    }
    (trees, rest)
}

/// Every path in the tree of a `use`, with the name that it gets.
fn expanded(tree: &str) -> Vec<(Module, String)> {
    let Some((before, group)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
        let mut path: Module = path.split("::").map(|part| part.trim().to_owned()).collect();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name =
            alias.map_or_else(|| path.last().cloned().unwrap_or_default(), |alias| alias.trim().to_owned());
        return vec![(path, name)];
    };
    let group = group.trim_end().trim_end_matches('}');
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[from..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expanded(&format!("{before}{}", part.trim()))).collect()
}

/// The paths of two components or more, with their lines.
fn paths_in(code: &str) -> Vec<(usize, Module)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(at) = rest.find(is_part) {
            let follows = rest[..at].ends_with("::");
            rest = &rest[at..];
            let length = rest.find(|c: char| !is_part(c) && c != ':').unwrap_or(rest.len());
            let path: Module = rest[..length].split("::").map(str::to_owned).collect();
            let path: Module =
                path.into_iter().take_while(|part| !part.is_empty() && part.chars().all(is_part)).collect();
            if path.len() > 1 && !follows {
                found.push((number + 1, path));
            }
            rest = &rest[length..];
        }
    }
    found
}

mod planted {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<(String, Source)> {
        files.iter().map(|(path, text)| (path.to_string(), Source::new(text))).collect()
    }

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        Imports::on_unix(&sources(files)).circles()
    }

    #[test]
    fn circles_of_two_and_of_three_files_are_refused() {
        let two = [("a.rs", ""), ("a/b.rs", "\nuse super::c::C;"), ("a/c.rs", "fn f() { crate::a::b::g() }")];
        assert_eq!(circles(&two), ["a::b needs itself: a/b.rs:2 names a::c, a/c.rs:1 names a::b"]);
        let three = [
            ("a.rs", "use crate::{b::{self, B}, x};"),
            ("b.rs", "use crate::c;"),
            ("c.rs", "fn f() { super::a::g::<u8>() }"),
            ("x.rs", ""),
        ];
        assert_eq!(circles(&three), ["a needs itself: a.rs:1 names b, b.rs:1 names c, c.rs:1 names a"]);
    }

    #[test]
    fn circles_through_a_name_that_the_parent_passes_on_are_refused() {
        let files = [("a.rs", "pub use b::B;"), ("a/b.rs", "use super::c;"), ("a/c.rs", "use super::B;")];
        assert_eq!(circles(&files), ["a::b needs itself: a/b.rs:1 names a::c, a/c.rs:1 names a::b"]);
        let renamed =
            [("a.rs", ""), ("a/b.rs", "use super::c as d;\nfn f() { d::g() }"), ("a/c.rs", "use super::b;")];
        assert_eq!(circles(&renamed).len(), 1);
    }

    #[test]
    fn circles_are_not_what_children_take_from_their_parent_nor_tests() {
        let parent =
            [("a.rs", "mod b;\nuse b::f;\npub struct A;"), ("a/b.rs", "use super::A;\nfn f(a: A) {}")];
        assert_eq!(circles(&parent), [""; 0]);
        let tests = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "#[cfg(test)]\nmod tests { use crate::a; }\n// crate::a::f"),
        ];
        assert_eq!(circles(&tests), [""; 0]);
    }

    #[test]
    fn circles_through_the_parent_are_refused() {
        let files = [("a.rs", "use b::f;"), ("a/b.rs", "use crate::c::g;"), ("c.rs", "use crate::a::A;")];
        assert_eq!(circles(&files), ["a needs itself: a.rs:1 names a::b, a/b.rs:1 names c, c.rs:1 names a"]);
    }

    #[test]
    fn circles_on_windows_are_refused_and_need_not_be_circles_elsewhere() {
        let files = sources(&[
            ("a/b.rs", ""),
            ("a/windows/b.rs", "use super::c;"),
            ("a/c.rs", "use super::b;"),
            ("a/d.rs", "use super::e;"),
            ("a/windows/d.rs", ""),
            ("a/windows/e.rs", "use super::d;"),
            ("a/e.rs", ""),
        ]);
        let found = ["a::b needs itself: a/windows/b.rs:1 names a::c, a/c.rs:1 names a::b"];
        assert_eq!(Imports::on_windows(&files).circles(), found);
        assert_eq!(Imports::on_unix(&files).circles(), [""; 0]);
    }
}
