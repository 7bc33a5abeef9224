//! Checks that the entries of an Index form a tree and have valid names: a checksum detects damage, not tampering.
//!
//! Entries are in breadth-first order: the children of the directories follow each other in the order of the directories, so that each
//! entry but the root is the child of exactly one directory before it. So walking down always terminates.
//!
//! Every mount waits for this, so it is one pass over the records.

use super::format::{self, Header, KIND_DIR, RECORD_LEN, Record, Slice};
use crate::sys::fs::name::Name;

const NO_TREE: &str = "its entries are not a tree";

/// What is wrong with the entries of an Index whose checksums are right.
pub(super) fn fault(header: &Header, entries: &[u8]) -> Option<&'static str> {
    let Some(records) = format::records(entries, header.nodes) else {
        return Some("an entry is missing");
    };
    // The number of entries that have a parent so far.
    let mut placed = 1;
    for (position, record) in records.iter().map(Record::of).enumerate() {
        if position > 0 && !has_name(entries, record) {
            return Some("an entry has a name that no file can have");
        }
        if record.kind() != KIND_DIR {
            continue;
        }
        match children(records, position, record, placed) {
            Some(end) => placed = end,
            None => return Some(NO_TREE),
        }
    }
    (placed != records.len()).then_some(NO_TREE)
}

/// Where the children of the directory at `position` end, if they are the next ones, come after it, and name it as their parent.
fn children(
    records: &[[u8; RECORD_LEN]],
    position: usize,
    record: Record<'_>,
    placed: usize,
) -> Option<usize> {
    let (first, count) = (record.first_child() as usize, record.child_count() as usize);
    if count == 0 {
        return Some(placed);
    }
    if first != placed || first <= position {
        return None;
    }
    let end = first.checked_add(count)?;
    let children = records.get(first..end)?;
    children.iter().all(|child| Record::of(child).parent() as usize == position).then_some(end)
}

fn has_name(entries: &[u8], record: Record<'_>) -> bool {
    let Slice { at, len } = record.name();
    let name = entries.get(at as usize..).and_then(|from| from.get(..len as usize));
    name.is_some_and(|name| Name::new(name).is_ok())
}
