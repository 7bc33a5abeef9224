//! Inflates a catalog file to its JSON, with bounded size and memory.
//!
//! A slice is parsed faster than a stream (35,000 files, 13 MB: 40 ms against 70), so JSON of ordinary size is inflated into memory as
//! a whole; beyond [`IN_MEMORY`] it is inflated once to count it and once more into the parser. In both cases the stored bytes are
//! read to their end, so that a truncated file is an error even if the first JSON value was complete.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::error::Flaw;

/// The maximum size of a catalog file.
pub const MAX_STORED: u64 = 256 << 20;
/// The maximum length of the JSON: more than a million files.
pub const MAX_JSON: u64 = 512 << 20;
/// JSON up to this length is inflated whole before it is parsed.
const IN_MEMORY: u64 = 64 << 20;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The JSON of a catalog.
pub(super) enum Json<'a> {
    /// All of it.
    Whole(Vec<u8>),
    /// Too long to hold.
    Stream(Stream<'a>),
}

/// Inflates on the fly.
pub(super) type Stream<'a> = BufReader<Box<dyn Read + Send + 'a>>;

/// The encoding of `stored`, for messages.
pub(super) fn encoding(stored: &[u8]) -> Result<&'static str, Flaw> {
    if stored.starts_with(GZIP_MAGIC) {
        Ok("gzip")
    } else if stored.starts_with(ZSTD_MAGIC) {
        Ok("zstd")
    } else {
        Err(Flaw::NotCompressed)
    }
}

/// Starts inflating `stored`.
pub(super) fn inflate(stored: &[u8]) -> Result<Json<'_>, Flaw> {
    inflate_within(stored, IN_MEMORY, MAX_JSON)
}

fn inflate_within(stored: &[u8], in_memory: u64, max_json: u64) -> Result<Json<'_>, Flaw> {
    let encoding = encoding(stored)?;
    let failed = |source| Flaw::Inflate { encoding, source };
    let mut reader = decoder(encoding, stored).map_err(failed)?;
    let mut head = Vec::with_capacity(expected_length(encoding, stored).min(in_memory) as usize);
    reader.by_ref().take(in_memory).read_to_end(&mut head).map_err(failed)?;
    if (head.len() as u64) < in_memory {
        return Ok(Json::Whole(head));
    }
    // Inflates the rest once to check it, so that a bomb or a truncated file is rejected before anything is built from it.
    let room = max_json.saturating_sub(in_memory) + 1;
    let rest = io::copy(&mut reader.take(room), &mut io::sink()).map_err(failed)?;
    if rest == room {
        return Err(Flaw::TooLarge { what: "bytes of JSON", limit: max_json });
    }
    Ok(Json::Stream(BufReader::with_capacity(64 << 10, decoder(encoding, stored).map_err(failed)?)))
}

pub(super) fn decoder<'a>(encoding: &str, stored: &'a [u8]) -> io::Result<Box<dyn Read + Send + 'a>> {
    match encoding {
        "gzip" => Ok(Box::new(MultiGzDecoder::new(stored))),
        _ => Ok(Box::new(zstd::stream::read::Decoder::with_buffer(stored)?)),
    }
}

/// The expected output size: gzip stores it in its last four bytes. Only a hint, so a wrong value costs no more than a reallocation.
fn expected_length(encoding: &str, stored: &[u8]) -> u64 {
    match (encoding, stored.last_chunk::<4>()) {
        ("gzip", Some(&tail)) => u64::from(u32::from_le_bytes(tail)) + 1,
        _ => 8 * stored.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(json: Json<'_>) -> io::Result<Vec<u8>> {
        match json {
            Json::Whole(bytes) => Ok(bytes),
            Json::Stream(mut stream) => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).map(|_| bytes)
            }
        }
    }

    #[test]
    fn both_encodings_and_several_members_come_out_whole() {
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(inflate(&members).unwrap()).unwrap(), b"one two");
        let frames = [zstd::encode_all(&b"one "[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()];
        assert_eq!(read(inflate(&frames.concat()).unwrap()).unwrap(), b"one two");
    }

    #[test]
    fn a_long_one_is_streamed_and_a_longer_one_refused() {
        let content = vec![b'x'; 1000];
        let stored = gzip(&content);
        assert!(matches!(inflate_within(&stored, 1001, 1000).unwrap(), Json::Whole(_)));
        assert!(matches!(inflate_within(&stored, 100, 1000).unwrap(), Json::Stream(_)));
        assert_eq!(read(inflate_within(&stored, 100, 1000).unwrap()).unwrap(), content);
        assert!(matches!(inflate_within(&stored, 100, 999), Err(Flaw::TooLarge { limit: 999, .. })));
        assert!(matches!(inflate_within(&stored[..stored.len() - 4], 100, 1000), Err(Flaw::Inflate { .. })));
    }

    #[test]
    fn a_truncated_one_is_an_error_at_every_byte() {
        for stored in [gzip(b"some content"), zstd::encode_all(&b"some content"[..], 1).unwrap()] {
            for length in 0..stored.len() {
                assert!(inflate(&stored[..length]).is_err(), "{length} of {}", stored.len());
            }
        }
    }
}
