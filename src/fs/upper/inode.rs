//! The stored state of a changed or created inode.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sys::fs::bytes::{self, FileStat, Timestamp};

use super::Ino;

/// The kind of an inode. The numbers are those of the `S_IFMT` field, and are stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A named pipe.
    Fifo = 0o01,
    /// A character device.
    Char = 0o02,
    /// A directory.
    Dir = 0o04,
    /// A block device.
    Block = 0o06,
    /// A regular file.
    File = 0o10,
    /// A symbolic link.
    Link = 0o12,
    /// A socket.
    Socket = 0o14,
}

impl Kind {
    /// The kind with that number.
    pub fn from_number(number: u32) -> Option<Kind> {
        let all = [Kind::Fifo, Kind::Char, Kind::Dir, Kind::Block, Kind::File, Kind::Link, Kind::Socket];
        all.into_iter().find(|&kind| kind as u32 == number)
    }
}

/// A point in time: seconds since 1970, which may be negative, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// The current time of the clock that also stamps the files of the upper.
    pub fn now() -> Time {
        Time::from(bytes::now())
    }
}

impl From<Timestamp> for Time {
    fn from((seconds, nanos): Timestamp) -> Time {
        Time { seconds, nanos }
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Timestamp {
        (time.seconds, time.nanos)
    }
}

/// An inode of the upper. It contains everything about the inode, also for one of the catalog, except the bytes.
///
/// If `has_bytes` is set, size and times are those of the file that holds the bytes; see [`Inode::with_file`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// The kind; never changes.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device, else 0.
    pub rdev: u32,
    /// Link count; for a directory 2 plus one for each subdirectory. 0: removed, but kept until the kernel forgets it.
    pub nlink: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// The parent of a directory; meaningless for other kinds.
    pub parent: Ino,
    /// The bytes are in the upper; otherwise the catalog has them, or there are none.
    pub has_bytes: bool,
    /// The text of a symbolic link, else empty.
    pub target: Arc<[u8]>,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Inode {
    /// A new inode of `kind` with permissions `mode`, owned by root: one name, or two for a directory; every time is now.
    pub fn new(kind: Kind, mode: u16) -> Inode {
        let now = Time::now();
        Inode {
            kind,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            rdev: 0,
            nlink: if kind == Kind::Dir { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            parent: Ino::ROOT,
            has_bytes: false,
            target: Arc::from([]),
            xattrs: Xattrs::default(),
        }
    }

    /// The inode with the times of the file that holds its bytes. Access and modification times are the file's, because a write
    /// changes nothing else. The ctime is the later one of the row's (mode, owner, names) and the file's (bytes). Neither is lost
    /// when the process is killed: the row was committed and the file was written.
    pub fn with_file(mut self, file: &FileStat) -> Inode {
        self.atime = file.atime.into();
        self.mtime = file.mtime.into();
        self.ctime = self.ctime.max(file.ctime.into());
        self
    }
}

/// Extended attributes by name. An empty set needs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs(Option<Arc<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl Xattrs {
    /// The value of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.as_ref()?.get(name).map(Vec::as_slice)
    }

    /// All attributes, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().flat_map(|map| map.iter()).map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The total size of all names and values.
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Sets `name`, and returns its old value.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.to_vec(), value.to_vec())
    }

    /// Removes `name`, and returns its value.
    pub fn remove(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let removed = Arc::make_mut(self.0.as_mut()?).remove(name);
        if self.0.as_ref().is_some_and(|map| map.is_empty()) {
            self.0 = None;
        }
        removed
    }

    /// The format in the database: for each attribute, the lengths of name and value (4 bytes each, little endian), name, value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in self.iter() {
            for part in [name, value] {
                out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
            out.extend(name);
            out.extend(value);
        }
        out
    }

    /// Decodes that format; `None` if it is invalid.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Xattrs> {
        let mut xattrs = Xattrs::default();
        while !bytes.is_empty() {
            let (lengths, rest) = bytes.split_at_checked(8)?;
            let length =
                |at: usize| Some(u32::from_le_bytes(lengths.get(at..at + 4)?.try_into().ok()?) as usize);
            let (name, rest) = rest.split_at_checked(length(0)?)?;
            let (value, rest) = rest.split_at_checked(length(4)?)?;
            xattrs.set(name, value);
            bytes = rest;
        }
        Some(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xattrs_survive_their_encoding_and_damage_is_seen() {
        let mut xattrs = Xattrs::default();
        xattrs.set(b"user.a", b"");
        xattrs.set(b"user.\xff", &[0; 70_000]);
        let encoded = xattrs.encode();
        assert_eq!(Xattrs::decode(&encoded), Some(xattrs));
        assert_eq!(Xattrs::decode(&encoded[..encoded.len() - 1]), None);
        assert_eq!(Xattrs::decode(b""), Some(Xattrs::default()));
    }

    #[test]
    fn removing_the_last_xattr_leaves_none() {
        let mut xattrs = Xattrs::default();
        assert_eq!(xattrs.remove(b"user.a"), None);
        xattrs.set(b"user.a", b"1");
        assert_eq!(xattrs.remove(b"user.a"), Some(b"1".to_vec()));
        assert_eq!(xattrs, Xattrs::default());
    }

    #[test]
    fn a_kind_is_its_number() {
        for number in 0..20 {
            assert!(Kind::from_number(number).is_none_or(|kind| kind as u32 == number));
        }
        assert_eq!(Kind::from_number(0o10), Some(Kind::File));
    }
}
