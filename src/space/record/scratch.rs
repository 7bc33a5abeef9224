//! Memory for whole files: fresh memory for each would take longer than reading it.

use std::cell::RefCell;

/// Longer buffers are not kept: there is one set for each thread.
const LONGEST_KEPT: usize = 4 << 20;

/// Lends a buffer of `len` bytes with any content. Calls can be nested.
pub(super) fn with_scratch<T>(len: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer = vec![0; len];
    }
    let result = use_it(&mut buffer[..len]);
    if buffer.len() <= LONGEST_KEPT {
        SPARE.with_borrow_mut(|spare| spare.push(buffer));
    }
    result
}
