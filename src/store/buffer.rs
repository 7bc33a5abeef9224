//! A buffer for moving content, one for each thread.

use std::cell::RefCell;

/// The chunk size for moving content: a few hundred microseconds of work each.
pub const BUFFER: usize = 128 * 1024;

/// Lends the thread-local buffer of [`BUFFER`] bytes, so that small blobs cost no large allocation.
pub fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SPARE: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
    }
    let spare = SPARE.with_borrow_mut(Option::take);
    let mut buffer = spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
    let result = use_it(&mut buffer);
    SPARE.set(Some(buffer));
    result
}
