//! Writing a head.

use std::collections::BTreeMap;

use crate::rcc::catalog::Catalog;
use crate::rcc::digest::Digest;

use super::{Frame, HeadError, MAGIC, PLAIN, WITH_BYTECODE, distinct, zigzag};
use crate::remote::frame::FrameKind;
use crate::remote::object::Object;
use crate::remote::wire::put_number;

/// Encodes a head for the catalog `stored`, whose blobs have `frames` in `packs`, each blob's frames in order.
pub fn encode(
    stored: &[u8],
    packs: &[Object],
    frames: &BTreeMap<Digest, Vec<Frame>>,
) -> Result<Vec<u8>, HeadError> {
    let catalog = Catalog::parse(stored).map_err(|error| HeadError::Catalog(Box::new(error)))?;
    let mut out = MAGIC.to_vec();
    out.push(PLAIN);
    put_number(&mut out, stored.len() as u64);
    out.extend_from_slice(stored);
    put_number(&mut out, packs.len() as u64);
    for pack in packs {
        out.extend_from_slice(&pack.id.0);
        put_number(&mut out, pack.size);
    }
    let mut ends = vec![0_i64; packs.len()];
    for digest in distinct(&catalog)?.keys() {
        for frame in frames.get(digest).into_iter().flatten() {
            put_frame(&mut out, frame, &mut ends);
        }
    }
    Ok(out)
}

/// Turns a head without bytecode into one whose pack `at` is the bytecode.
pub fn add_bytecode(head: &mut Vec<u8>, at: usize) {
    if let Some(version) = head.get_mut(MAGIC.len()) {
        *version = WITH_BYTECODE;
    }
    put_number(head, at as u64);
}

fn put_frame(out: &mut Vec<u8>, frame: &Frame, ends: &mut [i64]) {
    put_number(out, frame.pack.into());
    out.push(match frame.kind {
        FrameKind::Stored => 0,
        FrameKind::Zstd => 1,
    });
    // Packs are at most a gigabyte: offsets fit.
    let offset = frame.offset as i64;
    if let Some(end) = ends.get_mut(frame.pack as usize) {
        put_number(out, zigzag(offset - *end));
        *end = offset + i64::from(frame.stored);
    }
    put_number(out, frame.stored.into());
    if let Some(check) = &frame.check {
        out.extend_from_slice(check);
    }
}
