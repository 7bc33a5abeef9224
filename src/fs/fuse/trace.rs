//! Single requests, in order, while a trace is being read.
//!
//! The server keeps the last [`MOST`] requests about files in a ring (3 MB) that exists only while it is read: a reader gets the
//! extended attribute [`PREFIX`] of the mount's root with a cursor, at least every [`PATIENCE`]; otherwise the ring is dropped. So a
//! killed reader leaves nothing enabled, a read-only mount can be traced, and tracing writes nothing to the mount. The ring belongs
//! to the serving process and is lost with it.
//!
//! Requests answered from the kernel's page cache do not reach the server, and cannot be seen here.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::observe::origin::Origin;

use super::requests::NAMES;

/// The attribute of a mount's root that returns the next requests: `<PREFIX>new`, then `<PREFIX><cursor>`, and at the end
/// `<PREFIX>last.<cursor>`. The number is the version of the format.
pub const PREFIX: &str = "user.holofs.trace.1.";
/// The maximum number of requests kept.
pub const MOST: usize = 1 << 16;
/// After this time without a reader, the ring is dropped.
const PATIENCE: Duration = Duration::from_secs(20);
/// Size of a request in a page, and of a page's header.
const EVENT: usize = 48;
const HEAD: usize = 24;
/// Size of a page: the maximum size of an attribute value.
const PAGE: usize = 64 << 10;

/// In [`Event::flags`]: the name does not exist.
pub const MISS: u16 = 1;
/// In [`Event::flags`]: sent by the process that reads ahead.
pub const PRIMED: u16 = 2;

/// One request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Event {
    /// When it was received, in nanoseconds since the trace began.
    pub at: u64,
    /// How long the answer took, in nanoseconds.
    pub took: u64,
    /// The file; for a missing name, the directory.
    pub ino: u64,
    /// The offset in the file.
    pub offset: u64,
    /// Bytes read or written.
    pub size: u32,
    /// The process; 0 is the kernel itself.
    pub pid: u32,
    /// The kind, as an index into [`NAMES`].
    pub opcode: u8,
    /// The source of the bytes.
    pub origin: Origin,
    /// [`MISS`], [`PRIMED`].
    pub flags: u16,
}

/// Some requests of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The next cursor.
    pub next: u64,
    /// How many requests were dropped before these, because they were not read in time.
    pub dropped: u64,
    /// The server has more requests already.
    pub more: bool,
    /// The requests.
    pub events: Vec<Event>,
}

/// The server's side.
#[derive(Debug, Default)]
pub struct Trace {
    is_on: AtomicBool,
    ring: Mutex<Option<Ring>>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    /// The number of the oldest event in the ring.
    first: u64,
    began: Instant,
    fetched: Instant,
}

impl Trace {
    /// True while requests are kept.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Records a request that was received at `started` and answered after `took`.
    pub fn record(&self, event: Event, started: Instant, took: Duration) {
        let mut kept = self.lock();
        let Some(ring) = kept.as_mut() else { return };
        if started.saturating_duration_since(ring.fetched) > PATIENCE {
            self.is_on.store(false, Ordering::Relaxed);
            *kept = None;
            return;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if ring.events.len() == MOST {
            ring.events.pop_front();
            ring.first += 1;
        }
        let at = nanos(started.saturating_duration_since(ring.began));
        ring.events.push_back(Event { at, took: nanos(took), ..event });
    }

    /// The requests from number `cursor` on; without a cursor none, but recording starts.
    pub fn page(&self, cursor: Option<u64>) -> Vec<u8> {
        let mut kept = self.lock();
        let now = Instant::now();
        let ring = kept.get_or_insert_with(|| Ring {
            events: VecDeque::with_capacity(MOST),
            first: 0,
            began: now,
            fetched: now,
        });
        self.is_on.store(true, Ordering::Relaxed);
        ring.fetched = now;
        let end = ring.first + ring.events.len() as u64;
        // A cursor of a dropped ring starts at the end of the new one.
        let cursor = cursor.unwrap_or(end).min(end);
        let from = cursor.max(ring.first);
        let skipped = usize::try_from(from - ring.first).unwrap_or(usize::MAX);
        let events = ring.events.iter().skip(skipped).take((PAGE - HEAD) / EVENT);
        let mut page = Vec::with_capacity(PAGE);
        page.extend([0; HEAD]);
        events.for_each(|event| event.write(&mut page));
        let next = from + ((page.len() - HEAD) / EVENT) as u64;
        for (at, number) in [next, from - cursor, u64::from(next < end)].into_iter().enumerate() {
            page[at * 8..(at + 1) * 8].copy_from_slice(&number.to_le_bytes());
        }
        page
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ring>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        NAMES.get(usize::from(self.opcode)).copied().unwrap_or("unknown")
    }

    fn write(&self, page: &mut Vec<u8>) {
        [self.at, self.took, self.ino, self.offset].iter().for_each(|it| page.extend(it.to_le_bytes()));
        [self.size, self.pid].iter().for_each(|it| page.extend(it.to_le_bytes()));
        page.extend([self.opcode, self.origin as u8]);
        page.extend(self.flags.to_le_bytes());
        page.extend([0; 4]);
    }

    fn read(bytes: &[u8]) -> Option<Event> {
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Event {
            at: long(0)?,
            took: long(8)?,
            ino: long(16)?,
            offset: long(24)?,
            size: short(32)?,
            pid: short(36)?,
            opcode: *bytes.get(40)?,
            origin: *Origin::ALL.get(usize::from(*bytes.get(41)?))?,
            flags: u16::from_le_bytes(bytes.get(42..44)?.try_into().ok()?),
        })
    }
}

