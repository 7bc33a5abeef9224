//! Memory that is filled block by block: each block once, when it is first used. A filled block never changes.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes that come in blocks of equal size; the last one may be shorter.
#[derive(Debug)]
pub struct Blocks {
    start: NonNull<u8>,
    len: usize,
    block: usize,
    filled: Box<[AtomicBool]>,
    /// Held while a block is filled.
    filling: Mutex<()>,
}

impl Blocks {
    /// `len` bytes in blocks of `block` bytes (not 0). A block that is never used takes no memory.
    pub fn new(len: usize, block: usize) -> io::Result<Blocks> {
        let filled = (0..len.div_ceil(block)).map(|_| AtomicBool::new(false)).collect();
        Ok(Blocks { start: memory::take(len)?, len, block, filled, filling: Mutex::new(()) })
    }

    /// All bytes, as [`Blocks::get`].
    pub fn all<E>(&self, fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>) -> Result<&[u8], E> {
        Ok(self.get(0..self.len, fill)?.unwrap_or_default())
    }

    /// The bytes in `range`; `None` if there are fewer. `fill` fills each of their blocks that is not filled yet, given its number.
    pub fn get<E>(
        &self,
        range: Range<usize>,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<&[u8]>, E> {
        if range.start > range.end || range.end > self.len {
            return Ok(None);
        }
        for number in range.start / self.block..range.end.div_ceil(self.block) {
            if !self.filled[number].load(Ordering::Acquire) {
                self.fill(number, &mut fill)?;
            }
        }
        // SAFETY: the range is within the memory, which lives as long as `self`, and all of its blocks are filled: nothing writes
        // to them any more.
        #[allow(unsafe_code)]
        Ok(Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }))
    }

    fn fill<E>(
        &self,
        number: usize,
        fill: &mut impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if self.filled[number].load(Ordering::Acquire) {
            return Ok(());
        }
        let at = number * self.block;
        let len = self.block.min(self.len - at);
        // SAFETY: the block is within the memory. It is not filled, so there is no other reference to it, and the lock keeps other
        // threads from filling it.
        #[allow(unsafe_code)]
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(at), len) };
        fill(number, bytes)?;
        self.filled[number].store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: the memory is that from `new`, and no reference outlives `self`.
        #[allow(unsafe_code)]
        unsafe {
            memory::give_back(self.start, self.len);
        }
    }
}

/// Memory of zeros from the kernel: an allocator may write them itself.
#[cfg(unix)]
mod memory {
    use std::io;
    use std::ptr::{NonNull, null_mut};

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    pub fn take(len: usize) -> io::Result<NonNull<u8>> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing of ours.
        #[allow(unsafe_code)]
        let start = unsafe { mmap_anonymous(null_mut(), len.max(1), access, MapFlags::PRIVATE) }?;
        NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    /// `start` is from [`take`] with this `len`, and nothing refers to it.
    #[allow(unsafe_code)]
    pub unsafe fn give_back(start: NonNull<u8>, len: usize) {
        // SAFETY: the caller says so.
        if let Err(error) = unsafe { munmap(start.as_ptr().cast(), len.max(1)) } {
            log::error!("Cannot unmap {len} bytes: {error}");
        }
    }
}

/// Memory of zeros.
#[cfg(not(unix))]
mod memory {
    use std::io;
    use std::ptr::{NonNull, slice_from_raw_parts_mut};

    pub fn take(len: usize) -> io::Result<NonNull<u8>> {
        Ok(NonNull::from(Box::leak(vec![0_u8; len].into_boxed_slice())).cast())
    }

    /// # Safety
    /// `start` is from [`take`] with this `len`, and nothing refers to it.
    #[allow(unsafe_code)]
    pub unsafe fn give_back(start: NonNull<u8>, len: usize) {
        // SAFETY: this is the boxed slice from `take`.
        drop(unsafe { Box::from_raw(slice_from_raw_parts_mut(start.as_ptr(), len)) });
    }
}

// SAFETY: the bytes belong to this value alone.
#[allow(unsafe_code)]
unsafe impl Send for Blocks {}
// SAFETY: bytes are written under the lock before their block counts as filled, and never afterwards.
#[allow(unsafe_code)]
unsafe impl Sync for Blocks {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Fills a block with its number plus 1.
    fn number(number: usize, bytes: &mut [u8]) -> Result<(), ()> {
        bytes.fill(u8::try_from(number).unwrap() + 1);
        Ok(())
    }

    #[test]
    fn get_fills_only_the_blocks_of_its_range() {
        let blocks = Blocks::new(10, 4).unwrap();
        let mut filled = Vec::new();
        let mut fill = |at: usize, bytes: &mut [u8]| {
            filled.push((at, bytes.len()));
            number(at, bytes)
        };
        assert_eq!(blocks.get(3..5, &mut fill).unwrap().unwrap(), [1, 2]);
        assert_eq!(blocks.get(4..8, &mut fill).unwrap().unwrap(), [2; 4]);
        assert_eq!(blocks.get(8..8, &mut fill).unwrap().unwrap(), [0; 0]);
        assert_eq!(blocks.get(0..10, &mut fill).unwrap().unwrap(), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
        assert_eq!(filled, [(0, 4), (1, 4), (2, 2)]);
    }

    #[test]
    fn get_beyond_the_end_is_none_and_fills_nothing() {
        let blocks = Blocks::new(10, 4).unwrap();
        let fill = |_: usize, _: &mut [u8]| Err("filled");
        #[allow(clippy::reversed_empty_ranges, reason = "a caller may pass one")]
        for range in [0..11, 11..11, 5..3, usize::MAX - 1..usize::MAX] {
            assert_eq!(blocks.get(range, fill), Ok(None));
        }
        assert_eq!(Blocks::new(0, 4).unwrap().get(0..0, fill), Ok(Some(&[][..])));
    }

    #[test]
    fn block_that_could_not_be_filled_is_filled_the_next_time() {
        let blocks = Blocks::new(10, 4).unwrap();
        assert_eq!(blocks.get(0..10, |at, bytes| if at == 1 { Err(()) } else { number(at, bytes) }), Err(()));
        assert_eq!(blocks.get(3..5, number).unwrap().unwrap(), [1, 2]);
    }

    #[test]
    fn threads_fill_each_block_once() {
        let (blocks, count) = (Blocks::new(4096, 8).unwrap(), AtomicUsize::new(0));
        let fill = |at: usize, bytes: &mut [u8]| {
            count.fetch_add(1, Ordering::Relaxed);
            bytes.fill(at.to_le_bytes()[0]);
            Ok::<(), ()>(())
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for at in 0..4096 {
                        assert_eq!(
                            blocks.get(at..at + 1, fill).unwrap().unwrap()[0],
                            (at / 8).to_le_bytes()[0]
                        );
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 512);
    }
}
