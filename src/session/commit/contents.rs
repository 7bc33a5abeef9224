//! The contents of a space in the form of a catalog, with the label replaced by the recorded identity.

use std::io::Write;

use memchr::memmem;

use crate::fs::vfs::Vfs;
use crate::rcc::digest::Digest;
use crate::session::error::SessionError;
use crate::space::record::Contents;
use crate::store::index::{Ino, NodeKind};

/// The size of a read.
const PIECE: usize = 1 << 20;

/// A content as recorded in a catalog.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The digest before relocation.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The offsets of the identity.
    pub rewrite: Vec<u64>,
    /// It was written in the space.
    pub is_written: bool,
}

/// Reads the contents of a space, and stores those that were written.
pub struct Relocator<'a> {
    label: &'a [u8],
    identity: &'a [u8],
    vfs: &'a Vfs,
    store: &'a Contents,
}

impl<'a> Relocator<'a> {
    /// `label` and `identity` must have the same length.
    pub fn new(label: &'a [u8], identity: &'a [u8], vfs: &'a Vfs, store: &'a Contents) -> Relocator<'a> {
        Relocator { label, identity, vfs, store }
    }

    /// The content of `ino`, after storing it in the hololib.
    pub fn content(&self, ino: Ino) -> Result<Recorded, SessionError> {
        if !self.vfs.has_own_bytes(ino)
            && let Some(NodeKind::File(file)) = self.vfs.index().node(ino).map(|node| node.kind)
        {
            let rewrite = file.rewrite.iter().collect();
            return Ok(Recorded { digest: file.digest, size: file.size, rewrite, is_written: false });
        }
        let mut hasher = self.store.hasher();
        let mut size = 0;
        let rewrite = self.pieces(ino, &mut |piece| {
            size += piece.len() as u64;
            hasher.update(piece);
            Ok(())
        })?;
        let digest = hasher.finish();
        self.store.put(&digest, size, |out| {
            self.pieces(ino, &mut |piece| out.write_all(piece)).map(drop).map_err(std::io::Error::other)
        })?;
        Ok(Recorded { digest, size, rewrite, is_written: true })
    }

    /// Stores a content that is not in a file.
    pub fn text(&self, text: &str) -> Result<Recorded, SessionError> {
        let mut hasher = self.store.hasher();
        hasher.update(text.as_bytes());
        let (digest, size) = (hasher.finish(), text.len() as u64);
        self.store.put(&digest, size, |out: &mut dyn Write| out.write_all(text.as_bytes()))?;
        Ok(Recorded { digest, size, rewrite: Vec::new(), is_written: true })
    }

    /// Passes on the content in pieces, with each label replaced by the identity; returns the offsets.
    fn pieces(
        &self,
        ino: Ino,
        each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Vec<u64>, SessionError> {
        let (mut replacing, mut buffer, mut at) =
            (Replacing::new(self.label, self.identity), vec![0; PIECE], 0);
        loop {
            let length = self.vfs.read(ino, at, &mut buffer)?;
            if length == 0 {
                each(&replacing.finish())?;
                return Ok(replacing.found);
            }
            at += length as u64;
            each(&replacing.feed(&buffer[..length]))?;
        }
    }
}

/// Replaces one word by another of the same length in a stream, and records the offsets.
struct Replacing<'a> {
    finder: memmem::Finder<'a>,
    with: &'a [u8],
    /// The end of the previous piece, which may be the beginning of a word.
    tail: Vec<u8>,
    /// How many bytes were passed on.
    passed: u64,
    found: Vec<u64>,
}

impl<'a> Replacing<'a> {
    fn new(word: &'a [u8], with: &'a [u8]) -> Replacing<'a> {
        Replacing { finder: memmem::Finder::new(word), with, tail: Vec::new(), passed: 0, found: Vec::new() }
    }

    fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend_from_slice(piece);
        let mut end = 0;
        while let Some(at) = self.finder.find(&bytes[end..]) {
            let start = end + at;
            end = start + self.with.len();
            bytes[start..end].copy_from_slice(self.with);
            self.found.push(self.passed + start as u64);
        }
        let keep = (bytes.len() - end).min(self.with.len().saturating_sub(1));
        self.tail = bytes.split_off(bytes.len() - keep);
        self.passed += bytes.len() as u64;
        bytes
    }

    fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_replaced_wherever_the_pieces_end(
            text in "[ab]{0,40}",
            cuts in proptest::collection::vec(1usize..7, 1..20),
        ) {
            let mut replacing = Replacing::new(b"abab", b"XYZW");
            let (mut out, mut rest, mut cut) = (Vec::new(), text.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                out.extend(replacing.feed(piece));
                rest = after;
            }
            out.extend(replacing.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace("abab", "XYZW"));
            let expected: Vec<u64> = text.match_indices("abab").map(|(at, _)| at as u64).collect();
            prop_assert_eq!(replacing.found, expected);
        }
    }
}
