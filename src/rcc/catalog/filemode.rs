//! Go's `fs.FileMode`: the mode numbers in a catalog are these, not those of Unix.
//!
//! The lower nine bits are the permissions, as in Unix. What Unix has above them (setuid, setgid, sticky, the file type) is at other
//! positions here. Bits that RCC never writes are kept as they are; `validate` rejects them.

use std::fmt;

/// Bit 31: a directory.
const DIRECTORY: u32 = 1 << 31;
/// Bit 27: a symbolic link. RCC stats through links, so only links that were dangling when recorded have it.
const SYMLINK: u32 = 1 << 27;
/// Bit 23.
const SETUID: u32 = 1 << 23;
/// Bit 22.
const SETGID: u32 = 1 << 22;
/// Bit 20.
const STICKY: u32 = 1 << 20;
/// The permissions and the three bits above them.
const ALL_PERMISSIONS: u32 = 0o777 | SETUID | SETGID | STICKY;

/// The positions of the three upper permission bits: in Go, in Unix.
const UPPER: [(u32, u16); 3] = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];

/// A mode as stored in a catalog.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoMode(pub u32);

/// The kinds of entries that a catalog can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link itself, not its target.
    Symlink,
}

impl GoMode {
    /// The mode of a `kind` with the Unix permissions `perm12` (setuid, setgid and sticky included).
    pub fn from_unix(kind: EntryKind, perm12: u16) -> GoMode {
        let kind = match kind {
            EntryKind::Directory => DIRECTORY,
            EntryKind::File => 0,
            EntryKind::Symlink => SYMLINK,
        };
        let upper = UPPER.iter().filter(|&&(_, unix)| perm12 & unix != 0).map(|&(go, _)| go).sum::<u32>();
        GoMode(kind | upper | u32::from(perm12 & 0o777))
    }

    /// The twelve Unix permission bits.
    pub fn permissions(self) -> u16 {
        let upper = UPPER.iter().filter(|&&(go, _)| self.0 & go != 0).map(|&(_, unix)| unix).sum::<u16>();
        upper | (self.0 & 0o777) as u16
    }

    /// The kind, if the type bits are those of a kind that a catalog can contain.
    pub fn kind(self) -> Option<EntryKind> {
        match self.0 & !ALL_PERMISSIONS {
            DIRECTORY => Some(EntryKind::Directory),
            0 => Some(EntryKind::File),
            SYMLINK => Some(EntryKind::Symlink),
            _ => None,
        }
    }

    /// True for a directory.
    pub fn is_dir(self) -> bool {
        self.0 & DIRECTORY != 0
    }

    /// True for a symbolic link.
    pub fn is_symlink(self) -> bool {
        self.0 & SYMLINK != 0
    }

    /// True for a regular file: no type bit at all.
    pub fn is_file(self) -> bool {
        self.kind() == Some(EntryKind::File)
    }
}

impl fmt::Debug for GoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoMode({:#x}, {:04o})", self.0, self.permissions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_that_rcc_wrote() {
        assert_eq!(GoMode(2147484141).permissions(), 0o755);
        assert_eq!(GoMode(2147484141).kind(), Some(EntryKind::Directory));
        assert_eq!(GoMode(8389101).permissions(), 0o4755);
        assert_eq!(GoMode(4194797).permissions(), 0o2755);
        assert_eq!(GoMode(420).kind(), Some(EntryKind::File));
        assert_eq!(GoMode::from_unix(EntryKind::Directory, 0o1777), GoMode(2148532735));
    }

    #[test]
    fn every_permission_round_trips_with_every_kind() {
        for kind in [EntryKind::Directory, EntryKind::File, EntryKind::Symlink] {
            for perm12 in 0..=0o7777 {
                let mode = GoMode::from_unix(kind, perm12);
                assert_eq!((mode.permissions(), mode.kind()), (perm12, Some(kind)));
            }
        }
    }

    #[test]
    fn other_types_are_no_kind() {
        for bit in [30, 29, 28, 26, 25, 24, 21, 19, 18, 9] {
            assert_eq!(GoMode(1 << bit | 0o644).kind(), None, "bit {bit}");
        }
    }
}
