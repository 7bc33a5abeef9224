//! The law of writing: after any operations, a space looks like a tree in memory after the same operations.
//!
//! The same random operations go to a model and to a space of one small catalog. After each of them both must agree
//! whether it succeeded (and, without FUSE, with which errno), and at the end on every name, kind, mode, link count, content,
//! attribute and time. One variant uses the `Vfs` itself, where a restart drops and opens the upper; the other uses the kernel,
//! where a restart unmounts or kills the daemon.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

mod bare;
mod listed;
mod lost;
mod mounted;
mod ops;
mod power;
mod swept;
mod takeover;
mod tree;

use std::collections::BTreeMap;

use proptest::prelude::*;

use ops::Op;
use tree::Model;

/// A space under test: the bare `Vfs`, or a mount of it.
trait World {
    /// Performs the operation; returns the errno if it fails.
    fn apply(&mut self, op: &Op) -> Result<(), i32>;
    /// Every entry, by path.
    fn seen(&mut self) -> BTreeMap<String, Seen>;
    /// Its label.
    fn label(&self) -> String;
    /// Whether its errnos equal the model's: the kernel checks in another order.
    const EXACT: bool;
}

/// The visible state of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: char,
    mode: u16,
    nlink: u32,
    /// Content of a file, target of a link.
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
    assert_eq!(difference(&model.seen(), &world.seen()), None, "after {ops:#?}");
}

/// The differences of two trees; times only where the first one knows them.
fn difference(expected: &BTreeMap<String, Seen>, got: &BTreeMap<String, Seen>) -> Option<String> {
    let same = |expected: &Seen, got: &Seen| {
        let mtime = expected.mtime.and(got.mtime);
        *expected == Seen { mtime, ..got.clone() }
    };
    let missing = expected.iter().find(|(path, seen)| !got.get(*path).is_some_and(|got| same(seen, got)));
    let differs = missing.map(|(path, seen)| format!("{path}: {seen:?} expected, found {:?}", got.get(path)));
    differs.or_else(|| {
        got.keys().find(|path| !expected.contains_key(*path)).map(|path| format!("{path} is not expected"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn vfs_without_fuse_equals_a_tree_in_memory(ops in ops::sequence(60)) {
        check(bare::Bare::new(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mount_equals_a_tree_in_memory_whatever_happens_to_its_daemon(ops in ops::sequence(80)) {
        if crate::common::is_root() {
            check(mounted::Mounted::new(), &ops);
        }
    }
}
