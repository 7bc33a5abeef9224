//! A disk with a volatile cache, as real disks have: a power cut loses any part of what was written since the last flush.
//!
//! The disk is a file in a FUSE file system of this process, for a loop device. Nothing is cached above it, so each write and each
//! flush of the device is a request here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use holofs::sys::mount::{self, MountId, Mountpoint, Options};

use super::random::Random;
use super::run;

/// The name of the disk in its file system.
const NAME: &str = "disk";
const DISK: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// The unit that a disk writes completely or not at all.
const BLOCK: usize = 4096;

/// A simulated disk.
pub struct CachingDisk {
    cells: Arc<Mutex<Cells>>,
    durable: PathBuf,
    point: PathBuf,
    id: MountId,
}

/// The content of the disk, with its cache and without.
struct Cells {
    now: File,
    durable: File,
    /// The writes since the last flush, in order.
    cached: Vec<(u64, Vec<u8>)>,
}

impl CachingDisk {
    /// A disk with the content of the file `image`, with its files in the directory `dir`.
    pub fn new(image: &Path, dir: &Path) -> CachingDisk {
        let (durable, point) = (dir.join("durable"), dir.join("cached"));
        copy(image, &durable);
        fs::create_dir(&point).unwrap();
        let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
        let cells = Cells { now: open(image), durable: open(&durable), cached: Vec::new() };
        let bytes = cells.now.metadata().unwrap().len();
        let cells = Arc::new(Mutex::new(cells));
        let (device, id) = mount::mount_fuse(&Mountpoint::open(&point).unwrap(), Options::default()).unwrap();
        let served = Served { cells: Arc::clone(&cells), bytes };
        let session =
            fuser::Session::from_fd(served, device, fuser::SessionACL::All, fuser::Config::default());
        drop(session.unwrap().spawn().unwrap()); // it serves until the file system is detached and unused
        CachingDisk { cells, durable, point, id }
    }

    /// The disk.
    pub fn path(&self) -> PathBuf {
        self.point.join(NAME)
    }

    /// Copies to `to` what a power cut leaves at this moment: flushed data, and a part of the later writes, chosen by the number.
    pub fn cut(&self, to: &Path, luck: u64) {
        let cells = lock(&self.cells);
        copy(&self.durable, to);
        let left = File::options().write(true).open(to).unwrap();
        let mut random = Random::new(luck);
        let all = cells.cached.len() as u64;
        let (part, sooner) = (luck % 4, if all == 0 { 0 } else { random.below(all) });
        for (at, (offset, bytes)) in (0..).zip(&cells.cached) {
            let is_left = match part {
                0 => false,
                1 => at < sooner,
                2 => random.below(2) == 0,
                _ => true,
            };
            if is_left {
                for (block, bytes) in (0..).zip(bytes.chunks(BLOCK)) {
                    if part != 3 || random.below(2) == 0 {
                        left.write_all_at(bytes, offset + block * BLOCK as u64).unwrap();
                    }
                }
            }
        }
    }
}

impl Drop for CachingDisk {
    fn drop(&mut self) {
        mount::detach(&self.point, self.id).ok();
    }
}

fn lock(cells: &Mutex<Cells>) -> MutexGuard<'_, Cells> {
    cells.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args([Path::new("--reflink=always"), from, to]));
}

/// The file system with the disk.
struct Served {
    cells: Arc<Mutex<Cells>>,
    bytes: u64,
}

impl Served {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let (kind, size) =
            if ino == DISK { (FileType::RegularFile, self.bytes) } else { (FileType::Directory, 0) };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &self.attr(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        let cells = lock(&self.cells);
        match cells.now.read_at(&mut bytes, offset) {
            Ok(count) => reply.data(&bytes[..count]),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut cells = lock(&self.cells);
        cells.cached.push((offset, data.to_owned()));
        match cells.now.write_all_at(data, offset) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let mut cells = lock(&self.cells);
        for (offset, bytes) in std::mem::take(&mut cells.cached) {
            cells.durable.write_all_at(&bytes, offset).unwrap();
        }
        reply.ok();
    }

    /// Not supported, so the device does not discard blocks and writes zeros itself.
    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _len: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
