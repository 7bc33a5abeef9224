//! What the operating system says about this process.

use rustix::process::Resource;

/// How many descriptors this process may have open; `None` is unlimited.
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).current
}

/// The user as whom this process acts.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
