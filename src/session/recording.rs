//! The requests of one run, or of a space for some time, fetched from the server as they occur.
//!
//! The server keeps single requests only while they are fetched, see [`crate::fs::fuse::trace`]. A thread of the command fetches
//! them; if it fails, the recording contains the reason, and the command continues.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{SessionError, Tried as _};
use crate::error::chain;
use crate::fs::fuse::trace::{Event, MISS, PRIMED, Page, Wanted};
use crate::store::index::Head;
use crate::store::observe::origin::Origin;
use crate::sys::fs::xattr;

/// The version of the format of recordings.
pub const FORMAT: u32 = 1;
/// The interval of fetches.
const EVERY: Duration = Duration::from_millis(50);

/// The requests of a run, in order, and its times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// [`FORMAT`].
    pub holofs_trace: u32,
    /// The id of the catalog.
    pub catalog: String,
    /// The blueprint.
    pub blueprint: String,
    /// The space.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub root: PathBuf,
    /// The command; empty if a space was observed.
    pub command: Vec<String>,
    /// The method by which the space appeared.
    pub method: String,
    /// Milliseconds from the start of HoloFS to the start of the command.
    pub ready_ms: f64,
    /// Duration of the command, or of the observation, in milliseconds.
    pub run_ms: f64,
    /// Requests that were not fetched in time.
    pub dropped: u64,
    /// Why requests are missing, if any are.
    pub incomplete: Option<String>,
    /// The requests, by the time at which each began.
    pub requests: Vec<Asked>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// When it was received, in microseconds since the recording began.
    pub at_us: f64,
    /// How long the answer took, in microseconds: the time that the program waited for HoloFS.
    pub took_us: f64,
    /// The kind, by its kernel name.
    pub kind: String,
    /// The inode; for a missing name, the directory's.
    pub ino: u64,
    /// The offset in the file.
    pub offset: u64,
    /// Bytes read or written.
    pub size: u32,
    /// The process.
    pub pid: u32,
    /// The source of the bytes.
    pub origin: Origin,
    /// The name does not exist.
    pub missed: bool,
    /// It was sent by readahead, before a program.
    pub ahead: bool,
}

impl From<&Event> for Asked {
    fn from(event: &Event) -> Asked {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        Asked {
            at_us: micros(event.at),
            took_us: micros(event.took),
            kind: event.kind().to_owned(),
            ino: event.ino,
            offset: event.offset,
            size: event.size,
            pid: event.pid,
            origin: event.origin,
            missed: event.flags & MISS != 0,
            ahead: event.flags & PRIMED != 0,
        }
    }
}

/// Where a run puts its recording.
#[derive(Debug)]
pub struct Slot {
    began: Instant,
    kept: Mutex<Option<Recording>>,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { began: Instant::now(), kept: Mutex::default() }
    }
}

impl Slot {
    /// Milliseconds since its creation.
    pub fn elapsed_ms(&self) -> f64 {
        millis(self.began.elapsed())
    }

    /// Stores `recording`.
    pub fn put(&self, recording: Recording) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(recording);
    }

    /// Takes the recording.
    pub fn take(&self) -> Option<Recording> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Requests being fetched.
pub struct Fetching {
    stop: Arc<AtomicBool>,
    began: Instant,
    thread: JoinHandle<(Vec<Event>, u64, Option<SessionError>)>,
}

impl Fetching {
    /// Starts fetching the requests of the mount at `root`.
    pub fn start(root: &Path) -> Result<Fetching, SessionError> {
        let first = fetch(root, Wanted::New)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (root.to_owned(), Arc::clone(&stop));
        let work = move || all(&root, first.next, &stopped);
        let thread = std::thread::Builder::new().name("trace".into()).spawn(work)?;
        Ok(Fetching { stop, began: Instant::now(), thread })
    }

    /// Stops, and adds all fetched requests to `recording`.
    pub fn finish(self, recording: &mut Recording) {
        recording.run_ms = millis(self.began.elapsed());
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok((events, dropped, error)) => {
                recording.requests = events.iter().map(Asked::from).collect();
                // They arrive in the order in which several threads answered them.
                recording.requests.sort_by(|one, other| one.at_us.total_cmp(&other.at_us));
                recording.dropped = dropped;
                recording.incomplete = error.map(|error| chain(&error).to_string());
            }
            Err(_) => recording.incomplete = Some("The thread that fetches requests panicked".to_owned()),
        }
    }
}

/// Fetches until `stop` is set, and then the rest.
fn all(root: &Path, mut next: u64, stop: &AtomicBool) -> (Vec<Event>, u64, Option<SessionError>) {
    let (mut events, mut dropped) = (Vec::new(), 0);
    loop {
        let last = stop.load(Ordering::Relaxed);
        match fetch(root, if last { Wanted::Last(next) } else { Wanted::From(next) }) {
            Ok(page) => {
                events.extend(page.events);
                dropped += page.dropped;
                next = page.next;
                if page.more {
                    continue;
                }
            }
            Err(error) => return (events, dropped, Some(error)),
        }
        if last {
            return (events, dropped, None);
        }
        std::thread::park_timeout(EVERY);
    }
}

fn fetch(root: &Path, wanted: Wanted) -> Result<Page, SessionError> {
    let encoded = xattr::get(root, &wanted.to_string());
    let encoded = encoded.tried_with(|| format!("Cannot trace {}", root.display()))?;
    Page::read(&encoded).tried("The server's request counters are invalid")
}

/// A recording of the space at `root`, without requests yet.
pub fn of_space(root: &Path, catalog: &Head) -> Recording {
    Recording {
        holofs_trace: FORMAT,
        catalog: catalog.id().to_string(),
        blueprint: catalog.blueprint().to_owned(),
        root: root.to_owned(),
        ..Recording::default()
    }
}

/// Milliseconds, with three decimals.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1000.0
}
