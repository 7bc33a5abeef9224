//! The encodings of stored blobs, decoded as a stream into a [`Gate`].
//!
//! Memory is bounded whatever the input: buffers have a fixed size, the gate stops content that is too long, and a zstd frame may
//! request a window of at most 128 MiB (which encoders do not exceed by default).

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::{GzDecoder, MultiGzDecoder};

use crate::store::buffer::{BUFFER, with_buffer};
use crate::store::verify::{Fault, Gate};

/// Gzip blobs up to this size, both stored and raw, are decoded in one call: twice as fast as in chunks.
pub const WHOLE: u64 = 4 << 20;

/// The largest window of a zstd frame, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The encoding of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// The content itself.
    Raw,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Raw => "raw content",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        })
    }
}

impl Codec {
    /// Guesses the encoding from `head`, the first bytes. Raw content may begin with anything.
    pub fn sniff(head: &[u8]) -> Codec {
        match head {
            [0x1f, 0x8b, 8, ..] => Codec::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
            _ => Codec::Raw,
        }
    }

    /// Decodes all of `source` into `gate`.
    pub fn decode(self, source: impl Read, capacity: usize, gate: &mut Gate<'_>) -> Result<(), Fault> {
        let source = BufReader::with_capacity(capacity.clamp(64, BUFFER), source);
        match self {
            Codec::Raw => pump(source, gate),
            Codec::Gzip => gunzip(source, gate),
            Codec::Zstd => unzstd(source, gate),
        }
    }

    /// The decoded content of `source`, unverified: the caller compares it with content that was verified before.
    pub fn reader(self, source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let source = BufReader::with_capacity(BUFFER, source);
        Ok(match self {
            Codec::Raw => Box::new(source),
            Codec::Gzip => Box::new(MultiGzDecoder::new(source)),
            Codec::Zstd => {
                let mut frames = zstd::Decoder::with_buffer(source)?;
                frames.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(frames)
            }
        })
    }
}

/// The name of a format that is never used for blobs, if `head` looks like one.
pub fn foreign_format(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    }
}

/// All members of a gzip file. A member may only be followed by another one: nothing else is ignored.
fn gunzip(mut source: impl BufRead, gate: &mut Gate<'_>) -> Result<(), Fault> {
    loop {
        let mut member = GzDecoder::new(source);
        pump(&mut member, gate)?;
        source = member.into_inner();
        match source.fill_buf().map_err(Fault::Read)?.first() {
            None => return Ok(()),
            Some(0x1f) => {}
            Some(_) => return Err(Fault::Longer),
        }
    }
}

/// All frames of a zstd file, including skippable ones.
fn unzstd(mut source: impl BufRead, gate: &mut Gate<'_>) -> Result<(), Fault> {
    loop {
        let mut frame = zstd::Decoder::with_buffer(source).map_err(Fault::Corrupt)?.single_frame();
        frame.window_log_max(ZSTD_WINDOW_LOG).map_err(Fault::Corrupt)?;
        pump(&mut frame, gate)?;
        source = frame.finish();
        match source.fill_buf().map_err(Fault::Read)?.first() {
            None => return Ok(()),
            Some(0x28 | 0x50..=0x5f) => {}
            Some(_) => return Err(Fault::Longer),
        }
    }
}

/// Decodes a gzip blob of one member in one call: `stored` is all of it, `size` the size in the catalog. `None` if the blob is
/// anything else: then it must be decoded in chunks, which also finds out what is wrong with it.
pub fn gunzip_whole<T>(stored: &[u8], size: usize, use_it: impl FnOnce(&[u8]) -> T) -> Option<T> {
    thread_local! {
        static WORKSPACE: RefCell<(Option<libdeflater::Decompressor>, Vec<u8>)> = const { RefCell::new((None, Vec::new())) };
    }
    WORKSPACE.with_borrow_mut(|(decompressor, content)| {
        let decompressor = decompressor.get_or_insert_with(libdeflater::Decompressor::new);
        // The trailer of empty content is eight zeros, so zeros after it would go unnoticed.
        if size == 0 {
            return None;
        }
        if content.len() < size {
            content.resize(size, 0);
        }
        let content = &mut content[..size];
        let got = decompressor.gzip_decompress(stored, content).ok()?;
        // The decoder checked that the trailer is at the end of the member, but does not report where that is. If these bytes occur
        // only at the blob's end, the member ends there and nothing follows it.
        let trailer = [libdeflater::crc32(content).to_le_bytes(), (size as u32).to_le_bytes()].concat();
        let ends =
            memchr::memmem::find(stored, &trailer).is_some_and(|at| at + trailer.len() == stored.len());
        (got == size && ends).then(|| use_it(content))
    })
}

