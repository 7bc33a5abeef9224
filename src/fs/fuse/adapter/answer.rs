//! Counting of requests, work shared by several of them, and replies: a result or the errno of an error.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, Request};

use crate::error::{chain, line};
use crate::fs::fuse::convert::{self, FOREVER};
use crate::fs::fuse::requests::Opcode;
use crate::fs::vfs::{Attr, VfsError};

use super::Adapter;
use super::timed::Timed;

impl Adapter {
    /// The errno for a reply; errors worth knowing are logged here, once per failure.
    pub(super) fn errno(&self, opcode: Opcode, ino: INodeNo, error: &VfsError) -> Errno {
        if error.is_ordinary() {
            log::trace!("{opcode:?} {ino}: {}", chain(error));
        } else {
            log::error!("{opcode:?} {ino}: {}", line(error));
        }
        convert::errno(error.errno())
    }

    /// Creates the entry `name` of `parent` by `work`. If the dead server created it without answering, only answers.
    pub(super) fn make_once(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        work: impl FnOnce() -> Result<Attr, VfsError>,
    ) -> Result<Attr, VfsError> {
        // The requester holds the directory's lock, so nobody else has changed the name since.
        let again = || self.vfs.lookup(convert::ino(parent), name.as_bytes());
        self.vfs.once(convert::number(req), convert::is_resent(req), again, work)
    }

    /// Runs `work`, unless the dead server has done it without answering.
    pub(super) fn once(
        &self,
        req: &Request,
        work: impl FnOnce() -> Result<(), VfsError>,
    ) -> Result<(), VfsError> {
        self.vfs.once(convert::number(req), convert::is_resent(req), || Ok(()), work)
    }

    /// Creates a node of the kind in `mode`.
    pub(super) fn make_node(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        rdev: u32,
    ) -> Result<Attr, VfsError> {
        let (caller, new) = (convert::caller(req), convert::new(mode, rdev)?);
        let (dir, mode) = (convert::ino(parent), convert::mode(mode));
        self.make_once(req, parent, name, || self.vfs.make(caller, dir, name.as_bytes(), mode, new))
    }

    /// Ends the request that created a file, and prepares for the next one while the program goes on.
    pub(super) fn answered(&self, created: Timed<'_>) {
        drop(created);
        self.vfs.prepare();
    }

    /// Replies with the created entry.
    pub(super) fn entry(
        &self,
        opcode: Opcode,
        ino: INodeNo,
        made: Result<Attr, VfsError>,
        reply: ReplyEntry,
    ) {
        match made {
            Ok(attr) => self.found(&attr, reply),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }

    /// Replies with an entry, which is cached forever.
    pub(super) fn found(&self, attr: &Attr, reply: ReplyEntry) {
        let (shown, hold) = self.opens.entry(attr);
        reply.entry_with_ttls(&hold, &FOREVER, &shown, Generation(0));
    }

    /// Replies with success or an error.
    pub(super) fn empty(&self, opcode: Opcode, ino: INodeNo, done: Result<(), VfsError>, reply: ReplyEmpty) {
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }

    /// Replies with attributes.
    pub(super) fn attr(&self, opcode: Opcode, ino: INodeNo, attr: Result<Attr, VfsError>, reply: ReplyAttr) {
        match attr {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }

    /// Replies with the number of bytes written.
    pub(super) fn written(
        &self,
        opcode: Opcode,
        ino: INodeNo,
        written: Result<u64, VfsError>,
        reply: ReplyWrite,
    ) {
        match written {
            Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }
}
