//! The rules for every catalog, whether parsed or created by the recorder.
//!
//! Names and digests are checked by their types; the rest needs the whole tree. Each directory and file is checked once, in arena
//! order, and the first violation is reported with the path of its entry.

use std::collections::HashSet;

use super::error::{Flaw, Rule, shown};
use super::filemode::EntryKind;
use super::{Dir, DirId, File, Header, IDENTITY_LENGTH, MAX_DEPTH, MAX_ENTRIES, MAX_RELOCATIONS};

/// The maximum length of a link text, in bytes: Linux's PATH_MAX without the NUL.
const LINK_MAX: usize = 4095;

/// Checks everything.
pub(super) fn check(header: &Header, dirs: &[Dir]) -> Result<(), Flaw> {
    check_header(header)?;
    check_counts(dirs)?;
    check_order(dirs)?;
    let mut places: Vec<Position> = Vec::with_capacity(dirs.len());
    for (index, dir) in dirs.iter().enumerate() {
        let id = DirId(index as u32);
        let place = Position::of(dir, &places, dirs);
        let at = |rule| Flaw::Entry { entry: entry_path(dirs, id, None), rule };
        check_dir(dir, place).map_err(at)?;
        check_names(dirs, id)?;
        for file in &dir.files {
            let at = |rule| Flaw::Entry { entry: entry_path(dirs, id, Some(file)), rule };
            check_file(file).map_err(at)?;
        }
        places.push(place);
    }
    Ok(())
}

/// The path of a directory, or of a file in it, for messages.
pub(super) fn entry_path(dirs: &[Dir], id: DirId, file: Option<&File>) -> String {
    let mut names: Vec<String> = file.map(|file| file.name.to_string()).into_iter().collect();
    let mut at = dirs.get(id.index());
    // Parents precede their children, or check_order rejects the catalog; the bound keeps even that message finite.
    for dir in std::iter::from_fn(|| at.inspect(|dir| at = dir.parent.and_then(|id| dirs.get(id.index())))) {
        names.extend(dir.name.as_ref().map(|name| name.to_string()));
        if names.len() > MAX_DEPTH + 1 {
            break;
        }
    }
    names.reverse();
    if names.is_empty() { ".".to_owned() } else { shown_path(&names.join("/")) }
}

/// The names are escaped already, so the path is only shortened.
fn shown_path(path: &str) -> String {
    if path.len() <= 300 { path.to_owned() } else { shown(path) }
}

/// The position of a directory, as inherited from its ancestors.
#[derive(Clone, Copy)]
struct Position {
    depth: usize,
    /// Below a link to a directory.
    below_link: bool,
}

impl Position {
    fn of(dir: &Dir, earlier: &[Position], dirs: &[Dir]) -> Position {
        let Some(parent) = dir.parent else { return Position { depth: 0, below_link: false } };
        let above = earlier[parent.index()];
        let below_link = above.below_link || dirs[parent.index()].symlink.is_some();
        Position { depth: above.depth + 1, below_link }
    }
}

pub(super) fn check_header(header: &Header) -> Result<(), Flaw> {
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (identity, path) = (header.identity.as_str(), header.path.as_str());
    let rules = [
        (
            identity.len() == IDENTITY_LENGTH && word(identity),
            "identity",
            identity,
            "is not 24 letters, digits and _",
        ),
        (is_clean(path, header.separator()), "path", path, "is not absolute and clean on its platform"),
        (header.split_path().1 == identity, "path", path, "does not end in the identity"),
        (
            header.blueprint.len() == 16 && hex(&header.blueprint),
            "blueprint",
            &header.blueprint,
            "is not 16 hex digits",
        ),
        (
            header.platform.len() <= 64 && word(&header.platform),
            "platform",
            &header.platform,
            "is not letters, digits and _",
        ),
    ];
    match rules.into_iter().find(|&(good, ..)| !good) {
        None => Ok(()),
        Some((_, field, value, rule)) => Err(Flaw::Header { field, value: shown(value), rule }),
    }
}