/// Copies the output of `reader` into `gate`.
fn pump(mut reader: impl Read, gate: &mut Gate<'_>) -> Result<(), Fault> {
    with_buffer(|buffer| {
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => gate.push(&buffer[..len])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(classify(error, gate)),
            }
        }
    })
}

/// System errors have an errno; errors of a decoder do not.
fn classify(error: io::Error, gate: &Gate<'_>) -> Fault {
    if error.raw_os_error().is_some() {
        Fault::Read(error)
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        Fault::Truncated(gate.seen())
    } else {
        Fault::Corrupt(error)
    }
}

/// Lends a thread-local buffer of `len` bytes for a stored blob; its initial content is arbitrary.
pub fn with_whole<T>(len: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < len {
            spare.resize(len, 0);
        }
        use_it(&mut spare[..len])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::{Digest, Regime};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_frame(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 3).unwrap()
    }

    fn decode(codec: Codec, stored: &[u8], content: &[u8]) -> Result<Vec<u8>, Fault> {
        let digest = Digest::of(Regime::Sha256, content);
        let mut sink = Vec::new();
        let mut gate = Gate::new(&digest, content.len() as u64, &mut sink);
        codec.decode(stored, 4096, &mut gate)?;
        gate.close(&digest)?;
        Ok(sink)
    }

    #[test]
    fn several_members_or_frames_are_one_content() {
        let members = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(decode(Codec::Gzip, &members, b"one two").unwrap(), b"one two");
        let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames = [zstd_frame(b"one "), skippable, zstd_frame(b"two")].concat();
        assert_eq!(decode(Codec::Zstd, &frames, b"one two").unwrap(), b"one two");
    }

    #[test]
    fn what_follows_the_end_is_not_ignored() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let stored = if codec == Codec::Gzip { gzip(b"x") } else { zstd_frame(b"x") };
            let longer = [&stored[..], b"\0"].concat();
            assert!(matches!(decode(codec, &longer, b"x"), Err(Fault::Longer)), "{codec}");
            let more = [&stored[..], &stored[..]].concat();
            assert!(matches!(decode(codec, &more, b"x"), Err(Fault::Longer)), "{codec}");
        }
    }

    #[test]
    fn a_cut_stream_is_truncated_and_a_wrong_checksum_corrupt() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let content = vec![7; 100_000];
            let stored = if codec == Codec::Gzip { gzip(&content) } else { zstd_frame(&content) };
            let cut = &stored[..stored.len() - 3];
            assert!(matches!(decode(codec, cut, &content), Err(Fault::Truncated(_))), "{codec}");
            assert!(matches!(decode(codec, &stored[..12], &content), Err(Fault::Truncated(_))), "{codec}");
        }
        let mut stored = gzip(b"content");
        let checksum = stored.len() - 8;
        stored[checksum] ^= 1;
        assert!(matches!(decode(Codec::Gzip, &stored, b"content"), Err(Fault::Corrupt(_))));
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused() {
        // A frame header that requests a window of 2^31: descriptor without single segment, exponent 21.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert!(matches!(decode(Codec::Zstd, &frame, b"x"), Err(Fault::Corrupt(_))));
    }

    #[test]
    fn formats_are_recognized_by_their_first_bytes() {
        assert_eq!(Codec::sniff(&gzip(b"")), Codec::Gzip);
        assert_eq!(Codec::sniff(&zstd_frame(b"")), Codec::Zstd);
        assert_eq!(Codec::sniff(b"\x1f\x8b"), Codec::Raw);
        assert_eq!(Codec::sniff(b""), Codec::Raw);
        assert_eq!(foreign_format(b"\xfd7zXZ\0\0"), Some("xz"));
        assert_eq!(foreign_format(b"BZh91AY"), Some("bzip2"));
        assert_eq!(foreign_format(b"text"), None);
    }

    proptest! {
        #[test]
        fn any_content_comes_back_through_every_codec(
            content in proptest::collection::vec(any::<u8>(), 0..5000),
            repeats in 1..50_usize,
        ) {
            let content = content.repeat(repeats);
            prop_assert_eq!(&decode(Codec::Raw, &content, &content).unwrap(), &content);
            prop_assert_eq!(&decode(Codec::Gzip, &gzip(&content), &content).unwrap(), &content);
            prop_assert_eq!(&decode(Codec::Zstd, &zstd_frame(&content), &content).unwrap(), &content);
        }
    }
}
