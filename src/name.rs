//! Names: one component of a path, checked once.
//!
//! A [`Name`] is 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`: whatever comes from a catalog, the kernel or
//! a command line becomes a `Name` at the edge, and no inner code checks it again. A [`RelPath`] is a sequence of names
//! and so cannot leave the directory it is used in.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;

/// The longest name that Linux file systems take, in bytes.
pub const NAME_MAX: usize = 255;

/// A checked name, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

/// A checked name, owned.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedName(Box<[u8]>);

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name has no byte.
    #[error("The name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("The name is {0:?}")]
    Dots(String),
    /// It holds a `/` or a NUL (and on Windows a `\` or `:`).
    #[error("The name {0:?} holds a separator or NUL")]
    Separator(String),
    /// It is longer than [`NAME_MAX`].
    #[error("The name has {0} bytes, more than 255")]
    TooLong(usize),
}

impl<'a> Name<'a> {
    /// Checks `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, BadName> {
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        match bytes {
            b"" => Err(BadName::Empty),
            b"." | b".." => Err(BadName::Dots(shown())),
            _ if bytes.len() > NAME_MAX => Err(BadName::TooLong(bytes.len())),
            _ if bytes.iter().any(|&byte| is_separator(byte)) => Err(BadName::Separator(shown())),
            _ => Ok(Name(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name as the operating system takes it.
    #[cfg(unix)]
    pub fn as_os_str(self) -> &'a OsStr {
        OsStr::from_bytes(self.0)
    }

    /// An owned copy.
    pub fn to_owned(self) -> OwnedName {
        OwnedName(self.0.into())
    }
}

/// True for what separates components on this platform, and for NUL.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | 0) || (cfg!(windows) && matches!(byte, b'\\' | b':'))
}

impl OwnedName {
    /// Checks `bytes` and copies them.
    pub fn new(bytes: &[u8]) -> Result<OwnedName, BadName> {
        Name::new(bytes).map(Name::to_owned)
    }

    /// The borrowed form.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for OwnedName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.0).escape_debug())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for OwnedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl fmt::Debug for OwnedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

/// A path of checked names below some directory: it cannot be absolute and cannot climb.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(Vec<OwnedName>);

impl RelPath {
    /// The directory itself.
    pub fn root() -> RelPath {
        RelPath::default()
    }

    /// Checks a text with `/` between names; empty components are refused.
    pub fn parse(text: &[u8]) -> Result<RelPath, BadName> {
        text.split(|&byte| byte == b'/').map(OwnedName::new).collect::<Result<_, _>>().map(RelPath)
    }

    /// Goes one level down.
    pub fn push(&mut self, name: OwnedName) {
        self.0.push(name);
    }

    /// The names, outermost first.
    pub fn names(&self) -> &[OwnedName] {
        &self.0
    }

    /// The path as the operating system takes it, relative.
    #[cfg(unix)]
    pub fn to_path(&self) -> PathBuf {
        self.0.iter().map(|name| name.as_name().as_os_str()).collect()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if position == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_directory_is_no_name() {
        assert_eq!(Name::new(b""), Err(BadName::Empty));
        assert_eq!(Name::new(b".."), Err(BadName::Dots("..".into())));
        assert_eq!(Name::new(b"."), Err(BadName::Dots(".".into())));
        assert_eq!(Name::new(b"a/b"), Err(BadName::Separator("a/b".into())));
        assert_eq!(Name::new(b"a\0"), Err(BadName::Separator("a\0".into())));
        assert_eq!(Name::new(&[b'a'; 256]), Err(BadName::TooLong(256)));
    }

    #[test]
    fn ordinary_and_odd_names_are_names() {
        for name in [&b"a"[..], b"...", b" ", b"\xff\xfe", b".wh.x", &[b'a'; 255]] {
            assert_eq!(Name::new(name).map(Name::as_bytes), Ok(name));
        }
    }

    #[test]
    fn a_relative_path_cannot_climb() {
        assert!(RelPath::parse(b"a/../b").is_err());
        assert!(RelPath::parse(b"/a").is_err());
        assert!(RelPath::parse(b"a//b").is_err());
        assert_eq!(RelPath::parse(b"a/b").map(|path| path.to_string()), Ok("a/b".to_owned()));
    }
}
