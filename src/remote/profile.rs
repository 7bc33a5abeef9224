//! What runs read first, according to a remote: an untrusted hint, so it is limited in size, and unknown names are dropped.
//!
//! As text: `holofs-remote-profile 1`, then a line `<digest> <chunk>` for each chunk of [`CHUNK`](super::frame::CHUNK) bytes.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::head::{Head, chunks};
use crate::rcc::digest::Digest;

const HEAD_LINE: &str = "holofs-remote-profile 1\n";
/// The maximum number of items: importing the largest libraries needs a tenth of that.
const MAX_ITEMS: usize = 60_000;

/// Distinct chunks of blobs, in the order in which they are needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile(Vec<(Digest, u64)>);

impl Profile {
    /// A profile of these chunks.
    pub fn new(items: impl IntoIterator<Item = (Digest, u64)>) -> Profile {
        let mut seen = HashSet::new();
        Profile(items.into_iter().filter(|item| seen.insert(*item)).take(MAX_ITEMS).collect())
    }

    /// Parses a profile; items that are not in `head` are dropped. Invalid bytes give an empty profile.
    pub fn parse(bytes: &[u8], head: &Head) -> Profile {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.strip_prefix(HEAD_LINE).unwrap_or_default().lines();
        let item = |line: &str| {
            let (digest, chunk) = line.split_once(' ')?;
            let (digest, chunk) = (digest.parse().ok()?, chunk.parse().ok()?);
            let blob = head.blob(&digest)?;
            (chunk < chunks(blob.size)).then_some((digest, chunk))
        };
        Profile::new(lines.filter_map(item))
    }

    /// The profile as text.
    pub fn to_text(&self) -> String {
        let mut text = HEAD_LINE.to_owned();
        for (digest, chunk) in &self.0 {
            // Writing to a string cannot fail.
            writeln!(text, "{digest} {chunk}").unwrap_or_default();
        }
        text
    }

    /// The chunks in order.
    pub fn items(&self) -> &[(Digest, u64)] {
        &self.0
    }

    /// Its distinct blobs in the order of their first chunks.
    pub fn blobs(&self) -> Vec<Digest> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(digest, _)| *digest).filter(|digest| seen.insert(*digest)).collect()
    }
}

/// The distinct items in the text of a profile, in order; whether such blobs and chunks exist is not known.
pub fn items(bytes: &[u8]) -> Vec<(Digest, u64)> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.strip_prefix(HEAD_LINE).unwrap_or_default().lines().take(MAX_ITEMS);
    let item = |line: &str| {
        let (digest, chunk) = line.split_once(' ')?;
        Some((digest.parse().ok()?, chunk.parse().ok()?))
    };
    Profile::new(lines.filter_map(item)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::remote::head::tests::head_of;

    #[test]
    fn what_the_head_does_not_have_is_dropped_and_doubles_too() {
        let contents = [b"one".to_vec(), vec![3; 300_000]];
        let head = head_of(&contents);
        let digests = contents.each_ref().map(|content| Digest::of(Regime::Sha256, content));
        let profile = Profile::new([(digests[1], 1), (digests[0], 0)]);
        let text = profile.to_text();
        assert_eq!(Profile::parse(text.as_bytes(), &head), profile);
        assert_eq!(profile.blobs(), [digests[1], digests[0]]);
        let stranger = Digest::of(Regime::Sha256, b"x");
        let hostile = format!(
            "{text}{stranger} 0\n{} 2\n{} 1\nx y\n../x 0\n{} -1\n",
            digests[1], digests[1], digests[0]
        );
        assert_eq!(Profile::parse(hostile.as_bytes(), &head), profile);
        assert_eq!(Profile::parse(b"\xff\xfe", &head), Profile::default());
    }
}
