//! The reader of compiled catalogs: every query has an answer, whatever the bytes. The checksums are corrected first, because they only
//! detect accidental damage and would hide all other cases.

use std::path::Path;

use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::index::{Index, Ino};

use super::queries::walk;

/// The positions of the two checksums, the start of the bytes that they cover, and where the length of the head is.
const CHECKSUM: std::ops::Range<usize> = 8..12;
const HEAD_CHECKSUM: std::ops::Range<usize> = 12..16;
const CHECKED_FROM: usize = 16;
const HEAD_LEN: std::ops::Range<usize> = 92..96;

/// The bytes are an index.
pub fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() > HEAD_LEN.end {
        let head_len = u32::from_le_bytes(bytes[HEAD_LEN].try_into().unwrap()) as usize;
        let head_len = head_len.clamp(CHECKED_FROM, bytes.len());
        let (head, whole) = (checksum(&bytes[CHECKED_FROM..head_len]), checksum(&bytes[CHECKED_FROM..]));
        bytes[HEAD_CHECKSUM].copy_from_slice(&head);
        bytes[CHECKSUM].copy_from_slice(&whole);
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
