//! Attributes of an inode: those of the upper, if it has the inode, otherwise the catalog's.

use crate::fs::upper::{FIRST_CREATED, Inode, Kind, Time, UpperError, Xattrs};
use crate::store::index::{FileNode, Ino, Node, NodeKind};
use crate::sys::fs::bytes::FileStat;

use super::{Vfs, VfsError, View};

/// The time RCC gives every restored file: 2021-01-07T06:13:20Z.
pub const MOTHER_TIME: Time = Time { seconds: 1_610_000_000, nanos: 0 };
/// The size shown for a directory.
const DIR_BYTES: u64 = 4096;
/// The size shown for a file whose bytes are lost: not 0, so that programs try to read it and get the error.
const LOST_BYTES: u64 = 1;

/// The result of `stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// The kind.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Link count; for a directory 2 plus one for each subdirectory.
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
        let Some(upper) = self.written() else { return self.catalog_attr(ino) };
        match upper.attributes(ino) {
            Ok(Some((inode, file))) => Ok(self.inode_attr(ino, &inode, file.as_ref())),
            Ok(None) => self.catalog_attr(ino),
            Err(UpperError::Lost { .. }) => {
                let inode = upper.inode(ino).ok_or(VfsError::NoSuchInode(ino))?;
                Ok(Attr { size: LOST_BYTES, ..self.inode_attr(ino, &inode, None) })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn catalog_attr(&self, ino: Ino) -> Result<Attr, VfsError> {
        Ok(catalog_attr(&self.node(ino)?, &self.view))
    }

    /// The attributes of an inode of the upper; `file` is the `stat` of its bytes.
    fn inode_attr(&self, ino: Ino, inode: &Inode, file: Option<&FileStat>) -> Attr {
        let size = match (inode.kind, file) {
            (_, Some(file)) => file.size,
            (Kind::Dir, None) => DIR_BYTES,
            (Kind::Link, None) => inode.target.len() as u64,
            (Kind::File, None) => self.catalog_file(ino).map_or(0, |(file, _)| file.size),
            (Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block, None) => 0,
        };
        Attr {
            ino,
            kind: inode.kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size,
            blocks: file.map_or_else(|| size.div_ceil(512), |file| file.blocks),
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
        }
    }

    /// The inode in the form of the upper, made from the catalog if the upper does not have it.
    pub(super) fn inode(&self, ino: Ino) -> Result<Inode, VfsError> {
        if let Some(inode) = self.written().and_then(|upper| upper.inode(ino)) {
            return Ok(inode);
        }
        let node = self.node(ino)?;
        let attr = catalog_attr(&node, &self.view);
        Ok(Inode {
            kind: attr.kind,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            rdev: 0,
            nlink: attr.nlink,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            parent: node.parent,
            has_bytes: false,
            target: match node.kind {
                NodeKind::Link { target } => target.into(),
                _ => [].into(),
            },
            xattrs: Xattrs::default(),
        })
    }

    /// The catalog's file with this inode number, and its mode in the catalog.
    pub(super) fn catalog_file(&self, ino: Ino) -> Option<(FileNode<'_>, u16)> {
        let node = self.index.node(ino).filter(|_| ino.0 < FIRST_CREATED)?;
        match node.kind {
            NodeKind::File(file) => Some((file, node.mode)),
            _ => None,
        }
    }
}

/// The attributes of an unchanged catalog entry.
pub(super) fn catalog_attr(node: &Node<'_>, view: &View) -> Attr {
    let (kind, mode, nlink, size) = match node.kind {
        NodeKind::Dir { subdirs } => (Kind::Dir, view.dir_mode, 2 + subdirs, DIR_BYTES),
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
