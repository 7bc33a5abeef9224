//! Attributes of an inode.

use crate::tree::{FileNode, Ino, Node, NodeKind};

use super::{Vfs, VfsError, View};

/// The time RCC gives every restored file: 2021-01-07T06:13:20Z.
pub const MOTHER_TIME: Time = Time { seconds: 1_610_000_000, nanos: 0 };

/// A moment: seconds since 1970, which may be negative, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Names; of a directory: 2 and one for each subdirectory.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device, else 0.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl Vfs {
    /// The attributes of `ino`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr, VfsError> {
        Ok(catalog_attr(&self.node(ino)?, &self.view))
    }
}

/// How the catalog's own entry looks in a space.
pub(super) fn catalog_attr(node: &Node<'_>, view: &View) -> Attr {
    let (kind, mode, nlink, size) = match node.kind {
        NodeKind::Dir { subdirs } => (Kind::Dir, view.dir_mode, 2 + subdirs, 4096),
        NodeKind::File(FileNode { size, .. }) => (Kind::File, node.mode, 1, size),
        NodeKind::Link { target } => (Kind::Link, 0o777, 1, target.len() as u64),
    };
    Attr {
        ino: node.ino,
        kind,
        mode,
        nlink,
        uid: view.uid,
        gid: view.gid,
        rdev: 0,
        size,
        blocks: size.div_ceil(512),
        atime: MOTHER_TIME,
        mtime: MOTHER_TIME,
        ctime: MOTHER_TIME,
    }
}
