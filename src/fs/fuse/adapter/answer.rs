//! Requests counted as they come in, what several of them do, and answers of a kind: what was asked for, or the errno of what went wrong.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, Request};

use crate::error::{chain, line};
use crate::fs::fuse::convert::{self, FOREVER};
use crate::fs::fuse::requests::Opcode;
use crate::fs::vfs::{Attr, VfsError};

use super::Adapter;

impl Adapter {
    /// The errno for a reply; what a person should know of is logged here, once per failure.
    pub(super) fn errno(&self, opcode: Opcode, ino: INodeNo, error: &VfsError) -> Errno {
        if error.is_ordinary() {
            log::trace!("{opcode:?} {ino}: {}", chain(error));
        } else {
            log::error!("{opcode:?} {ino}: {}", line(error));
        }
        convert::errno(error.errno())
    }

    /// Makes the entry `name` of `parent` by `work`. If the server that died has made it and did not say so, it is only told.
    pub(super) fn make_once(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        work: impl FnOnce() -> Result<Attr, VfsError>,
    ) -> Result<Attr, VfsError> {
        // Whoever waits for the answer holds the directory: nobody else has changed the name since.
        let again = || self.vfs.lookup(convert::ino(parent), name.as_bytes());
        self.vfs.once(convert::number(req), convert::is_resent(req), again, work)
    }

    /// Does `work`, unless the server that died has done it and did not say so.
    pub(super) fn once(
        &self,
        req: &Request,
        work: impl FnOnce() -> Result<(), VfsError>,
    ) -> Result<(), VfsError> {
        self.vfs.once(convert::number(req), convert::is_resent(req), || Ok(()), work)
    }

    /// Makes a node of the kind that `mode` says.
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

    /// Answers with the entry that was made.
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

    /// Answers with an entry, which holds for ever.
    pub(super) fn found(&self, attr: &Attr, reply: ReplyEntry) {
        let (shown, hold) = self.opens.entry(attr);
        reply.entry_with_ttls(&hold, &FOREVER, &shown, Generation(0));
    }

    /// Answers that it was done.
    pub(super) fn empty(&self, opcode: Opcode, ino: INodeNo, done: Result<(), VfsError>, reply: ReplyEmpty) {
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }

    /// Answers with attributes.
    pub(super) fn attr(&self, opcode: Opcode, ino: INodeNo, attr: Result<Attr, VfsError>, reply: ReplyAttr) {
        match attr {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(error) => reply.error(self.errno(opcode, ino, &error)),
        }
    }

    /// Answers how much was written.
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
