//! The requests of one run, or of a space for some time: fetched from the server while they come.
//!
//! The server keeps single requests only while they are fetched, see [`crate::fs::fuse::trace`]. A thread of the command fetches
//! them; should it fail, the recording says why, and the command goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::fs::fuse::trace::{Event, MISS, PREFIX, PRIMED, Page};
use crate::store::index::Index;
use crate::store::observe::origin::Origin;
use crate::sys::fs::xattr;

/// The number of the format of recordings.
pub const FORMAT: u32 = 1;
/// How often the server is asked for what came.
const EVERY: Duration = Duration::from_millis(50);

/// What a run asked for, in order, and how it went.
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
    /// The command; empty if a space was watched.
    pub command: Vec<String>,
    /// How the space appeared.
    pub method: String,
    /// Milliseconds from the start of HoloFS to that of the command.
    pub ready_ms: f64,
    /// Milliseconds of the command, or of watching.
    pub run_ms: f64,
    /// Requests that were not fetched in time.
    pub dropped: u64,
    /// Why there are no requests, or not all.
    pub incomplete: Option<String>,
    /// The requests.
    pub requests: Vec<Asked>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// When it was taken, in microseconds since the recording began.
    pub at_us: f64,
    /// How long the answer took, in microseconds: what the program waited in HoloFS.
    pub took_us: f64,
    /// The kind, as the kernel names it.
    pub kind: String,
    /// The inode; of a name that is not there, that of the directory.
    pub ino: u64,
    /// Where in the file.
    pub offset: u64,
    /// Bytes that were read or written.
    pub size: u32,
    /// Who asked.
    pub pid: u32,
    /// Where the bytes were.
    pub origin: Origin,
    /// The name that was looked up is not there.
    pub missed: bool,
    /// It was read ahead, before a program asked.
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

/// Where a run leaves its recording.
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
    /// Milliseconds since this was made.
    pub fn elapsed_ms(&self) -> f64 {
        millis(self.began.elapsed())
    }

    /// Leaves `recording`.
    pub fn put(&self, recording: Recording) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(recording);
    }

    /// What was left.
    pub fn take(&self) -> Option<Recording> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Requests that are being fetched.
pub struct Fetching {
    stop: Arc<AtomicBool>,
    began: Instant,
    thread: JoinHandle<(Vec<Event>, u64, Option<anyhow::Error>)>,
}

impl Fetching {
    /// From now on fetches what is asked of the mount at `root`.
    pub fn start(root: &Path) -> anyhow::Result<Fetching> {
        let first = fetch(root, "new")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (root.to_owned(), Arc::clone(&stop));
        let work = move || all(&root, first.next, &stopped);
        let thread = std::thread::Builder::new().name("trace".into()).spawn(work)?;
        Ok(Fetching { stop, began: Instant::now(), thread })
    }

    /// Everything that came.
    pub fn finish(self, recording: &mut Recording) {
        recording.run_ms = millis(self.began.elapsed());
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok((events, dropped, error)) => {
                recording.requests = events.iter().map(Asked::from).collect();
                recording.dropped = dropped;
                recording.incomplete = error.map(|error| format!("{error:#}"));
            }
            Err(_) => recording.incomplete = Some("The thread that fetches requests panicked".to_owned()),
        }
    }
}

/// Fetches until `stop` is set, and then what is left.
fn all(root: &Path, mut next: u64, stop: &AtomicBool) -> (Vec<Event>, u64, Option<anyhow::Error>) {
    let (mut events, mut dropped) = (Vec::new(), 0);
    loop {
        let last = stop.load(Ordering::Relaxed);
        match fetch(root, &next.to_string()) {
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

fn fetch(root: &Path, cursor: &str) -> anyhow::Result<Page> {
    let told = xattr::get(root, &format!("{PREFIX}{cursor}"));
    let told = told.with_context(|| format!("Cannot trace {}", root.display()))?;
    Page::read(&told).context("What the server tells of requests makes no sense")
}

/// A recording of the space at `root`, without requests yet.
pub fn of_space(root: &Path, index: &Index) -> Recording {
    Recording {
        holofs_trace: FORMAT,
        catalog: index.id().to_string(),
        blueprint: index.blueprint().to_owned(),
        root: root.to_owned(),
        ..Recording::default()
    }
}

/// Milliseconds, to a thousandth.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1000.0
}
