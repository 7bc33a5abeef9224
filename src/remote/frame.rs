//! Frames: one chunk of one file, compressed separately, so that it can be fetched and verified separately.

use std::io;

/// The maximum number of raw bytes in one frame: a mount fetches and verifies pieces of that size.
pub const CHUNK: u64 = crate::store::pieces::PIECE;

/// How much time a chunk is worth when it is compressed; decompressing takes the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// zstd's default: smaller than gzip at a third of its time.
    Usual,
    /// For what every run fetches: 13 % smaller on libraries and sources, at twenty times the time.
    Most,
}

impl Effort {
    /// The level of zstd.
    fn level(self) -> i32 {
        match self {
            Effort::Usual => 3,
            Effort::Most => 15,
        }
    }
}

/// How a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Uncompressed.
    Stored,
    /// As one zstd frame.
    Zstd,
}

/// The maximum stored size of a chunk of `len` bytes: a chunk that does not shrink is stored uncompressed.
pub fn stored_bound(len: u64) -> u64 {
    len
}

/// Compresses a chunk, or stores it uncompressed if that is not longer.
pub fn encode(chunk: &[u8], effort: Effort) -> io::Result<(FrameKind, Vec<u8>)> {
    debug_assert!(chunk.len() as u64 <= CHUNK);
    let packed = zstd::bulk::compress(chunk, effort.level())?;
    Ok(if packed.len() < chunk.len() {
        (FrameKind::Zstd, packed)
    } else {
        (FrameKind::Stored, chunk.to_vec())
    })
}

/// Decodes a frame into a chunk of `len` bytes; the content is not verified.
pub fn decode(kind: FrameKind, stored: &[u8], len: usize) -> io::Result<Vec<u8>> {
    let chunk = match kind {
        FrameKind::Stored => stored.to_vec(),
        FrameKind::Zstd => zstd::bulk::decompress(stored, len)?,
    };
    match chunk.len() == len {
        true => Ok(chunk),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it decodes to {} bytes, not {len}", chunk.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_whether_it_gets_smaller_or_not() {
        let noise: Vec<u8> = (0..5000_u64).flat_map(ObjectBytes::of).collect();
        for (chunk, kind) in [(vec![7; 4000], FrameKind::Zstd), (noise, FrameKind::Stored)] {
            let (found, stored) = encode(&chunk, Effort::Usual).unwrap();
            assert_eq!(found, kind);
            assert!(stored.len() as u64 <= stored_bound(chunk.len() as u64));
            assert_eq!(decode(found, &stored, chunk.len()).unwrap(), chunk);
        }
    }

    #[test]
    fn more_effort_makes_a_chunk_smaller() {
        let text = [include_str!("push.rs"), include_str!("fetch.rs"), include_str!("head.rs")].concat();
        let size = |effort| encode(text.as_bytes(), effort).unwrap().1.len();
        assert!(size(Effort::Most) < size(Effort::Usual));
    }

    #[test]
    fn another_length_is_refused() {
        let (kind, stored) = encode(&[7; 4000], Effort::Most).unwrap();
        assert!(decode(kind, &stored, 3999).is_err());
        assert!(decode(kind, &stored, 4001).is_err());
        assert!(decode(FrameKind::Stored, b"ab", 3).is_err());
        assert!(decode(FrameKind::Zstd, b"no frame", 3).is_err());
    }

    /// Bytes that do not compress.
    struct ObjectBytes;

    impl ObjectBytes {
        fn of(n: u64) -> [u8; 32] {
            crate::remote::ObjectId::of(&n.to_le_bytes()).0
        }
    }
}
