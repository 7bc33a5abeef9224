//! The queries of a compiled catalog, for the targets that make one.

use holofs::store::index::{Index, Ino, NodeKind};
use holofs::sys::fs::name::Name;

/// Runs every query about one inode.
pub fn walk(index: &Index, ino: Ino) {
    let Some(node) = index.node(ino) else { return };
    let path = index.path_of(ino);
    assert!(path.is_none_or(|path| path.names().len() <= 5_000));
    if let Ok(name) = Name::new(node.name) {
        let _found = index.lookup(node.parent, name);
    }
    match node.kind {
        NodeKind::File(file) => {
            let offsets = file.rewrite.iter().take(1_000).count();
            assert!(offsets <= file.rewrite.len());
            let _some = file.rewrite.in_range(0..file.size).take(1_000).count();
        }
        NodeKind::Dir { .. } => {
            for child in index.children(ino).take(1_000) {
                assert!(child.name.len() <= 1 << 20);
            }
        }
        NodeKind::Link { target } => assert!(target.len() <= 1 << 20),
    }
}
