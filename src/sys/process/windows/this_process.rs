//! Facts about this process from the operating system.

use std::num::NonZeroUsize;

/// The limit of handles is too high to be reached.
pub fn descriptor_limit() -> Option<u64> {
    None
}

/// Always `most`.
pub fn descriptor_share(_part: u64, most: u64) -> NonZeroUsize {
    usize::try_from(most).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// Users have no numbers here: everything belongs to the one user.
pub fn effective_uid() -> u32 {
    0
}

/// Threads keep their priority.
pub fn lower_thread_priority() {}
