//! Replies that need more than one call: extended attributes by size, listings until they are full.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, Generation, ReplyDirectory, ReplyDirectoryPlus, ReplyXattr};

use crate::fs::fuse::convert;
use crate::fs::fuse::passthrough::Opens;
use crate::fs::vfs::{Listed, Listing};

/// Replies with an extended attribute: its size if only the size is requested, ERANGE if it does not fit.
pub fn sized(value: &[u8], size: u32, reply: ReplyXattr) {
    let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(len),
        _ if size < len => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// A READDIR reply as a listing.
pub struct Plain<'a>(pub &'a mut ReplyDirectory);

impl Listing for Plain<'_> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        let attr = convert::attr(&entry.attr);
        self.0.add(attr.ino, entry.next, attr.kind, OsStr::from_bytes(entry.name))
    }
}

/// A READDIRPLUS reply as a listing.
pub struct Plus<'a>(pub &'a mut ReplyDirectoryPlus, pub &'a Opens);

impl Listing for Plus<'_> {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        let (attr, hold) = self.1.entry(&entry.attr);
        self.0.add(attr.ino, entry.next, OsStr::from_bytes(entry.name), &hold, &attr, Generation(0))
    }
}
