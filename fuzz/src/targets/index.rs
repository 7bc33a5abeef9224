//! The reader of compiled catalogs: every query has an answer, whatever the bytes. The checksums are corrected first, because they only
//! detect accidental damage and would hide all other cases.

use std::path::Path;

use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::index::{Index, Ino};

use super::queries::walk;

/// The position of the head's checksum, the start of the bytes that it covers, and where the length of the head is.
const CHECKSUM: std::ops::Range<usize> = 8..12;
const CHECKED_FROM: usize = 12;
const HEAD_LEN: std::ops::Range<usize> = 92..96;
/// Where the position of the checksums of the blocks is, and the bytes of a block.
const CHECKSUMS: std::ops::Range<usize> = 136..140;
const BLOCK: usize = 64 << 10;

/// The bytes are an index.
pub fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() > HEAD_LEN.end {
        let head_len = u32::from_le_bytes(bytes[HEAD_LEN].try_into().unwrap()) as usize;
        let (head, entries) = bytes.split_at_mut(head_len.clamp(HEAD_LEN.end, data.len()));
        if let Some(at) = head.get(CHECKSUMS) {
            let at = u32::from_le_bytes(at.try_into().unwrap()) as usize;
            let stored = head.get_mut(at..).unwrap_or_default().as_chunks_mut().0;
            stored
                .iter_mut()
                .zip(entries.chunks(BLOCK))
                .for_each(|(stored, block)| *stored = checksum(block));
        }
        let own = checksum(&head[CHECKED_FROM..]);
        head[CHECKSUM].copy_from_slice(&own);
    }
    let Ok(index) = Index::from_bytes(bytes) else { return };
    let len = index.len();
    for ino in (0..200).chain(len.saturating_sub(3)..len.saturating_add(3)).chain([u64::MAX]) {
        walk(&index, Ino(ino));
    }
    let _all: usize = index.relocated().take(1_000).map(|(_, file)| file.rewrite.len()).sum();
    assert!(index.blueprint().len() + index.platform().len() + index.rcc().len() <= data.len());
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// The golden catalogs, compiled, and parts of them.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in ["catalog-gz.json.gz", "catalog-raw.json.gz"] {
        let stored = std::fs::read(golden.join(name)).unwrap();
        let id = Digest::of(Regime::Sha256, &stored);
        seeds.push(Index::build(&Catalog::parse(&stored).unwrap(), &id).unwrap());
    }
    for seed in super::catalog::seeds(golden) {
        if let Ok(catalog) = Catalog::parse(&super::catalog::gzip(&seed[1..])) {
            seeds.push(Index::build(&catalog, &Digest::of(Regime::Sha256, b"")).unwrap());
        }
    }
    seeds
}
