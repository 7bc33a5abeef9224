//! The gate that every byte of a blob passes: counted, capped at the declared size, hashed, then written.
//!
//! The output is valid only once [`Gate::close`] succeeds; before that, it is garbage.

use std::fs::File;
use std::io::{self, Write};

use crate::rcc::digest::{Digest, Hasher};
use crate::store::buffer::with_buffer;
use crate::sys::fs::offset::FileExt;

/// Why content is invalid, or could not be copied.
#[derive(Debug)]
pub enum Fault {
    /// It ended after this many bytes.
    Truncated(u64),
    /// It continues after the declared size.
    Longer,
    /// The decoder rejects it.
    Corrupt(io::Error),
    /// It has this other digest.
    Mismatch(Digest),
    /// The source cannot be read.
    Read(io::Error),
    /// The sink cannot be written.
    Sink(io::Error),
}

/// Counts, caps, hashes and forwards bytes.
pub struct Gate<'s> {
    hasher: Hasher,
    seen: u64,
    size: u64,
    sink: Option<&'s mut dyn Write>,
}

impl<'s> Gate<'s> {
    /// A gate for content of `size` bytes that goes to `sink`.
    pub fn new(digest: &Digest, size: u64, sink: &'s mut dyn Write) -> Gate<'s> {
        Gate { hasher: Hasher::new(digest.regime()), seen: 0, size, sink: Some(sink) }
    }

    /// A gate that only verifies.
    pub fn blind(digest: &Digest, size: u64) -> Gate<'static> {
        Gate { hasher: Hasher::new(digest.regime()), seen: 0, size, sink: None }
    }

    /// Adds the next bytes; if they exceed the size by even one byte, nothing of this piece is written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(Fault::Longer);
        }
        self.hasher.update(bytes);
        match &mut self.sink {
            Some(sink) => sink.write_all(bytes).map_err(Fault::Sink),
            None => Ok(()),
        }
    }

    /// Bytes declared.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Checks that all bytes together are the content of `expected`.
    pub fn close(self, expected: &Digest) -> Result<(), Fault> {
        if self.seen < self.size {
            return Err(Fault::Truncated(self.seen));
        }
        self.close_at_any_size(expected)
    }

    /// As [`Gate::close`], where the size is only an upper bound.
    pub fn close_at_any_size(self, expected: &Digest) -> Result<(), Fault> {
        let actual = self.hasher.finish();
        if actual == *expected { Ok(()) } else { Err(Fault::Mismatch(actual)) }
    }
}

/// Reads all of `file` and compares; the file's position is neither used nor moved.
pub fn check_file(file: &File, digest: &Digest, size: u64) -> Result<(), Fault> {
    let mut gate = Gate::blind(digest, size);
    with_buffer(|buffer| {
        loop {
            match file.read_at(buffer, gate.seen()) {
                Ok(0) => return Ok(()),
                Ok(len) => gate.push(&buffer[..len])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Read(error)),
            }
        }
    })?;
    gate.close(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;

    #[test]
    fn the_right_content_passes_in_any_pieces() {
        let digest = Digest::of(Regime::Sha256, b"content");
        let mut sink = Vec::new();
        let mut gate = Gate::new(&digest, 7, &mut sink);
        for piece in [&b"con"[..], b"", b"tent"] {
            gate.push(piece).unwrap();
        }
        gate.close(&digest).unwrap();
        assert_eq!(sink, b"content");
    }

    #[test]
    fn every_other_content_is_detected() {
        let digest = Digest::of(Regime::Sha256, b"content");
        let outcome = |content: &[u8]| {
            let mut gate = Gate::blind(&digest, 7);
            gate.push(content).and_then(|()| gate.close(&digest)).unwrap_err()
        };
        assert!(matches!(outcome(b"conten"), Fault::Truncated(6)));
        assert!(matches!(outcome(b"content!"), Fault::Longer));
        let other = Digest::of(Regime::Sha256, b"Content");
        assert!(matches!(outcome(b"Content"), Fault::Mismatch(actual) if actual == other));
    }

    #[test]
    fn nothing_beyond_the_size_reaches_the_sink() {
        let digest = Digest::of(Regime::Sha256, b"");
        let mut sink = Vec::new();
        let mut gate = Gate::new(&digest, 3, &mut sink);
        gate.push(b"ab").unwrap();
        assert!(matches!(gate.push(b"cdef"), Err(Fault::Longer)));
        assert_eq!(sink, b"ab");
    }
}
