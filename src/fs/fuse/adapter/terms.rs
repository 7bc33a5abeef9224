//! The terms of a connection, which are agreed with the kernel once, in INIT.

use std::io;

use fuser::{Filesystem, InitFlags, KernelConfig, Request};

/// The largest read and write, in bytes: the kernel's limit (256 pages).
pub const MAX_TRANSFER: u32 = 1 << 20;

/// The capabilities of the no-open path: if a kernel lacks one, this costs requests, not correctness.
///
/// KILLPRIV_V2: we clear setuid and setgid ourselves, so the kernel need not query `security.capability` at each write.
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_NO_EXPORT_SUPPORT,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Requests what every mount wants.
pub fn negotiate(config: &mut KernelConfig) {
    for capability in WANTED {
        if config.add_capabilities(capability).is_err() {
            log::debug!("The kernel lacks {capability:?}");
        }
    }
    let limits = [config.set_max_write(MAX_TRANSFER), config.set_max_readahead(MAX_TRANSFER)];
    for nearest in limits.into_iter().filter_map(Result::err) {
        log::debug!("The kernel takes transfers of at most {nearest} bytes");
    }
    if config.set_max_background(64).is_err() || config.set_congestion_threshold(48).is_err() {
        log::debug!("The kernel keeps its own number of background requests");
    }
}

/// Only agrees on the terms of a mount that can be taken over.
pub struct Terms;

impl Filesystem for Terms {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config);
        Ok(())
    }
}
