//! FUSE: the only place that uses the `fuser` crate.
//!
//! [`Adapter`](adapter::Adapter) decodes a request, calls the [`Vfs`] once and replies; it decides only what the protocol
//! requires. A [`Session`] is one mount: it exists once the kernel's INIT has been answered, and `run` serves it until it is
//! unmounted. Only Linux has it; elsewhere the fallback chain ends before anything is mounted.
//!
//! The data path is *no-open*: the first OPEN and OPENDIR are answered with ENOSYS, after which the kernel never sends them again,
//! reads through its page cache and identifies a file only by its inode. Entries, attributes and misses are static, so all timeouts
//! are infinite, and our own changes are invalidated exactly. Only the creator of a file has it open, see [`created`].
//! [`passthrough`] is the other way to read, chosen at the mount.

#[cfg(target_os = "linux")]
mod adapter;
pub mod awake;
#[cfg(target_os = "linux")]
mod convert;
#[cfg(target_os = "linux")]
mod created;
pub mod gate;
pub mod latency;
#[cfg(target_os = "linux")]
mod passthrough;
pub mod priming;
pub mod profile;
pub mod progress;
pub mod readers;
pub mod requests;
#[cfg_attr(not(target_os = "linux"), path = "fuse/no_session.rs")]
mod session;
pub mod trace;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::store::observe::{Fallback, Tally, Unread};
use crate::sys::fs::xattr;

use awake::Awake;
use gate::Gate;
use latency::{Latencies, Latency};
use priming::Recorder;
use progress::Progress;
use readers::Readers;
use requests::Requests;
pub use session::{Handshake, Session};
use trace::Trace;

/// How the files of a mount are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// Through the mount's own page cache, with the fewest requests
    NoOpen,
    /// By the kernel from the files on disk, sharing the page cache: for large data and many spaces; needs root
    Passthrough,
}

impl Io {
    /// Its name, as in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Io::NoOpen => "no-open",
            Io::Passthrough => "passthrough",
        }
    }
}

/// Measurements of a served mount, reported in the extended attribute [`STATS`] of its root.
#[derive(Clone, Default)]
pub struct Telemetry {
    /// Requests by opcode.
    pub requests: Arc<Requests>,
    /// Counters of the layers below.
    pub tally: Arc<Tally>,
    /// Records what is read first.
    pub recorder: Arc<Recorder>,
    /// How long requests took.
    pub latencies: Arc<Latencies>,
    /// Single requests, while a trace is being read.
    pub trace: Arc<Trace>,
    /// Keeps processors awake for requests, if enabled.
    pub awake: Option<Arc<Awake>>,
    /// Reports that this server makes progress.
    pub progress: Option<Arc<Progress>>,
    /// How many servers of this mount ended before this one.
    pub deaths: u64,
    /// Where this server stops for its successor.
    pub gate: Arc<Gate>,
    /// The threads that serve.
    pub readers: Arc<Readers>,
}

/// The attribute of a mount's root that reports request statistics, as JSON.
pub const STATS: &str = "user.holofs.stats";

/// The attribute of a mount's root that reports the reads that failed, as JSON of [`Unread`]: much shorter than [`STATS`].
const UNREAD: &str = "user.holofs.unread";

/// The reads that failed so far in the mount at `root`, as its server answers.
pub fn unread(root: &Path) -> io::Result<Unread> {
    serde_json::from_slice(&xattr::get(root, UNREAD)?).map_err(io::Error::other)
}

/// The fallback if passthrough was requested but is not possible.
pub const PASSTHROUGH: &str = "passthrough";

/// The value of [`STATS`].
#[derive(Debug, serde::Serialize)]
struct Stats {
    /// How files are read: `passthrough` or `no-open`.
    io: Io,
    requests: BTreeMap<&'static str, u64>,
    latency: BTreeMap<&'static str, Latency>,
    counts: BTreeMap<&'static str, u64>,
    fallbacks: BTreeMap<&'static str, Fallback>,
    primed: u64,
    /// How many servers of this mount ended before the current one.
    deaths: u64,
}

impl Telemetry {
    /// All statistics so far, as JSON.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "never called"))]
    fn stats(&self, io: Io) -> Vec<u8> {
        let stats = Stats {
            io,
            requests: self.requests.counts(),
            latency: self.latencies.all(),
            counts: self.tally.counts(),
            fallbacks: self.tally.fallbacks(),
            primed: self.recorder.primed(),
            deaths: self.deaths,
        };
        serde_json::to_vec(&stats).unwrap_or_default()
    }

    /// The reads that failed so far, as JSON.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "never called"))]
    fn unread(&self) -> Vec<u8> {
        serde_json::to_vec(&self.tally.unread()).unwrap_or_default()
    }
}
