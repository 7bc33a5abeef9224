//! Objects of a remote: named by the SHA-256 of their bytes, written once, never changed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rcc::digest::{BadDigest, Digest, Regime};

/// The SHA-256 of an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 32]);

impl ObjectId {
    /// The name of the object with these bytes.
    pub fn of(bytes: &[u8]) -> ObjectId {
        match Digest::of(Regime::Sha256, bytes) {
            Digest::Sha256(id) => ObjectId(id),
            Digest::SipHash128(_) => unreachable!("SHA-256 was requested"),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest::Sha256(self.0).fmt(f)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<ObjectId, BadDigest> {
        match text.parse()? {
            Digest::Sha256(id) => Ok(ObjectId(id)),
            Digest::SipHash128(_) => Err(BadDigest { text: text.to_owned() }),
        }
    }
}

impl Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<ObjectId, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kind of an object; in a bucket it determines the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A head.
    Head,
    /// A pack.
    Pack,
    /// A profile.
    Profile,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [ObjectKind; 3] = [ObjectKind::Head, ObjectKind::Pack, ObjectKind::Profile];
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Head => "head",
            ObjectKind::Pack => "pack",
            ObjectKind::Profile => "profile",
        })
    }
}

/// An object: its kind, name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_json_and_nothing_else_is_one() {
        let id = ObjectId::of(b"x");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<ObjectId>(&json).unwrap(), id);
        for text in ["\"\"", "\"../x\"", "7", &format!("\"{}\"", "a".repeat(32)), &json.to_uppercase()] {
            assert!(serde_json::from_str::<ObjectId>(text).is_err(), "{text}");
        }
    }
}
