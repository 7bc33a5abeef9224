//! What runs of a catalog touched, from the profile of earlier runs.
//!
//! A profile contains chunks of 128 KiB in the order in which they were first read, over all recorded runs together.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fs::fuse::profile::{CHUNK, Item, Profile};
use crate::store::index::{Index, Ino, NodeKind};

/// How much of a catalog was read, and in what order.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    bytes: BTreeMap<Ino, u64>,
    order: Vec<Ino>,
}

/// The same in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Files read at least in part.
    pub files: u64,
    /// Files of the catalog.
    pub all_files: u64,
    /// Bytes read, in chunks of 128 KiB.
    pub bytes: u64,
    /// Bytes of the catalog.
    pub all_bytes: u64,
}

impl Touched {
    /// Applies `profile` to `index`; entries for files that do not exist are ignored.
    pub fn of(index: &Index, profile: &Profile) -> Touched {
        let mut touched = Touched::default();
        for item in profile.items() {
            let Item::Read { ino, chunk } = item else { continue };
            let Some(NodeKind::File(file)) = index.node(*ino).map(|node| node.kind) else { continue };
            let Some(start) = chunk.checked_mul(CHUNK).filter(|&start| start < file.size) else { continue };
            if !touched.bytes.contains_key(ino) {
                touched.order.push(*ino);
            }
            *touched.bytes.entry(*ino).or_default() += CHUNK.min(file.size - start);
        }
        touched
    }

    /// Bytes of a file that were read.
    pub fn bytes(&self, ino: Ino) -> u64 {
        self.bytes.get(&ino).copied().unwrap_or_default()
    }

    /// Files in the order in which they were first read.
    pub fn order(&self) -> &[Ino] {
        &self.order
    }

    /// The share over all files.
    pub fn share(&self, index: &Index) -> Share {
        let all_files = index.nodes().filter(|node| matches!(node.kind, NodeKind::File(_))).count() as u64;
        Share {
            files: self.bytes.len() as u64,
            all_files,
            bytes: self.bytes.values().sum(),
            all_bytes: index.content_bytes(),
        }
    }
}
