//! A request from receipt to answer: counted at once, timed when it ends.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use fuser::{Errno, INodeNo, ReplyXattr, Request};

use crate::fs::fuse::requests::Opcode;
use crate::fs::fuse::trace::{Event, MISS, PRIMED, Wanted};
use crate::fs::fuse::{Telemetry, convert};
use crate::store::index::Ino;
use crate::store::observe::{Counter, Observer as _, origin};
use crate::sys::process::this_process::effective_uid;

use super::Adapter;
use super::reply::sized;

/// How long the last page of a trace waits for requests in progress: much longer than from an answer until it is recorded.
const SETTLED: Duration = Duration::from_millis(100);

/// From this size in bytes on, a transfer takes long enough for a second thread to help with the next one.
const LARGE: u32 = 64 << 10;

/// A request in progress; it ends when this is dropped, which may take until the next one is due: see [`Readers`](crate::fs::fuse::readers).
pub(super) struct Timed<'a> {
    telemetry: &'a Telemetry,
    opcode: Opcode,
    started: Instant,
    event: Option<Event>,
}

impl Timed<'_> {
    /// The lookup found `ino`.
    pub(super) fn found(&mut self, ino: Ino) {
        if let Some(event) = &mut self.event {
            event.ino = ino.0;
        }
    }

    /// The lookup found nothing.
    pub(super) fn missed(&mut self) {
        if let Some(event) = &mut self.event {
            event.flags |= MISS;
        }
    }

    /// Records the number of bytes read.
    pub(super) fn got(&mut self, bytes: usize) {
        self.telemetry.tally.count(Counter::BytesRead, bytes as u64);
        if let Some(event) = &mut self.event {
            event.size = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.telemetry.latencies.record(self.opcode, took);
        if let Some(event) = self.event.take() {
            let event = Event { origin: origin::take(), ..event };
            self.telemetry.trace.record(event, self.started, took);
        }
        self.telemetry.gate.leave();
        if let Some(progress) = &self.telemetry.progress {
            progress.end();
        }
        self.telemetry.readers.end();
    }
}

impl Adapter {
    /// Counts an incoming request.
    pub(super) fn count(&self, req: &Request, opcode: Opcode) -> Timed<'_> {
        self.telemetry.readers.begin();
        self.telemetry.gate.enter();
        if let Some(progress) = &self.telemetry.progress {
            progress.begin(convert::is_resent(req));
        }
        self.telemetry.requests.count(opcode);
        if let Some(awake) = &self.telemetry.awake {
            awake.request();
        }
        Timed { telemetry: &self.telemetry, opcode, started: Instant::now(), event: None }
    }

    /// Counts an incoming request about `ino`, with `size` and `offset` if it concerns bytes.
    pub(super) fn asked(
        &self,
        req: &Request,
        opcode: Opcode,
        ino: INodeNo,
        (offset, size): (u64, u32),
    ) -> Timed<'_> {
        let mut timed = self.count(req, opcode);
        if size >= LARGE {
            self.telemetry.readers.help();
        }
        if self.telemetry.trace.is_on() {
            origin::take();
            let (pid, ino) = (req.pid(), convert::ino(ino).0);
            let flags = if self.telemetry.recorder.is_primer(pid) { PRIMED } else { 0 };
            timed.event =
                Some(Event { opcode: opcode as u8, ino, offset, size, pid, flags, ..Event::default() });
        }
        timed
    }

    /// Replies with a page of the trace, only to the user who mounted this and root.
    pub(super) fn page(&self, req: &Request, wanted: Wanted, size: u32, reply: ReplyXattr) {
        if ![0, effective_uid()].contains(&convert::caller(req).uid) {
            return reply.error(Errno::EPERM);
        }
        if let Wanted::Last(_) = wanted {
            self.telemetry.gate.wait_for_others(SETTLED);
        }
        sized(&self.telemetry.trace.page(wanted.cursor()), size, reply);
    }
}

/// The page of the trace that an attribute's name requests.
pub(super) fn wanted(name: &OsStr) -> Option<Wanted> {
    Wanted::parse(name.to_str()?)
}
