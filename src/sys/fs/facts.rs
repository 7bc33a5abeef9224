//! What the operating system tells of files and disks, in types that are the same on every system.

use std::io;

use crate::sys::fs::name::OwnedName;

/// An entry as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: OwnedName,
    /// What stands there.
    pub kind: FoundKind,
}

/// What stands at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Its 12 permission bits; on Windows 0666 or 0444.
        mode: u16,
    },
    /// A symbolic link, or on Windows a junction, with its text.
    Link(Box<[u8]>),
    /// A device, FIFO or socket.
    Other,
}

/// The permissions of directories that RCC makes, less the umask, where there are any.
pub const DIR_MODE: u16 = 0o750;

/// What tells a file that was changed, or replaced, from the one that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The inode number, or on Windows that of the file.
    pub ino: u64,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change of content: seconds and nanoseconds.
    pub mtime: (i64, i64),
}

/// What tells a directory whose entries were changed from what it was: whoever adds, removes, renames or replaces one changes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirStamp {
    /// The device.
    pub device: u64,
    /// The inode number.
    pub ino: u64,
    /// The time of the last change of state, which no program can set: seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// What the system tells of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// The device and the inode number; on Windows the volume and the number of the file in it.
    pub id: (u64, u64),
    /// The size in bytes.
    pub size: u64,
    /// The 12 permission bits; on Windows 0666 or 0444.
    pub mode: u16,
    /// The owner; on Windows there is but one.
    pub uid: u32,
    /// The time of the last change of content: seconds and nanoseconds.
    pub mtime: (i64, u64),
    /// The time of the last change of anything, which no user can set; on Windows always zero.
    pub changed: (i64, u64),
    /// The later of the last access, as far as it is noted, and the last change of state (on Windows the making), in seconds.
    pub last_use: i64,
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such name.
    #[error("There is no such file")]
    Missing,
    /// The name, or a directory on the way, is a link.
    #[error("It is a symbolic link, or is behind one")]
    Link,
    /// Something else than a file stands there.
    #[error("It is a {0}, not a file")]
    NotRegular(&'static str),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// Blocks and inodes of a file system.
pub struct Usage {
    /// Bytes of a block, as they are counted here.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// All inodes; 0 where they are not counted.
    pub files: u64,
    /// Free inodes; all there can be where they have no limit.
    pub files_free: u64,
}
