//! Decodes requests and sends replies: a few lines per operation.

mod answer;
mod reply;
pub(super) mod terms;
mod timed;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::fs::vfs::{New, SetAttr, Vfs, VfsError};

use super::convert::{self, FOREVER};
use super::created::Created;
use super::passthrough::Opens;
use super::requests::Opcode;
use super::{STATS, Telemetry, UNREAD};

use reply::{Plain, Plus, sized};
use terms::MAX_TRANSFER;

thread_local! {
    /// A buffer per thread for content to reply with: reused, so that a read allocates nothing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A [`Vfs`] behind the `fuser` trait.
pub struct Adapter {
    vfs: Arc<Vfs>,
    telemetry: Telemetry,
    opens: Arc<Opens>,
    created: Created,
}

impl Adapter {
    /// Serves `vfs`, measured by `telemetry`; `opens` decides how its files are opened.
    pub fn new(vfs: Arc<Vfs>, telemetry: Telemetry, opens: Arc<Opens>) -> Adapter {
        Adapter { vfs, telemetry, opens, created: Created::here() }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        terms::negotiate(config);
        self.opens.init(config);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut timed = self.asked(req, Opcode::Lookup, parent, (0, 0));
        match self.vfs.lookup(convert::ino(parent), name.as_bytes()) {
            Ok(attr) => {
                timed.found(attr.ino);
                self.found(&attr, reply);
            }
            Err(VfsError::NoEntry) => {
                timed.missed();
                self.telemetry.recorder.missed(req.pid(), convert::ino(parent), name.as_bytes());
                reply.entry(&FOREVER, &convert::negative(), Generation(0));
            }
            Err(error) => reply.error(self.errno(Opcode::Lookup, parent, &error)),
        }
    }

    fn forget(&self, req: &Request, ino: INodeNo, nlookup: u64) {
        let _timed = self.count(req, Opcode::Forget);
        self.vfs.forget(convert::ino(ino), nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let _timed = self.asked(req, Opcode::Getattr, ino, (0, 0));
        self.attr(Opcode::Getattr, ino, self.vfs.getattr(convert::ino(ino)), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _timed = self.count(req, Opcode::Setattr);
        let (mode, atime, mtime) =
            (mode.map(convert::mode), atime.map(convert::set_time), mtime.map(convert::set_time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime };
        let change = || self.vfs.setattr(convert::caller(req), convert::ino(ino), &set);
        let changed = if size.is_some() { self.opens.changing(ino, change) } else { Some(change()) };
        match changed {
            Some(attr) => self.attr(Opcode::Setattr, ino, attr, reply),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let _timed = self.asked(req, Opcode::Readlink, ino, (0, 0));
        match self.vfs.readlink(convert::ino(ino)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.errno(Opcode::Readlink, ino, &error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let timed = self.count(req, Opcode::Mknod);
        self.entry(Opcode::Mknod, parent, self.make_node(req, parent, name, mode, rdev), reply);
        self.answered(timed);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let _timed = self.count(req, Opcode::Mkdir);
        let (caller, mode) = (convert::caller(req), convert::mode(mode));
        let make = || self.vfs.make(caller, convert::ino(parent), name.as_bytes(), mode, New::Dir);
        let made = self.make_once(req, parent, name, make);
        self.entry(Opcode::Mkdir, parent, made, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _timed = self.count(req, Opcode::Symlink);
        let new = New::Link(target.as_os_str().as_bytes());
        let caller = convert::caller(req);
        let make = || self.vfs.make(caller, convert::ino(parent), name.as_bytes(), 0o777, new);
        let made = self.make_once(req, parent, name, make);
        self.entry(Opcode::Symlink, parent, made, reply);
    }

    fn link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _timed = self.count(req, Opcode::Link);
        let link = || self.vfs.link(convert::ino(ino), convert::ino(parent), name.as_bytes());
        let linked = self.make_once(req, parent, name, link);
        self.entry(Opcode::Link, ino, linked, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Unlink);
        let removed = self.once(req, || self.vfs.unlink(convert::ino(parent), name.as_bytes()));
        self.empty(Opcode::Unlink, parent, removed, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Rmdir);
        let removed = self.once(req, || self.vfs.rmdir(convert::ino(parent), name.as_bytes()));
        self.empty(Opcode::Rmdir, parent, removed, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _timed = self.count(req, Opcode::Rename);
        let (from, to) = (convert::ino(parent), convert::ino(new_parent));
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let rename = |mode| self.once(req, || self.vfs.rename(from, name, to, new_name, mode));
        let renamed = convert::rename_mode(flags).and_then(rename);
        self.empty(Opcode::Rename, parent, renamed, reply);
    }

    /// See [`Created`]. With passthrough, the table of open files needs every open, so it must come as an OPEN.
    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let timed = self.count(req, Opcode::Create);
        let opened = if self.opens.is_on() { None } else { self.created.open(OpenFlags(flags)) };
        let Some(opened) = opened else { return reply.error(Errno::ENOSYS) };
        match self.make_node(req, parent, name, mode, 0) {
            Ok(attr) => {
                let shown = convert::attr(&attr);
                reply.created(&FOREVER, &shown, Generation(0), FileHandle(0), opened);
                self.answered(timed);
            }
            Err(error) => reply.error(self.errno(Opcode::Create, parent, &error)),
        }
    }

    /// Answered with ENOSYS except for passthrough, so that the kernel never sends it again: see the module's text.
    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.asked(req, Opcode::Open, ino, (0, 0));
        if self.opens.is_on() {
            self.telemetry.recorder.read(req.pid(), convert::ino(ino), 0, 1); // there will be no READ to record
        }
        if let Err((error, reply)) = self.opens.open(&self.vfs, ino, flags, reply) {
            reply.error(self.errno(Opcode::Open, ino, &error));
        }
    }

    /// Sent only for passthrough, or for a file that was created before any OPEN.
    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.count(req, Opcode::Release);
        self.opens.release(ino);
        self.empty(Opcode::Release, ino, Ok(()), reply);
    }

    /// Answered with ENOSYS, so that the kernel never sends it again; it then also caches directory listings.
    fn opendir(&self, req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.count(req, Opcode::Opendir);
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut timed = self.asked(req, Opcode::Read, ino, (offset, size));
        self.telemetry.recorder.read(req.pid(), convert::ino(ino), offset, size);
        BUFFER.with_borrow_mut(|buffer| {
            let size = size.min(MAX_TRANSFER) as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.vfs.read(convert::ino(ino), offset, &mut buffer[..size]) {
                Ok(count) => {
                    timed.got(count);
                    reply.data(&buffer[..count]);
                }
                Err(error) => reply.error(self.errno(Opcode::Read, ino, &error)),
            }
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _timed =
            self.asked(req, Opcode::Write, ino, (offset, u32::try_from(data.len()).unwrap_or(u32::MAX)));
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written = self.vfs.write(convert::ino(ino), offset, data, drop_privileges);
        self.written(Opcode::Write, ino, written.map(|count| count as u64), reply);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        from: INodeNo,
        _from_fh: FileHandle,
        at: u64,
        to: INodeNo,
        _to_fh: FileHandle,
        to_at: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _timed = self.count(req, Opcode::CopyFileRange);
        let copied = self.vfs.copy_range(convert::ino(from), at, convert::ino(to), to_at, len);
        self.written(Opcode::CopyFileRange, to, copied, reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _timed = self.count(req, Opcode::Fallocate);
        let done = self.vfs.allocate(convert::ino(ino), offset, len, mode.cast_unsigned());
        self.empty(Opcode::Fallocate, ino, done, reply);
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _timed = self.count(req, Opcode::Lseek);
        let found = convert::seek(whence, offset)
            .and_then(|(sought, offset)| self.vfs.seek(convert::ino(ino), offset, sought));
        match found {
            Ok(offset) => reply.offset(offset.cast_signed()),
            Err(error) => reply.error(self.errno(Opcode::Lseek, ino, &error)),
        }
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Fsync);
        self.empty(Opcode::Fsync, ino, self.vfs.sync(convert::ino(ino), data_only), reply);
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Fsyncdir);
        self.empty(Opcode::Fsyncdir, ino, self.vfs.sync(convert::ino(ino), data_only), reply);
    }

    fn flush(&self, req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Flush);
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _timed = self.asked(req, Opcode::Readdir, ino, (0, 0));
        match self.vfs.list(convert::ino(ino), offset, false, &mut Plain(&mut reply)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(Opcode::Readdir, ino, &error)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _timed = self.asked(req, Opcode::Readdirplus, ino, (0, 0));
        match self.vfs.list(convert::ino(ino), offset, true, &mut Plus(&mut reply, &self.opens)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(Opcode::Readdirplus, ino, &error)),
        }
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let _timed = self.count(req, Opcode::Statfs);
        match self.vfs.statfs() {
            Ok(disk) => reply.statfs(
                disk.blocks,
                disk.free,
                disk.available,
                disk.files,
                disk.files_free,
                disk.block_size,
                255,
                disk.block_size,
            ),
            Err(error) => reply.error(self.errno(Opcode::Statfs, ino, &error)),
        }
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _timed = self.count(req, Opcode::Getxattr);
        if ino == INodeNo::ROOT && name == STATS {
            return sized(&self.telemetry.stats(self.opens.io()), size, reply);
        }
        if ino == INodeNo::ROOT && name == UNREAD {
            return sized(&self.telemetry.unread(), size, reply);
        }
        if ino == INodeNo::ROOT
            && let Some(wanted) = timed::wanted(name)
        {
            return self.page(req, wanted, size, reply);
        }
        match self.vfs.getxattr(convert::ino(ino), name.as_bytes()) {
            Ok(value) => sized(&value, size, reply),
            Err(error) => reply.error(self.errno(Opcode::Getxattr, ino, &error)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let _timed = self.count(req, Opcode::Listxattr);
        match self.vfs.listxattr(convert::ino(ino)) {
            Ok(names) => sized(&names, size, reply),
            Err(error) => reply.error(self.errno(Opcode::Listxattr, ino, &error)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _timed = self.count(req, Opcode::Setxattr);
        let mode = convert::set_mode(flags);
        let set = self.once(req, || self.vfs.setxattr(convert::ino(ino), name.as_bytes(), value, mode));
        self.empty(Opcode::Setxattr, ino, set, reply);
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Removexattr);
        let removed = self.once(req, || self.vfs.removexattr(convert::ino(ino), name.as_bytes()));
        self.empty(Opcode::Removexattr, ino, removed, reply);
    }

    /// The kernel checks permissions (`default_permissions`).
    fn access(&self, req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let _timed = self.count(req, Opcode::Access);
        reply.error(Errno::ENOSYS);
    }

    /// Python checks for every file it opens whether it is a terminal.
    fn ioctl(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let _timed = self.count(req, Opcode::Ioctl);
        reply.error(Errno::ENOTTY);
    }
}
