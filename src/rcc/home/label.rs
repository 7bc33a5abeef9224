//! Labels: the 24-byte names of spaces.

use std::fmt;

use crate::sys::fs::name::Name;

/// The name of a space below its base: 24 bytes of `[0-9A-Za-z_]`, the same length as the identity it replaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label([u8; 24]);

impl Label {
    /// Checks `bytes`: exactly 24 of `[0-9A-Za-z_]`.
    pub fn new(bytes: &[u8]) -> Option<Label> {
        let label: [u8; 24] = bytes.try_into().ok()?;
        let fine = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        label.iter().all(fine).then_some(Label(label))
    }

    /// The bytes, as they are written into relocated files.
    pub fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // ASCII by construction
    }

    /// The label as a checked name.
    pub fn as_name(&self) -> Name<'_> {
        Name::new(&self.0).unwrap_or_else(|_| unreachable!("a label is 24 bytes without a separator"))
    }
}

impl AsRef<[u8]> for Label {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_24_plain_bytes() {
        let label = Label::new(b"59acff1_5a1fac3_9fcd2534").unwrap();
        assert_eq!(label.to_string(), "59acff1_5a1fac3_9fcd2534");
        assert_eq!(label.as_name().as_bytes(), label.as_bytes());
        for bad in
            [&b""[..], b"59acff1_5a1fac3_9fcd253", b"59acff1_5a1fac3_9fcd25345", b"59acff1_5a1fac3_9fcd253/"]
        {
            assert_eq!(Label::new(bad), None);
        }
    }
}
