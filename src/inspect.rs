//! What an environment contains, what runs touched of it, and the differences between two environments.
//!
//! Everything here is computed from the compiled catalog, a few small files of its content, and the profile of earlier runs. Nothing
//! is mounted or written.

pub mod compare;
pub mod explain;
pub mod live;
pub mod metrics;
pub mod packages;
pub mod report;
pub mod run;
pub mod touched;
pub mod unpacking;
pub mod usage;

use crate::store::index::{Index, Node, NodeKind};

/// Each regular file of a catalog: its node, size and path, ordered by inode.
pub fn files(index: &Index) -> impl Iterator<Item = (Node<'_>, u64, String)> {
    index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) => Some((node, file.size, index.path_of(node.ino)?.to_string())),
        _ => None,
    })
}
