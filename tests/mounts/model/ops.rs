//! The operations, and how they are generated: from few names, so that they affect the same files.

use proptest::prelude::*;

/// One operation on paths below the space. No path leads through a link.
#[derive(Debug, Clone)]
pub enum Op {
    Create(String, u16),
    Mkdir(String, u16),
    Symlink(String, String),
    Fifo(String),
    Link(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    RenameNoReplace(String, String),
    Exchange(String, String),
    Write(String, u16, Vec<u8>),
    Append(String, Vec<u8>),
    Truncate(String, u16),
    Empty(String),
    Allocate(String, u16, u16),
    AllocateKeepSize(String, u16, u16),
    Punch(String, u16, u16),
    Zero(String, u16, u16),
    CopyRange(String, u16, String, u16, u16),
    Chmod(String, u16),
    SetTime(String, i32),
    SetXattr(String, u8, Vec<u8>),
    RemoveXattr(String, u8),
    Look(String),
    List(String),
    Sync(String),
    Restart,
    Kill,
    KillServer,
}

/// Names of the catalog and others.
const NAMES: [&str; 7] = ["lib", "bin", "f", "tool", "a", "b", "c"];

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..=3).prop_map(|names| names.join("/"))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn small() -> impl Strategy<Value = u16> {
    0..9_000_u16
}

fn one() -> BoxedStrategy<Op> {
    let mode = || prop::sample::select(vec![0o644_u16, 0o755, 0o600, 0o4755, 0o2770, 0o1777, 0o400]);
    let names = prop_oneof![
        3 => (path(), mode()).prop_map(|(path, mode)| Op::Create(path, mode)),
        3 => (path(), mode()).prop_map(|(path, mode)| Op::Mkdir(path, mode)),
        1 => (path(), "[a-z]{1,9}").prop_map(|(path, text)| Op::Symlink(path, format!("nowhere/{text}"))),
        1 => path().prop_map(Op::Fifo),
        2 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => path().prop_map(Op::Unlink),
        3 => path().prop_map(Op::Rmdir),
        5 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Op::RenameNoReplace(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Op::Exchange(from, to)),
    ];
    let content = prop_oneof![
        3 => (path(), small(), bytes()).prop_map(|(path, at, bytes)| Op::Write(path, at, bytes)),
        2 => (path(), bytes()).prop_map(|(path, bytes)| Op::Append(path, bytes)),
        2 => (path(), small()).prop_map(|(path, size)| Op::Truncate(path, size)),
        1 => path().prop_map(Op::Empty),
        1 => (path(), small(), 1..5_000_u16).prop_map(|(path, at, len)| Op::Allocate(path, at, len)),
        1 => (path(), small(), 1..5_000_u16).prop_map(|(path, at, len)| Op::AllocateKeepSize(path, at, len)),
        1 => (path(), small(), 1..5_000_u16).prop_map(|(path, at, len)| Op::Punch(path, at, len)),
        1 => (path(), small(), 1..5_000_u16).prop_map(|(path, at, len)| Op::Zero(path, at, len)),
        2 => (path(), small(), path(), small(), 1..5_000_u16)
            .prop_map(|(from, at, to, to_at, len)| Op::CopyRange(from, at, to, to_at, len)),
    ];
    let other = prop_oneof![
        3 => (path(), mode()).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        2 => (path(), any::<i32>()).prop_map(|(path, time)| Op::SetTime(path, time)),
        2 => (path(), 0..3_u8, bytes()).prop_map(|(path, name, bytes)| Op::SetXattr(path, name, bytes)),
        1 => (path(), 0..3_u8).prop_map(|(path, name)| Op::RemoveXattr(path, name)),
        1 => path().prop_map(Op::Look),
        1 => path().prop_map(Op::List),
        1 => path().prop_map(Op::Sync),
    ];
    let restart = prop_oneof![Just(Op::Restart), Just(Op::Kill), Just(Op::KillServer)];
    prop_oneof![10 => names, 6 => content, 5 => other, 1 => restart].boxed()
}

/// Up to `most` operations.
pub fn sequence(most: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(one(), 1..most)
}
