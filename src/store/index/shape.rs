//! Checks that the entries of an Index form a tree and its texts are valid: a checksum detects damage, not tampering.
//!
//! Entries are in breadth-first order: the children of the directories follow each other in the order of the directories, so that each
//! entry but the root is the child of exactly one directory before it. So walking down always terminates.

use std::path::{Component, Path};

use super::format::{KIND_DIR, Record};
use super::{Index, Ino};
use crate::sys::fs::name::Name;

/// What is wrong with an Index whose checksum is right.
pub(super) fn fault(index: &Index) -> Option<&'static str> {
    if !is_clean(index.base()) {
        return Some("the directory of its spaces is not a clean absolute path");
    }
    // The number of entries that have a parent so far.
    let mut placed = 1;
    for ino in 1..=index.len() {
        let position = u32::try_from(ino - 1).ok();
        let Some(record) = position.and_then(|position| index.record(position)) else {
            return Some("an entry is missing");
        };
        if ino > Ino::ROOT.0 && !has_name(index, record) {
            return Some("an entry has a name that no file can have");
        }
        if record.kind() != KIND_DIR {
            continue;
        }
        match children(index, ino, record, placed) {
            Some(end) => placed = end,
            None => return Some("its entries are not a tree"),
        }
    }
    (placed != index.len() || index.is_empty()).then_some("its entries are not a tree")
}

/// Where the children of the directory `ino` end, if they are the next ones, come after it, and name it as their parent.
fn children(index: &Index, ino: u64, record: Record<'_>, placed: u64) -> Option<u64> {
    let (first, count) = (u64::from(record.first_child()), u64::from(record.child_count()));
    if count == 0 {
        return Some(placed);
    }
    let end = first + count;
    if first != placed || first < ino || end > index.len() {
        return None;
    }
    let knows_it = |position| {
        let child = u32::try_from(position).ok().and_then(|position| index.record(position));
        child.is_some_and(|child| u64::from(child.parent()) + 1 == ino)
    };
    (first..end).all(knows_it).then_some(end)
}

fn has_name(index: &Index, record: Record<'_>) -> bool {
    index.bytes.slice(record.name()).is_some_and(|name| Name::new(name).is_ok())
}

/// True for an absolute path without `.` and `..`.
fn is_clean(path: &Path) -> bool {
    let plain = |part: Component<'_>| !matches!(part, Component::ParentDir | Component::CurDir);
    path.is_absolute() && path.components().all(plain)
}
