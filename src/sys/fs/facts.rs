//! Facts about files and disks, in types that are the same on every platform.

use std::io;

use crate::sys::fs::name::OwnedName;

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: OwnedName,
    /// Its kind.
    pub kind: DirEntryKind,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirEntryKind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Its 12 permission bits; on Windows 0666 or 0444.
        mode: u16,
    },
    /// A symbolic link, or on Windows a junction, with its target text.
    Link(Box<[u8]>),
    /// A device, FIFO or socket.
    Other,
}

/// The permissions of directories that RCC creates, less the umask, where the platform has permissions.
pub const DIR_MODE: u16 = 0o750;

/// Detects changes to the entries of a directory: adding, removing, renaming or replacing one changes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirState {
    /// The device.
    pub device: u64,
    /// The inode number.
    pub ino: u64,
    /// Time of the last status change, which no program can set: seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// The facts of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// The device and the inode number; on Windows the volume and the file number.
    pub id: (u64, u64),
    /// The size in bytes.
    pub size: u64,
    /// The 12 permission bits; on Windows 0666 or 0444.
    pub mode: u16,
    /// The owner; always the same on Windows.
    pub uid: u32,
    /// Time of the last content change: seconds and nanoseconds.
    pub mtime: (i64, u64),
    /// The time of the last status change, which no user can set; on Windows always zero.
    pub changed: (i64, u64),
    /// The later of the last access, as far as it is recorded, and the last status change (on Windows the creation), in seconds.
    pub last_use: i64,
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such entry.
    #[error("There is no such file")]
    Missing,
    /// The name, or a directory on the way, is a link.
    #[error("It is a symbolic link, or is behind one")]
    Link,
    /// The entry is not a regular file.
    #[error("It is a {0}, not a file")]
    NotRegular(&'static str),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// Blocks and inodes of a file system.
pub struct Usage {
    /// Bytes per block, as counted here.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// All inodes; 0 where they are not counted.
    pub files: u64,
    /// Free inodes; the maximum number where they have no limit.
    pub files_free: u64,
}
