//! Conversion between our types and those of the protocol.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};

use crate::fs::vfs::{Attr, Caller, Kind, New, RenameMode, Seek, SetMode, SetTime, Time, VfsError};
use crate::store::index::Ino;
use crate::sys::errno::Errno;
use crate::sys::mount::connection::RESENT;

/// The bits of a mode that contain the kind, and the kinds.
const KIND: u32 = 0o170000;
const FIFO: u32 = 0o010000;
const CHAR: u32 = 0o020000;
const BLOCK: u32 = 0o060000;
const FILE: u32 = 0o100000;
const SOCKET: u32 = 0o140000;
/// `whence` of lseek(2).
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// Flags of setxattr(2).
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;

/// Effectively infinite for the kernel's clock (34 years).
pub const FOREVER: Duration = Duration::from_secs(1 << 30);

/// An error number for a reply.
pub fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

/// Set in the number of a node that replaced another node of the same inode: see [`super::passthrough`].
pub const MOVED: u64 = 1 << 63;

/// The inode of a node.
pub fn ino(node: INodeNo) -> Ino {
    Ino(node.0 & !MOVED)
}

/// The user of a request.
pub fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

/// The 12 permission bits of a mode.
pub fn mode(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// What MKNOD creates; a mode without a kind means a file.
pub fn new(mode: u32, rdev: u32) -> Result<New<'static>, VfsError> {
    match mode & KIND {
        0 | FILE => Ok(New::File),
        FIFO => Ok(New::Fifo),
        SOCKET => Ok(New::Socket),
        CHAR => Ok(New::Char(rdev)),
        BLOCK => Ok(New::Block(rdev)),
        _ => Err(VfsError::Invalid("There is no such kind of node")),
    }
}

/// The mode of RENAME2. Whiteouts are refused: they are for overlay file systems, and would be invisible here.
pub fn rename_mode(flags: RenameFlags) -> Result<RenameMode, VfsError> {
    match flags {
        _ if flags.is_empty() => Ok(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(VfsError::Invalid("There is no such kind of rename")),
    }
}

/// The target of LSEEK; the kernel handles all other `whence` values itself.
pub fn seek(whence: i32, offset: i64) -> Result<(Seek, u64), VfsError> {
    let offset = u64::try_from(offset).map_err(|_| VfsError::BeyondEnd)?;
    match whence {
        SEEK_DATA => Ok((Seek::Data, offset)),
        SEEK_HOLE => Ok((Seek::Hole, offset)),
        _ => Err(VfsError::Invalid("There is no such kind of seek")),
    }
}

/// Whether an extended attribute must exist.
pub fn set_mode(flags: i32) -> SetMode {
    match flags & (XATTR_CREATE | XATTR_REPLACE) {
        XATTR_CREATE => SetMode::Create,
        XATTR_REPLACE => SetMode::Replace,
        _ => SetMode::Either,
    }
}

/// A time to set. `fuser` represents -5 s and 7 ns as 5 s and 7 ns *before* 1970; convert it back accordingly.
pub fn set_time(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else { return SetTime::Now };
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SetTime::At(Time { seconds: seconds(since), nanos: since.subsec_nanos() }),
        Err(before) => {
            let before = before.duration();
            SetTime::At(Time { seconds: -seconds(before), nanos: before.subsec_nanos() })
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The attributes in the protocol's form.
pub fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// A negative entry, which the kernel caches as a miss: inode 0.
pub fn negative() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// The number of a request, the same when it is resent.
pub fn number(req: &Request) -> u64 {
    req.unique().0 & !RESENT
}

/// True if the kernel resent it, because the previous server did not answer.
pub fn is_resent(req: &Request) -> bool {
    req.unique().0 & RESENT != 0
}

fn time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Link => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}
