//! File contents: cloning and copying with holes, and times to the nanosecond, including those before 1970.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

/// Seconds since 1970, and nanoseconds after that second.
pub type Timestamp = (i64, u32);

/// The metadata of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Length in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

impl From<rustix::fs::Stat> for FileStat {
    // The field types differ between architectures: on some of them a cast is a no-op.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    fn from(stat: rustix::fs::Stat) -> FileStat {
        FileStat {
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            atime: (stat.st_atime as i64, stat.st_atime_nsec as u32),
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// The metadata of an open file.
pub fn stat(file: &File) -> io::Result<FileStat> {
    Ok(rustix::fs::fstat(file)?.into())
}

/// The current time of the kernel's file time clock: never later than the time of a file written next.
pub fn now() -> Timestamp {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::RealtimeCoarse;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Realtime;
    let now = rustix::time::clock_gettime(clock);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Sets the times of `file`; `None` leaves a time unchanged.
pub fn set_times(file: &File, atime: Option<Timestamp>, mtime: Option<Timestamp>) -> io::Result<()> {
    let spec = |time: Option<Timestamp>| {
        let (seconds, nanos) = time.unwrap_or((0, 0));
        let nanos = if time.is_none() { rustix::fs::UTIME_OMIT } else { nanos.into() };
        Timespec { tv_sec: seconds, tv_nsec: nanos }
    };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Sets the times of `file` to those of a file that is created now.
pub fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

/// The outcome of an attempt to share blocks.
#[derive(Debug)]
pub enum Cloned {
    /// `target` now has the content of `source` and shares its blocks.
    Yes,
    /// Not possible for this pair of files; others on the same file system may work.
    NotThese(io::Error),
    /// The file system of `target` does not support it.
    Never(io::Error),
}

/// Makes `target` share all blocks of `source`. An error is one that a copy would hit too.
pub fn clone(source: &File, target: &File) -> io::Result<Cloned> {
    let Err(error) = super::clone::reflink(source, target) else { return Ok(Cloned::Yes) };
    match Errno::from_io_error(&error) {
        Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => Ok(Cloned::Never(error)),
        Some(Errno::XDEV | Errno::INVAL | Errno::PERM) => Ok(Cloned::NotThese(error)),
        Some(_) => Err(error),
        None => Ok(Cloned::Never(error)),
    }
}

/// Copies the first `len` bytes of `source` into the empty `target`, keeping holes. A source that is shorter is an error of kind
/// `UnexpectedEof`.
pub fn copy_sparse(source: &File, target: &File, len: u64) -> io::Result<()> {
    if source.metadata()?.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut at = 0;
    while at < len {
        let (start, end) = next_data(source, at, len)?;
        copy_range(source, target, start, end)?;
        at = end;
    }
    target.set_len(len)
}

/// The next range of `source` with data, from `at` and before `len`; an empty one at `len` if there is none.
fn next_data(source: &File, at: u64, len: u64) -> io::Result<(u64, u64)> {
    let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok((len, len)),
        Err(Errno::INVAL) => return Ok((at, len)), // holes cannot be queried here
        Err(errno) => return Err(errno.into()),
    };
    let end = rustix::fs::seek(source, SeekFrom::Hole(start)).unwrap_or(len);
    Ok((start.min(len), end.min(len)))
}

/// Where data or a hole begins at or after `offset`; `None` if the file has no more of it.
pub fn seek(file: &File, offset: u64, sought: Sought) -> io::Result<Option<u64>> {
    let from = match sought {
        Sought::Data => SeekFrom::Data(offset),
        Sought::Hole => SeekFrom::Hole(offset),
    };
    match rustix::fs::seek(file, from) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What to look for in a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// Written bytes.
    Data,
    /// A hole.
    Hole,
}

/// Allocates or frees a range of `file`, with the flags of fallocate(2).
#[cfg(target_os = "linux")]
pub fn allocate(file: &File, flags: u32, offset: u64, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::from_bits_retain(flags), offset, len)?)
}

/// Allocates or frees a range of `file`: not supported here.
#[cfg(not(target_os = "linux"))]
pub fn allocate(_file: &File, _flags: u32, _offset: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Copies up to `len` bytes from offset `from` of one file to offset `to` of another, sharing blocks where the file system can.
/// Returns the number of bytes; fewer than requested means the end of the source.
pub fn copy_part(source: &File, from: u64, target: &File, to: u64, len: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut buffer = Vec::new();
    let mut done = 0;
    while done < len {
        match copy_some(source, from + done, target, to + done, len - done)? {
            Some(0) => break,
            Some(count) => done += count,
            None => {
                buffer.resize(usize::try_from(len - done).unwrap_or(usize::MAX).min(1 << 20), 0);
                let count = source.read_at(&mut buffer, from + done)?;
                target.write_all_at(&buffer[..count], to + done)?;
                done += count as u64;
                if count == 0 {
                    break;
                }
            }
        }
    }
    Ok(done)
}

/// One attempt by the kernel; `None` if it does not support these files.
#[cfg(target_os = "linux")]
fn copy_some(source: &File, from: u64, target: &File, to: u64, len: u64) -> io::Result<Option<u64>> {
    let (mut from, mut to) = (from, to);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), len) {
        Ok(count) => Ok(Some(count as u64)),
        Err(Errno::INTR) => copy_some(source, from, target, to, len as u64),
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_some(_source: &File, _from: u64, _target: &File, _to: u64, _len: u64) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Copies the bytes of `start..end` to the same offsets.
fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let done = copy_in_kernel(source, target, start, end)?;
    copy_through_memory(source, target, done, end)
}

/// Copies as much as the kernel can by itself; returns where the rest begins.
#[cfg(target_os = "linux")]
fn copy_in_kernel(source: &File, target: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let rest = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), rest) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(to)
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_source: &File, _target: &File, start: u64, _end: u64) -> io::Result<u64> {
    Ok(start)
}

fn copy_through_memory(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = Vec::new();
    let mut at = start;
    while at < end {
        buffer.resize(usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20), 0);
        source.read_exact_at(&mut buffer, at)?;
        target.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all_at(b"head", 0).unwrap();
        source.write_all_at(b"middle", 8 << 20).unwrap();
        source.set_len(16 << 20).unwrap();
        copy_sparse(&source, &target, 12 << 20).unwrap();
        let mut middle = [0; 8];
        target.read_exact_at(&mut middle, 8 << 20).unwrap();
        assert_eq!(&middle, b"middle\0\0");
        assert_eq!(stat(&target).unwrap().size, 12 << 20);
        assert!(stat(&target).unwrap().blocks * 512 <= 64 << 10, "the holes were filled");
    }

    #[test]
    fn a_source_that_is_too_short_is_an_error() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all_at(b"head", 0).unwrap();
        let error = copy_sparse(&source, &target, 5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn times_before_1970_are_kept() {
        let file = tempfile::tempfile().unwrap();
        set_times(&file, None, Some((-5, 7))).unwrap();
        assert_eq!(stat(&file).unwrap().mtime, (-5, 7));
        set_times(&file, Some((9, 1)), None).unwrap();
        assert_eq!(stat(&file).unwrap().atime, (9, 1));
        assert_eq!(stat(&file).unwrap().mtime, (-5, 7));
    }
}
