//! A file in memory: mapped read-only, or read as a whole.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The whole file as bytes that the kernel pages in on demand and shares between processes.
///
/// The file must not be truncated while it is mapped: only map files that were published by rename below a directory of our own, and
/// never write to them.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    len: usize,
}

impl Mapped {
    /// Maps `file`; an empty file is an error of kind `InvalidInput`.
    pub fn new(file: &File) -> io::Result<Mapped> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a fresh private read-only mapping at an address of the kernel's choice overlaps nothing of ours.
        #[allow(unsafe_code)]
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapped { start, len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are those of a live mapping, readable until drop, and nothing writes to it.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.len)
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and no slice outlives `self`.
        #[allow(unsafe_code)]
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        if let Err(error) = unmapped {
            log::error!("Cannot unmap {} bytes: {error}", self.len);
        }
    }
}

// SAFETY: the bytes are immutable for as long as the mapping lives.
#[allow(unsafe_code)]
unsafe impl Send for Mapped {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Mapped {}

/// The content of `file`, which has `len` bytes. The kernel provides the memory for a large one at once, not page by page.
pub fn read_whole(mut file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    populate(bytes.spare_capacity_mut());
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Provides the pages of `memory`. That only saves page faults: an older kernel does not know the call.
#[cfg(target_os = "linux")]
fn populate(memory: &mut [MaybeUninit<u8>]) {
    const LARGE: usize = 64 << 10;
    let page = rustix::param::page_size();
    let before = memory.as_ptr().align_offset(page);
    let Some(whole) = memory.get_mut(before..).filter(|whole| whole.len() >= LARGE) else { return };
    let len = whole.len() / page * page;
    let advice = rustix::mm::Advice::LinuxPopulateWrite;
    // SAFETY: these are whole pages of `memory`, and their content stays as it is.
    #[allow(unsafe_code)]
    let populated = unsafe { rustix::mm::madvise(whole.as_mut_ptr().cast(), len, advice) };
    if let Err(error) = populated {
        log::trace!("{len} bytes are not populated: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(_memory: &mut [MaybeUninit<u8>]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_whole_returns_all_bytes_of_small_and_large_files() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, 4096, (64 << 10) - 1, (1 << 20) + 1] {
            let bytes: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0]).collect();
            std::fs::write(dir.path().join("file"), &bytes).unwrap();
            let file = File::open(dir.path().join("file")).unwrap();
            assert!(read_whole(&file, bytes.len()).unwrap() == bytes, "{len}");
        }
    }
}
