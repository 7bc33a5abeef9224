//! Digests: the names of blobs.
//!
//! RCC has two regimes. A compressed hololib names a blob by the SHA-256 of its raw content (64 hex digits); a hololib with
//! `catalog/compress.no` names it by SipHash-2-4-128 with the key `Very_Random-Seed` (32 hex digits). The length of the text
//! determines the regime, and a [`Digest`] is always well formed, so it can be joined to a path.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use sha2::Digest as _;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::sys::text::hex;

/// The key of RCC's 128 bit SipHash: 16 ASCII bytes.
const SIP_KEY: &[u8; 16] = b"Very_Random-Seed";

/// Which hash function names a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Regime {
    /// SHA-256, 64 hex digits; blobs are gzip.
    Sha256,
    /// SipHash-2-4-128, 32 hex digits; blobs are raw.
    SipHash128,
}

/// The digest of a file's raw content, before any relocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SipHash-2-4-128, both halves little endian, as RCC prints it.
    SipHash128([u8; 16]),
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Not a digest (64 or 32 lowercase hex digits): {text:?}")]
pub struct BadDigest {
    /// The text, cut to 80 characters.
    pub text: String,
}

impl Digest {
    /// The regime this digest belongs to.
    pub fn regime(&self) -> Regime {
        match self {
            Digest::Sha256(_) => Regime::Sha256,
            Digest::SipHash128(_) => Regime::SipHash128,
        }
    }

    /// The digest's bytes: 32 or 16.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::SipHash128(bytes) => bytes,
        }
    }

    /// The digest of `content` in `regime`.
    pub fn of(regime: Regime, content: &[u8]) -> Digest {
        let mut hasher = Hasher::new(regime);
        hasher.update(content);
        hasher.finish()
    }

    /// A digest from its bytes: 32 or 16 of them, anything else is `None`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Digest> {
        if let Ok(sha) = bytes.try_into() {
            return Some(Digest::Sha256(sha));
        }
        bytes.try_into().ok().map(Digest::SipHash128)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    /// Accepts exactly 64 or 32 *lowercase* hex digits, the only forms RCC writes.
    fn from_str(text: &str) -> Result<Digest, BadDigest> {
        let bad = || BadDigest { text: text.chars().take(80).collect() };
        match text.len() {
            64 => decode_hex(text).map(Digest::Sha256).ok_or_else(bad),
            32 => decode_hex(text).map(Digest::SipHash128).ok_or_else(bad),
            _ => Err(bad()),
        }
    }
}

fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A running digest computation.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SipHash-2-4-128 with RCC's key.
    SipHash128(SipHasher24),
}

impl Hasher {
    /// A new hasher of `regime`.
    pub fn new(regime: Regime) -> Hasher {
        match regime {
            Regime::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Regime::SipHash128 => Hasher::SipHash128(SipHasher24::new_with_key(SIP_KEY)),
        }
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(sha) => sha.update(bytes),
            Hasher::SipHash128(sip) => sip.write(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(sha) => Digest::Sha256(sha.finalize().into()),
            Hasher::SipHash128(sip) => Digest::SipHash128(sip.finish128().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_matches_the_vectors_of_rcc() {
        let vectors = [
            ("", "457d3202e0db95686547f60ad99125ac"),
            ("hello\n", "79385034bd2529e675348170617088f5"),
            ("abcdefgh", "b0de8e0ad2653d2cd97af540ce2d24af"),
        ];
        for (content, expected) in vectors {
            assert_eq!(Digest::of(Regime::SipHash128, content.as_bytes()).to_string(), expected);
        }
    }

    #[test]
    fn text_and_bytes_round_trip_in_both_regimes() {
        for regime in [Regime::Sha256, Regime::SipHash128] {
            let digest = Digest::of(regime, b"x");
            assert_eq!(digest.to_string().parse(), Ok(digest));
            assert_eq!(Digest::from_bytes(digest.as_bytes()), Some(digest));
            assert_eq!(digest.regime(), regime);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let upper = "AA".repeat(32);
        let long = "a".repeat(1 << 20);
        let path = format!("../../{}", "a".repeat(58));
        for text in ["", "abc", "N/A", &upper, &long, &path, &"g".repeat(32)] {
            assert!(text.parse::<Digest>().is_err(), "accepted {text:.40}");
        }
    }
}