impl Page {
    /// Parses a page from a server; `None` if it is invalid.
    pub fn read(encoded: &[u8]) -> Option<Page> {
        let (head, events) = encoded.split_at_checked(HEAD)?;
        let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let events: Option<Vec<Event>> = events.chunks(EVENT).map(Event::read).collect();
        Some(Page { next: number(0)?, dropped: number(8)?, more: number(16)? != 0, events: events? })
    }
}

/// The page that an attribute name requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: recording starts.
    New,
    /// The requests from this number on.
    From(u64),
    /// The same, but waits for requests that are answered and not recorded yet: a request is recorded after its answer, so the
    /// program that sent it may end first.
    Last(u64),
}

impl Wanted {
    /// Parses the name of an attribute.
    pub fn parse(name: &str) -> Option<Wanted> {
        let page = name.strip_prefix(PREFIX)?;
        match page.strip_prefix("last.") {
            _ if page == "new" => Some(Wanted::New),
            Some(number) => number.parse().ok().map(Wanted::Last),
            None => page.parse().ok().map(Wanted::From),
        }
    }

    /// The number of the first request.
    pub fn cursor(self) -> Option<u64> {
        match self {
            Wanted::New => None,
            Wanted::From(cursor) | Wanted::Last(cursor) => Some(cursor),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::New => write!(f, "{PREFIX}new"),
            Wanted::From(cursor) => write!(f, "{PREFIX}{cursor}"),
            Wanted::Last(cursor) => write!(f, "{PREFIX}last.{cursor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ino: u64) -> Event {
        let origin = Origin::Relocated;
        Event { ino, offset: 1 << 40, size: 7, pid: 9, opcode: 14, origin, flags: MISS, ..Event::default() }
    }

    fn page(trace: &Trace, cursor: Option<u64>) -> Page {
        Page::read(&trace.page(cursor)).unwrap()
    }

    #[test]
    fn pages_have_all_that_came_in_order_and_nothing_is_kept_before_somebody_asks() {
        let trace = Trace::default();
        let now = Instant::now();
        trace.record(event(1), now, Duration::ZERO);
        assert!(!trace.is_on());
        let mut next = page(&trace, None).next;
        assert!(trace.is_on());
        (0..3000).for_each(|ino| trace.record(event(ino), now, Duration::from_nanos(ino)));
        let mut inos = Vec::new();
        loop {
            let page = page(&trace, Some(next));
            assert_eq!(page.dropped, 0);
            inos.extend(page.events.iter().map(|it| it.ino));
            assert!(page.events.iter().all(|it| *it == Event { at: it.at, took: it.ino, ..event(it.ino) }));
            next = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(inos, (0..3000).collect::<Vec<u64>>());
    }

    #[test]
    fn what_nobody_fetches_in_time_is_counted_and_a_trace_without_a_reader_ends() {
        let trace = Trace::default();
        let start = page(&trace, None).next;
        let now = Instant::now();
        (0..MOST as u64 + 5).for_each(|ino| trace.record(event(ino), now, Duration::ZERO));
        let first = page(&trace, Some(start));
        assert_eq!((first.dropped, first.events[0].ino), (5, 5));
        trace.record(event(1), now + PATIENCE * 2, Duration::ZERO);
        assert!(!trace.is_on());
        assert_eq!(page(&trace, Some(start)).events, []);
    }

    #[test]
    fn names_of_attributes_are_read_strictly() {
        for wanted in [Wanted::New, Wanted::From(17), Wanted::Last(17)] {
            assert_eq!(Wanted::parse(&wanted.to_string()), Some(wanted));
        }
        assert_eq!(Wanted::parse("user.holofs.trace.1.last.17"), Some(Wanted::Last(17)));
        for name in ["user.holofs.trace.1.", "user.holofs.trace.1.last.", "user.holofs.trace.2.new", "user.x"]
        {
            assert_eq!(Wanted::parse(name), None, "{name}");
        }
        assert_eq!(Page::read(b"short"), None);
    }
}
