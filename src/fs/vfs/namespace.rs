//! Creating, linking and removing names.

use crate::fs::upper::{Inode, Kind};
use crate::store::index::Ino;
use crate::sys::fs::name::Name;

use super::{Attr, Caller, Vfs, VfsError};

/// The setgid bit: entries created in such a directory get the directory's group.
const SETGID: u16 = 0o2000;
/// The maximum number of created and changed inodes of a space, because they are kept in memory. The same as the maximum number of
/// entries of a catalog; documented in docs/limits.md.
const MOST_INODES: usize = 4 << 20;

/// What to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New<'a> {
    /// An empty file.
    File,
    /// An empty directory.
    Dir,
    /// A symbolic link with this target.
    Link(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with this number.
    Char(u32),
    /// A block device with this number.
    Block(u32),
}

impl New<'_> {
    fn kind(self) -> Kind {
        match self {
            New::File => Kind::File,
            New::Dir => Kind::Dir,
            New::Link(_) => Kind::Link,
            New::Fifo => Kind::Fifo,
            New::Socket => Kind::Socket,
            New::Char(_) => Kind::Char,
            New::Block(_) => Kind::Block,
        }
    }
}

impl Vfs {
    /// Creates `name` in `dir` with the permissions `mode`, to which the umask was already applied. Returns its attributes, and
    /// counts one kernel reference.
    pub fn make(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u16,
        new: New<'_>,
    ) -> Result<Attr, VfsError> {
        let name = Name::new(name)?;
        let (mut change, [found]) = self.change_entries([(dir, name)], &[])?;
        let parent = change.directory(dir)?;
        if found.is_some() {
            return Err(VfsError::Exists);
        }
        if change.upper.inode_count() >= MOST_INODES {
            return Err(VfsError::TooManyInodes);
        }
        let ino = match new {
            New::File => change.tx.create_file()?,
            _ => change.upper.new_ino()?,
        };
        let kind = new.kind();
        let mut inode = Inode { parent: dir, uid: caller.uid, gid: caller.gid, ..Inode::new(kind, mode) };
        if parent.mode & SETGID != 0 {
            inode.gid = parent.gid;
            inode.mode |= if kind == Kind::Dir { SETGID } else { 0 };
        }
        match new {
            New::File => inode.has_bytes = true,
            New::Link(target) => inode.target = target.into(),
            New::Char(rdev) | New::Block(rdev) => inode.rdev = rdev,
            New::Dir | New::Fifo | New::Socket => {}
        }
        change.tx.put(ino, inode);
        change.link(dir, name, ino, kind);
        change.touch(dir, i32::from(kind == Kind::Dir))?;
        change.commit(None)?;
        self.referenced(ino)
    }

    /// Prepares for the next creation, if one is expected soon. Call it after the answer to the last one.
    pub fn prepare(&self) {
        if let Ok(upper) = self.writer() {
            upper.prepare_file();
        }
    }

    /// Adds a name to `ino`. Returns its attributes, and counts one more kernel reference.
    pub fn link(&self, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attr, VfsError> {
        let name = Name::new(name)?;
        let (mut change, [found]) = self.change_entries([(dir, name)], &[ino])?;
        change.directory(dir)?;
        if found.is_some() {
            return Err(VfsError::Exists);
        }
        let inode = change.inode(ino)?;
        match inode.kind {
            Kind::Dir => return Err(VfsError::NotPermitted("A directory has one name only")),
            _ if inode.nlink == 0 => return Err(VfsError::NoEntry),
            kind => change.link(dir, name, ino, kind),
        }
        change.edit(ino, |inode| inode.nlink += 1)?;
        change.touch(dir, 0)?;
        change.commit(None)?;
        self.referenced(ino)
    }

    /// Removes `name`, which is not a directory, from `dir`.
    pub fn unlink(&self, dir: Ino, name: &[u8]) -> Result<(), VfsError> {
        let name = Name::new(name)?;
        let (mut change, [found]) = self.change_entries([(dir, name)], &[])?;
        change.directory(dir)?;
        let ino = found.ok_or(VfsError::NoEntry)?;
        if change.inode(ino)?.kind == Kind::Dir {
            return Err(VfsError::IsADirectory(ino));
        }
        change.unlink(dir, name);
        change.lose_name(ino)?;
        change.touch(dir, 0)?;
        change.commit(Some(ino))
    }

    /// Removes the empty directory `name` from `dir`.
    pub fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<(), VfsError> {
        let name = Name::new(name)?;
        let (mut change, [found]) = self.change_entries([(dir, name)], &[])?;
        change.directory(dir)?;
        let ino = found.ok_or(VfsError::NoEntry)?;
        change.directory(ino)?;
        change.ensure_empty(ino)?;
        change.unlink(dir, name);
        change.lose_name(ino)?;
        change.touch(dir, -1)?;
        change.commit(Some(ino))
    }
}
