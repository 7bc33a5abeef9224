//! Facts about this process from the operating system.

use std::num::NonZeroUsize;

use rustix::process::Resource;

/// The limit of open descriptors of this process; `None` is unlimited.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// A share of 1/`part` of the descriptors that this process may have, at most `most`.
pub fn descriptor_share(part: u64, most: u64) -> NonZeroUsize {
    let share = descriptor_limit().map_or(most, |limit| (limit / part).min(most));
    usize::try_from(share).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// The effective user id of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
