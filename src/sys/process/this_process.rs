//! What the operating system says about this process.

use std::num::NonZeroUsize;

use rustix::process::Resource;

/// How many descriptors this process may have open; `None` is unlimited.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// One in `part` of the descriptors that this process may have, but no more than `most`.
pub fn descriptor_share(part: u64, most: u64) -> NonZeroUsize {
    let share = descriptor_limit().map_or(most, |limit| (limit / part).min(most));
    usize::try_from(share).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// The user as whom this process acts.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
