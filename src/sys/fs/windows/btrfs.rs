//! Subvolumes, of which Windows has none: every call says so, and the next way of placing files is taken.

use std::io;

use super::at::TreeDir;
use crate::sys::fs::name::Name;

/// What tells states of a subvolume apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The subvolume's own number, given once.
    pub uuid: [u8; 16],
    /// The transaction that last changed an inode in it.
    pub changed: u64,
}

fn none<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "There are no subvolumes on Windows"))
}

/// There are none.
pub fn create(_parent: &TreeDir, _name: Name<'_>) -> io::Result<()> {
    none()
}

/// There are none.
pub fn snapshot(_source: &TreeDir, _parent: &TreeDir, _name: Name<'_>) -> io::Result<()> {
    none()
}

/// There are none.
pub fn state(_dir: &TreeDir) -> io::Result<State> {
    none()
}

/// Never.
pub fn is_same_btrfs(_one: &TreeDir, _other: &TreeDir) -> bool {
    false
}
