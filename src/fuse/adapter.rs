//! Requests in, replies out: a few lines per operation.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use crate::vfs::{Listed, Listing, Vfs, VfsError};

use super::convert::{self, FOREVER};
use super::requests::{Opcode, Requests};

/// The largest read and write, in bytes: what the kernel takes (256 pages).
const MAX_TRANSFER: u32 = 1 << 20;

/// The capabilities that make the no-open path: whatever of it a kernel lacks costs requests, not correctness.
const WANTED: [InitFlags; 7] = [
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_NO_EXPORT_SUPPORT,
    InitFlags::FUSE_MAX_PAGES,
];

thread_local! {
    /// Where a thread reads content before it replies: reused, so that a read allocates nothing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A [`Vfs`] as `fuser` wants it.
pub struct Adapter {
    vfs: Arc<Vfs>,
    requests: Arc<Requests>,
}

impl Adapter {
    /// Serves `vfs`, counting in `requests`.
    pub fn new(vfs: Arc<Vfs>, requests: Arc<Requests>) -> Adapter {
        Adapter { vfs, requests }
    }

    /// The errno for a reply; what a person should know of is logged here, once per failure.
    fn errno(&self, opcode: Opcode, ino: INodeNo, error: &VfsError) -> Errno {
        if error.is_ordinary() {
            log::trace!("{opcode:?} {ino}: {error}");
        } else {
            log::error!("{opcode:?} {ino}: {error}");
        }
        convert::errno(error.errno())
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in WANTED {
            if config.add_capabilities(capability).is_err() {
                log::debug!("The kernel lacks {capability:?}");
            }
        }
        let limits = [config.set_max_write(MAX_TRANSFER), config.set_max_readahead(MAX_TRANSFER)];
        for nearest in limits.into_iter().filter_map(Result::err) {
            log::debug!("The kernel takes transfers of at most {nearest} bytes");
        }
        if config.set_max_background(64).is_err() || config.set_congestion_threshold(48).is_err() {
            log::debug!("The kernel keeps its own number of background requests");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.requests.count(Opcode::Lookup);
        match self.vfs.lookup(convert::ino(parent), name.as_bytes()) {
            Ok(attr) => reply.entry(&FOREVER, &convert::attr(&attr), Generation(0)),
            Err(VfsError::NoEntry) => reply.entry(&FOREVER, &convert::negative(), Generation(0)),
            Err(error) => reply.error(self.errno(Opcode::Lookup, parent, &error)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.requests.count(Opcode::Forget);
        self.vfs.forget(convert::ino(ino), nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.requests.count(Opcode::Getattr);
        match self.vfs.getattr(convert::ino(ino)) {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(error) => reply.error(self.errno(Opcode::Getattr, ino, &error)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.requests.count(Opcode::Readlink);
        match self.vfs.readlink(convert::ino(ino)) {
            Ok(target) => reply.data(target),
            Err(error) => reply.error(self.errno(Opcode::Readlink, ino, &error)),
        }
    }

    /// Answered ENOSYS, so that the kernel never asks again: see the module's text.
    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.requests.count(Opcode::Open);
        reply.error(Errno::ENOSYS);
    }

    /// As `open`; it also makes the kernel keep directory listings.
    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.requests.count(Opcode::Opendir);
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.requests.count(Opcode::Read);
        BUFFER.with_borrow_mut(|buffer| {
            let size = size.min(MAX_TRANSFER) as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.vfs.read(convert::ino(ino), offset, &mut buffer[..size]) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(error) => reply.error(self.errno(Opcode::Read, ino, &error)),
            }
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.requests.count(Opcode::Flush);
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.requests.count(Opcode::Readdir);
        match self.vfs.list(convert::ino(ino), offset, false, &mut Plain(&mut reply)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(Opcode::Readdir, ino, &error)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.requests.count(Opcode::Readdirplus);
        match self.vfs.list(convert::ino(ino), offset, true, &mut Plus(&mut reply)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(Opcode::Readdirplus, ino, &error)),
        }
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.requests.count(Opcode::Statfs);
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

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.requests.count(Opcode::Getxattr);
        match self.vfs.getxattr(convert::ino(ino), name.as_bytes()) {
            Ok(value) => sized(&value, size, reply),
            Err(error) => reply.error(self.errno(Opcode::Getxattr, ino, &error)),
        }
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.requests.count(Opcode::Listxattr);
        match self.vfs.listxattr(convert::ino(ino)) {
            Ok(names) => sized(&names, size, reply),
            Err(error) => reply.error(self.errno(Opcode::Listxattr, ino, &error)),
        }
    }

    /// Permissions are the kernel's affair (`default_permissions`).
    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.requests.count(Opcode::Access);
        reply.error(Errno::ENOSYS);
    }

    /// Python asks every file it opens whether it is a terminal.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.requests.count(Opcode::Ioctl);
        reply.error(Errno::ENOTTY);
    }
}

/// An extended attribute's reply: its size when asked for the size, ERANGE when it does not fit.
fn sized(value: &[u8], size: u32, reply: ReplyXattr) {
    let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(len),
        _ if size < len => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// READDIR's reply as a listing.
struct Plain<'a>(&'a mut ReplyDirectory);

impl Listing for Plain<'_> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        let attr = convert::attr(&entry.attr);
        self.0.add(attr.ino, entry.next, attr.kind, OsStr::from_bytes(entry.name))
    }
}

/// READDIRPLUS's reply as a listing.
struct Plus<'a>(&'a mut ReplyDirectoryPlus);

impl Listing for Plus<'_> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        let attr = convert::attr(&entry.attr);
        self.0.add(attr.ino, entry.next, OsStr::from_bytes(entry.name), &FOREVER, &attr, Generation(0))
    }
}
