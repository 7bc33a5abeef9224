//! Subvolumes: Windows has none, so every call fails and the next strategy of placing files is used.

use std::io;

use super::at::TreeDir;
use crate::sys::fs::name::Name;

/// Identifies a state of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The subvolume's id, never reused.
    pub uuid: [u8; 16],
    /// The transaction that last changed an inode in it.
    pub changed: u64,
}

fn none<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "There are no subvolumes on Windows"))
}

/// Always fails.
pub fn create(_parent: &TreeDir, _name: Name<'_>) -> io::Result<()> {
    none()
}

/// Always fails.
pub fn snapshot(_source: &TreeDir, _parent: &TreeDir, _name: Name<'_>) -> io::Result<()> {
    none()
}

/// Always fails.
pub fn state(_dir: &TreeDir) -> io::Result<State> {
    none()
}

/// Always false.
pub fn is_same_btrfs(_one: &TreeDir, _other: &TreeDir) -> bool {
    false
}
