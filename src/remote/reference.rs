//! References: the only mutable objects of a remote. A name refers to the head of an environment.

use serde::{Deserialize, Serialize};

use super::head::MAX_HEAD;
use super::object::{Object, ObjectId, ObjectKind};

/// The version of the layout.
const VERSION: u32 = 1;
/// The maximum length of a reference.
pub const MAX_REFERENCE: u64 = 64 << 10;
/// The maximum size of a profile.
pub const MAX_PROFILE: u64 = 8 << 20;

/// The value of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    version: u32,
    /// The head's name: the identity of the environment.
    pub head: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// RCC's name of the catalog; for display, never trusted.
    pub catalog: String,
    /// What runs read first, and its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Small>,
    /// A minisign signature over the text of the head's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// When it was written: seconds since 1970; for display, never trusted.
    pub created: u64,
}

/// A small object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Small {
    /// Its name.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

/// Why bytes are not a valid reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// It is not valid JSON of a reference.
    #[error("It is not the JSON of a reference")]
    Json(#[source] serde_json::Error),
    /// It is of another version of the layout.
    #[error("It is of version {0} of the layout; this program supports version {VERSION}")]
    Version(u32),
    /// A number in it is too large.
    #[error("Its {0} is too large")]
    TooLarge(&'static str),
}

impl Reference {
    /// A reference to a head.
    pub fn new(head: ObjectId, size: u64, catalog: String, created: u64) -> Reference {
        Reference { version: VERSION, head, size, catalog, profile: None, signature: None, created }
    }

    /// Parses a reference.
    pub fn parse(bytes: &[u8]) -> Result<Reference, ReferenceError> {
        let reference: Reference = serde_json::from_slice(bytes).map_err(ReferenceError::Json)?;
        match reference.version {
            VERSION if reference.size > MAX_HEAD => Err(ReferenceError::TooLarge("head")),
            VERSION if reference.profile.is_some_and(|profile| profile.size > MAX_PROFILE) => {
                Err(ReferenceError::TooLarge("profile"))
            }
            VERSION => Ok(reference),
            other => Err(ReferenceError::Version(other)),
        }
    }

    /// The text of the reference.
    pub fn to_json(&self) -> Vec<u8> {
        // A structure of texts and numbers can always be serialized.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The head as an object.
    pub fn head_object(&self) -> Object {
        Object { kind: ObjectKind::Head, id: self.head, size: self.size }
    }

    /// The profile as an object.
    pub fn profile_object(&self) -> Option<Object> {
        self.profile.map(|Small { id, size }| Object { kind: ObjectKind::Profile, id, size })
    }
}

/// True for a valid name of a reference: the rule of registries for tags, which every remote can follow.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= 128
        && bytes.first().copied().is_some_and(plain)
        && bytes.iter().all(|&byte| plain(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_its_text() {
        let mut reference = Reference::new(ObjectId::of(b"head"), 7, "c".to_owned(), 1);
        assert_eq!(Reference::parse(&reference.to_json()).unwrap(), reference);
        reference.profile = Some(Small { id: ObjectId::of(b"p"), size: 9 });
        reference.signature = Some("untrusted comment: x\ny".to_owned());
        assert_eq!(Reference::parse(&reference.to_json()).unwrap(), reference);
    }

    #[test]
    fn other_versions_and_sizes_are_refused() {
        let text =
            String::from_utf8(Reference::new(ObjectId::of(b"head"), 7, "c".to_owned(), 1).to_json()).unwrap();
        let parse = |text: &str| Reference::parse(text.as_bytes());
        assert!(matches!(
            parse(&text.replace(r#""version":1"#, r#""version":2"#)),
            Err(ReferenceError::Version(2))
        ));
        assert!(matches!(
            parse(&text.replace(r#""size":7"#, r#""size":900000000"#)),
            Err(ReferenceError::TooLarge("head"))
        ));
        for bad in ["", "{}", "[]", "null", &text[1..], &text.replace(r#""size":7"#, r#""size":-7"#)] {
            assert!(matches!(parse(bad), Err(ReferenceError::Json(_))), "{bad}");
        }
    }

    #[test]
    fn names_are_those_that_registries_take() {
        for good in ["latest", "v1.2-rc_3", "_x", "7", &"a".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "..", "a b", "ä", "a\0", &"a".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
