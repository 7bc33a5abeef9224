//! What an environment holds, what runs touched of it, and what changed between two of them.
//!
//! Everything here is computed from the compiled catalog, a few small files of its content, and the profile of earlier runs.
//! Nothing is mounted and nothing is written.

pub mod compare;
pub mod packages;
pub mod report;
pub mod touched;
pub mod usage;

use crate::store::index::{Index, Node, NodeKind};

/// Each regular file of a catalog: its node, size and path, in the order of inodes.
pub fn files(index: &Index) -> impl Iterator<Item = (Node<'_>, u64, String)> {
    index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) => Some((node, file.size, index.path_of(node.ino)?.to_string())),
        _ => None,
    })
}
