//! The digests of the pieces of large files, as a lazy mount needs them: without parsing the whole head.
//!
//! ```text
//! for each blob of several pieces: its digest · the number of pieces (32 bits, little endian) · the SHA-256 of each
//! the SHA-256 of all of that
//! ```
//! Written from a verified head. If the file is damaged, it is made from the head again.

use std::collections::HashMap;
use std::sync::Arc;

use super::head::Head;
use super::object::ObjectId;
use super::wire::Input;
use crate::rcc::digest::Digest;
use crate::store::pieces::Checks;

/// The maximum length: that of a head.
pub const MAX_CHECKS: u64 = super::head::MAX_HEAD;

/// The digests of the pieces of blobs that have several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckTable(HashMap<Digest, Checks>);

impl CheckTable {
    /// Those of a head.
    pub fn of(head: &Head) -> CheckTable {
        let blobs = head.blobs().iter().filter_map(|blob| {
            let checks: Option<Checks> = head.frames(blob).iter().map(|frame| frame.check).collect();
            checks.filter(|checks| checks.len() > 1).map(|checks| (blob.digest, checks))
        });
        CheckTable(blobs.collect())
    }

    /// Reads what [`CheckTable::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Option<CheckTable> {
        let (table, sum) = bytes.split_last_chunk::<32>()?;
        if ObjectId::of(table).0 != *sum {
            return None;
        }
        let (mut input, mut blobs) = (Input(table), HashMap::new());
        while !input.is_empty() {
            let digest = Digest::Sha256(input.array()?);
            let count = u32::from_le_bytes(input.array()?);
            let checks: Option<Checks> = (0..count).map(|_| input.array()).collect();
            blobs.insert(digest, checks?);
        }
        Some(CheckTable(blobs))
    }

    /// As bytes, the same for equal heads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut blobs: Vec<(&Digest, &Checks)> = self.0.iter().collect();
        blobs.sort_by_key(|(digest, _)| **digest);
        let mut bytes = Vec::new();
        for (digest, checks) in blobs {
            bytes.extend_from_slice(digest.as_bytes());
            bytes.extend_from_slice(&(checks.len() as u32).to_le_bytes());
            bytes.extend(checks.iter().flatten());
        }
        bytes.extend(ObjectId::of(&bytes).0);
        bytes
    }

    /// The digests of the pieces of a blob, if it has several.
    pub fn get(&self, digest: &Digest) -> Option<Checks> {
        self.0.get(digest).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::remote::head::tests::head_of;

    #[test]
    fn the_table_of_a_head_comes_back_and_a_damaged_one_is_none() {
        let contents = [b"one".to_vec(), vec![3; 300_000], vec![4; 600_000]];
        let table = CheckTable::of(&head_of(&contents));
        let bytes = table.to_bytes();
        assert_eq!(CheckTable::parse(&bytes), Some(table.clone()));
        let pieces = contents
            .each_ref()
            .map(|content| table.get(&Digest::of(Regime::Sha256, content)).map_or(0, |checks| checks.len()));
        assert_eq!(pieces, [0, 2, 3]);
        assert_eq!(
            table.get(&Digest::of(Regime::Sha256, &contents[1])).unwrap()[1],
            ObjectId::of(&[3; 300_000 - (256 << 10)]).0
        );
        for at in [0, 40, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(CheckTable::parse(&damaged), None, "{at}");
        }
        assert_eq!(CheckTable::parse(b""), None);
    }
}
