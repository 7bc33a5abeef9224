//! Names: one component of a path, validated once.
//!
//! A [`Name`] is 1 to 255 bytes (on Windows UTF-16 units) without `/` and NUL, and neither `.` nor `..`. Names from a catalog, the
//! kernel or a command line become a `Name` at the edge, and inner code does not check them again. A [`RelPath`] is a sequence of
//! names and so cannot leave the directory it is used in.

use std::ffi::OsStr;
use std::fmt;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The maximum length of a name on file systems: in bytes, on Windows in UTF-16 units.
pub const NAME_MAX: usize = 255;

/// A checked name, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

/// A checked name, owned.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnedName(Box<[u8]>);

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name is empty.
    #[error("The name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("The name is {0:?}")]
    Dots(String),
    /// It holds a `/` or a NUL (and on Windows a `\` or `:`).
    #[error("The name {0:?} holds a separator or NUL")]
    Separator(String),
    /// Windows interprets it as something else, or as another name.
    #[error("The name {0:?} is not valid on Windows")]
    Windows(String),
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
            _ if length(bytes) > NAME_MAX => Err(BadName::TooLong(bytes.len())),
            _ if bytes.iter().any(|&byte| is_separator(byte)) => Err(BadName::Separator(shown())),
            _ if cfg!(windows) && !is_sound_on_windows(bytes) => Err(BadName::Windows(shown())),
            _ => Ok(Name(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The name as the operating system expects it.
    #[cfg(unix)]
    pub fn as_os_str(self) -> &'a OsStr {
        OsStr::from_bytes(self.0)
    }

    /// The name as the operating system expects it.
    #[cfg(windows)]
    pub fn as_os_str(self) -> &'a OsStr {
        OsStr::new(self.as_str())
    }

    /// The name as text.
    #[cfg(windows)]
    pub fn as_str(self) -> &'a str {
        // It was checked when the name was created; the replacement cannot be the name of a file.
        std::str::from_utf8(self.0).unwrap_or("?")
    }

    /// An owned copy.
    pub fn to_owned(self) -> OwnedName {
        OwnedName(self.0.into())
    }
}

/// The length of a name as file systems of this platform count it.
fn length(name: &[u8]) -> usize {
    if !cfg!(windows) {
        return name.len();
    }
    std::str::from_utf8(name).map_or(name.len(), |text| text.encode_utf16().count())
}

/// True for the path separators of this platform, and for NUL.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | 0) || (cfg!(windows) && matches!(byte, b'\\' | b':'))
}

/// True if Windows creates exactly the file of that name, in this directory: not a device, not a stream of another file, and with
/// nothing cut off at its end.
fn is_sound_on_windows(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return false };
    let is_odd = |symbol: char| symbol < ' ' || r#"<>:"/\|?*"#.contains(symbol);
    !text.contains(is_odd) && !text.ends_with(['.', ' ']) && !is_device(text)
}

/// True for names that mean a device in every directory, whatever follows a dot or colon.
fn is_device(name: &str) -> bool {
    let base = name.split(['.', ':']).next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let is_numbered = |of: &str| {
        let number = base.strip_prefix(of).map(|rest| rest.chars().collect::<Vec<char>>());
        number.is_some_and(|rest| matches!(rest[..], ['0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']))
    };
    let is_known = matches!(base.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$");
    is_known || is_numbered("COM") || is_numbered("LPT")
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

    /// Parses a text with `/` between names; empty components are rejected.
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

    /// The relative path as the operating system expects it.
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
    fn what_windows_takes_for_something_else_is_known() {
        let odd = [
            "a:b",
            "a\\b",
            "a?",
            "<a>",
            "a|b",
            "a*",
            "\"",
            "a\t",
            "a.",
            "a ",
            "...",
            "CON",
            "con.txt",
            "Nul",
            "aux .h",
            "COM1",
            "lpt9.x.y",
            "COM\u{b9}",
            "CONIN$",
            "prn",
        ];
        assert_eq!(odd.map(|name| is_sound_on_windows(name.as_bytes())), [false; 20]);
        assert!(!is_sound_on_windows(b"\xff"));
        let sound = ["a", ".a", "a b", "console", "COM", "COM10", "nul1", "xCON", "a.con", "\u{e4}", "CONIN"];
        assert_eq!(sound.map(|name| is_sound_on_windows(name.as_bytes())), [true; 11]);
    }

    #[test]
    #[cfg(windows)]
    fn no_name_here_is_something_else() {
        for name in ["nul", "a:b", "..\\a", "C:", "a."] {
            assert!(Name::new(name.as_bytes()).is_err(), "{name}");
        }
        let (longest, longer) = ("\u{20ac}".repeat(255), "\u{20ac}".repeat(256));
        assert!(Name::new(longest.as_bytes()).is_ok());
        assert_eq!(Name::new(longer.as_bytes()), Err(BadName::TooLong(768)));
    }

    #[test]
    #[cfg(unix)]
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
