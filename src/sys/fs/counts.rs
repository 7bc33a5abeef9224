//! Counters that outlive the process that updates them: in an anonymous memory file that its successor maps too.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::memfd;

/// A fixed number of counters, initially 0. Counters that are never touched cost nothing.
#[derive(Debug)]
pub struct Counts {
    file: File,
    start: NonNull<AtomicU32>,
    len: usize,
}

impl Counts {
    /// Creates `len` counters.
    pub fn new(len: usize) -> io::Result<Counts> {
        let file = memfd::create()?;
        file.set_len(len as u64 * size_of::<AtomicU32>() as u64)?;
        Counts::of(file)
    }

    /// The counters in `file`, which another process created.
    pub fn of(file: File) -> io::Result<Counts> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing of ours.
        #[allow(unsafe_code)]
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Counts { file, start, len: bytes / size_of::<AtomicU32>() })
    }

    /// The file with the counters, for the process that continues counting.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Deref for Counts {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is live until drop, page-aligned, and as long as the file, which is never truncated; all zeros is a
        // valid counter, and other processes that map it use atomic operations only.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.len)
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and no slice outlives `self`.
        #[allow(unsafe_code)]
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<AtomicU32>()) };
        if let Err(error) = unmapped {
            log::error!("Cannot unmap {} counters: {error}", self.len);
        }
    }
}

// SAFETY: atomic counters may be used from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Counts {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Counts {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn who_maps_the_file_goes_on_counting() {
        let first = Counts::new(1 << 30).unwrap();
        first[0].fetch_add(2, Ordering::Relaxed);
        first[(1 << 30) - 1].fetch_add(3, Ordering::Relaxed);
        let second = Counts::of(first.file().try_clone().unwrap()).unwrap();
        drop(first);
        assert_eq!(second[0].fetch_add(1, Ordering::Relaxed), 2);
        assert_eq!(second[(1 << 30) - 1].load(Ordering::Relaxed), 3);
        assert_eq!((second.len(), second[1].load(Ordering::Relaxed)), (1 << 30, 0));
    }
}