/// True for an absolute path without `.`, `..`, doubled or trailing separators and NUL, by the rules of the platform with this
/// separator: catalogs of other platforms are valid too.
fn is_clean(text: &str, separator: char) -> bool {
    let below = match separator {
        '\\' => windows_root(text),
        _ => text.strip_prefix('/'),
    };
    let odd = |part: &str| matches!(part, "" | "." | "..") || (separator == '\\' && part.contains('/'));
    below.is_some_and(|below| !below.split(separator).any(odd))
        && !text.contains('\0')
        && text.len() <= LINK_MAX
}

/// The rest after `C:\` or `\\server\`.
fn windows_root(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix(r"\\") {
        return rest.split_once('\\').filter(|(server, _)| !server.is_empty()).map(|(_, below)| below);
    }
    let (drive, below) = text.split_once(r":\")?;
    (drive.len() == 1 && drive.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(below)
}

fn check_counts(dirs: &[Dir]) -> Result<(), Flaw> {
    let files = || dirs.iter().flat_map(|dir| &dir.files);
    if dirs.len() as u64 + files().count() as u64 > MAX_ENTRIES {
        return Err(Flaw::TooLarge { what: "entries", limit: MAX_ENTRIES });
    }
    if files().map(|file| file.rewrite.len() as u64).sum::<u64>() > MAX_RELOCATIONS {
        return Err(Flaw::TooLarge { what: "relocations", limit: MAX_RELOCATIONS });
    }
    Ok(())
}

/// One root, at the start; every other directory occurs once in its parent, which precedes it.
fn check_order(dirs: &[Dir]) -> Result<(), Flaw> {
    let broken = |index: usize| {
        let entry = dirs.get(index).and_then(|dir| dir.name.as_ref()).map(|name| name.to_string());
        Flaw::Entry { entry: entry.unwrap_or_else(|| ".".into()), rule: Rule::Order }
    };
    let mut seen = 1;
    for (index, dir) in dirs.iter().enumerate() {
        let is_root = index == 0;
        if is_root != dir.parent.is_none() || dir.parent.is_some_and(|parent| parent.index() >= index) {
            return Err(broken(index));
        }
        for child in &dir.subdirs {
            let parent = dirs.get(child.index()).and_then(|child| child.parent);
            if parent != Some(DirId(index as u32)) {
                return Err(broken(child.index()));
            }
            seen += 1;
        }
    }
    // Twice in one parent means two equal names, which check_names rejects.
    if dirs.is_empty() || seen != dirs.len() { Err(broken(0)) } else { Ok(()) }
}

fn check_dir(dir: &Dir, place: Position) -> Result<(), Rule> {
    if place.depth > MAX_DEPTH {
        return Err(Rule::TooDeep);
    }
    if (place.depth == 0) != dir.name.is_none() || (place.depth == 0 && (dir.symlink.is_some() || dir.shadow))
    {
        return Err(Rule::Root);
    }
    // Accepting an unmarked one would create entries through the link; a mark elsewhere would hide entries.
    if dir.shadow != place.below_link {
        return Err(Rule::Shadow);
    }
    check_utf8(dir.name.as_ref().map(|name| name.as_bytes()).unwrap_or_default())?;
    check_link(dir.symlink.as_deref())?;
    match dir.mode.kind() {
        Some(EntryKind::Directory) => Ok(()),
        _ => Err(Rule::Mode { mode: dir.mode.0, expected: "a directory" }),
    }
}

/// Sorted, without duplicates, and no name both in `subdirs` and in `files`.
fn check_names(dirs: &[Dir], id: DirId) -> Result<(), Flaw> {
    let dir = &dirs[id.index()];
    let subdirs = || dir.subdirs.iter().filter_map(|child| dirs[child.index()].name.as_ref());
    let files = || dir.files.iter().map(|file| &file.name);
    for (left, right) in subdirs().zip(subdirs().skip(1)).chain(files().zip(files().skip(1))) {
        if left >= right {
            let rule = if left == right { Rule::DuplicateName } else { Rule::Order };
            let entry = format!("{}/{right}", entry_path(dirs, id, None));
            return Err(Flaw::Entry { entry: entry.trim_start_matches("./").to_owned(), rule });
        }
    }
    check_case(dirs, id)?;
    let mut names = subdirs().peekable();
    for file in &dir.files {
        while names.next_if(|&name| *name < file.name).is_some() {}
        if names.peek() == Some(&&file.name) {
            return Err(Flaw::Entry { entry: entry_path(dirs, id, Some(file)), rule: Rule::DuplicateName });
        }
    }
    Ok(())
}

/// On a case-insensitive file system, names that differ only in case are the same.
fn check_case(dirs: &[Dir], id: DirId) -> Result<(), Flaw> {
    if !crate::sys::host::IGNORES_CASE {
        return Ok(());
    }
    let dir = &dirs[id.index()];
    let subdirs = dir.subdirs.iter().filter_map(|child| dirs[child.index()].name.as_ref());
    let names = subdirs.chain(dir.files.iter().map(|file| &file.name));
    match first_clash(names.map(|name| name.to_string())) {
        None => Ok(()),
        Some(name) => {
            let entry = format!("{}/{name}", entry_path(dirs, id, None));
            Err(Flaw::Entry { entry: entry.trim_start_matches("./").to_owned(), rule: Rule::DuplicateName })
        }
    }
}

/// The first of the names that equals an earlier one, ignoring case.
fn first_clash(mut names: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(name.to_uppercase().to_lowercase()))
}

fn check_file(file: &File) -> Result<(), Rule> {
    check_utf8(file.name.as_bytes())?;
    check_link(file.symlink.as_deref())?;
    match (file.mode.kind(), file.symlink.is_some()) {
        (Some(EntryKind::File), _) | (Some(EntryKind::Symlink), true) => {}
        _ => return Err(Rule::Mode { mode: file.mode.0, expected: "a file" }),
    }
    if i64::try_from(file.size).is_err() {
        return Err(Rule::Size { size: file.size.into() });
    }
    if file.digest.is_none() && file.symlink.is_none() {
        return Err(Rule::NoDigest);
    }
    let fits = |offset: u64| offset.checked_add(IDENTITY_LENGTH as u64).is_some_and(|end| end <= file.size);
    match file.rewrite.iter().find(|&&offset| !fits(offset)) {
        None => Ok(()),
        Some(&offset) => Err(Rule::Relocation { offset: offset.into(), size: file.size }),
    }
}

fn check_utf8(name: &[u8]) -> Result<(), Rule> {
    if str::from_utf8(name).is_ok() { Ok(()) } else { Err(Rule::NotUtf8) }
}

fn check_link(text: Option<&str>) -> Result<(), Rule> {
    match text {
        Some(text) if text.is_empty() || text.len() > LINK_MAX || text.contains('\0') => {
            Err(Rule::LinkText { length: text.len() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::first_clash;

    #[test]
    fn names_that_differ_in_case_only_clash() {
        let clash = |names: &[&str]| first_clash(names.iter().map(|&name| name.to_owned()));
        assert_eq!(clash(&["a", "b", "A"]), Some("A".to_owned()));
        assert_eq!(clash(&["\u{e4}", "\u{c4}"]), Some("\u{c4}".to_owned()));
        assert_eq!(clash(&["a", "b", "aa"]), None);
    }
}

#[cfg(test)]
mod path_tests {
    use super::*;

    #[test]
    fn paths_are_judged_by_the_rules_of_their_platform() {
        for path in ["/h", "/home/a/.robocorp/holotree/h", "/a b/c"] {
            assert!(is_clean(path, '/'), "{path}");
            assert!(!is_clean(path, '\\'), "{path}");
        }
        for path in [r"C:\h", r"c:\ProgramData\robocorp\ht\h", r"\\server\share\h"] {
            assert!(is_clean(path, '\\'), "{path}");
            assert!(!is_clean(path, '/'), "{path}");
        }
        for path in ["", "/", "a", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/a\0"] {
            assert!(!is_clean(path, '/'), "{path:?}");
        }
        for path in [r"C:", r"C:\", r"C:a", r"CC:\a", r"C:\a\", r"C:\a\..\b", r"C:\a/b", r"\a", r"\\\a\b"] {
            assert!(!is_clean(path, '\\'), "{path:?}");
        }
    }
}
