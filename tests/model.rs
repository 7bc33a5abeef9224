//! The law of writing: whatever is done to a space, it looks as if it had been done to a tree in memory.
//!
//! The same random operations go to a model and to a space of one small catalog, and after each of them both must agree
//! whether it worked (and, without FUSE, with which errno), and at the end on every name, kind, mode, link count, content,
//! attribute and time. Once on the `Vfs` itself, where a restart is dropping and opening the upper; once through the kernel,
//! where a restart is unmounting or killing the daemon.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

#[path = "model/bare.rs"]
mod bare;
mod common;
#[path = "model/mounted.rs"]
mod mounted;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/tree.rs"]
mod tree;

use std::collections::BTreeMap;

use proptest::prelude::*;

use ops::Op;
use tree::Model;

/// A space that is tried: the bare `Vfs`, or a mount of it.
trait World {
    /// Does it; the errno if it fails.
    fn apply(&mut self, op: &Op) -> Result<(), i32>;
    /// Everything that is there, by path.
    fn seen(&mut self) -> BTreeMap<String, Seen>;
    /// Its label.
    fn label(&self) -> String;
    /// Whether its errnos are the model's: those of the kernel differ in what it checks first.
    const EXACT: bool;
}

/// What is seen of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: char,
    mode: u16,
    nlink: u32,
    /// Content of a file, text of a link.
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    same_as: String,
    /// The time of the last change in seconds, where the model knows it.
    mtime: Option<i64>,
}

fn check<W: World>(mut world: W, ops: &[Op]) {
    let mut model = Model::new(&world.label());
    for (number, op) in ops.iter().enumerate() {
        let (expected, got) = (model.apply(op), world.apply(op));
        let agreed = if W::EXACT { expected == got } else { expected.is_ok() == got.is_ok() };
        assert!(
            agreed,
            "operation {number}, {op:?}: the model says {expected:?}, the space {got:?}\n{ops:#?}"
        );
    }
    let (expected, mut got) = (model.seen(), world.seen());
    for (path, seen) in &mut got {
        if expected.get(path).is_some_and(|expected| expected.mtime.is_none()) {
            seen.mtime = None;
        }
    }
    for (path, seen) in &expected {
        assert_eq!(Some(seen), got.get(path), "{path} after {ops:#?}");
    }
    let extra: Vec<_> = got.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(extra.is_empty(), "The model does not have {extra:?} after {ops:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_space_without_fuse_is_a_tree_in_memory(ops in ops::sequence(60)) {
        check(bare::Bare::new(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mounted_space_is_a_tree_in_memory_whatever_happens_to_its_daemon(ops in ops::sequence(80)) {
        if common::is_root() {
            check(mounted::Mounted::new(), &ops);
        }
    }
}
