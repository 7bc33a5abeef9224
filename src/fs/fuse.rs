//! FUSE: the only place that names the `fuser` crate.
//!
//! [`Adapter`](adapter::Adapter) decodes a request, calls the [`Vfs`] once and replies; nothing is decided here except
//! what the protocol needs. A [`Session`] is one mount: it exists once the kernel's INIT was answered, and `run` serves it
//! until it is unmounted. Only Linux has it; elsewhere the ladder ends before anything is mounted.
//!
//! The data path is *no-open*: the first OPEN and OPENDIR are answered ENOSYS, after which the kernel never asks again, reads
//! through its page cache and names a file by its inode only. Entries, attributes and misses are static, so all timeouts
//! are infinite and whatever we change ourselves is invalidated exactly. Only who makes a file has it open, see [`created`].
//! [`passthrough`] is the other way to read, chosen at the mount.

#[cfg(target_os = "linux")]
mod adapter;
pub mod awake;
#[cfg(target_os = "linux")]
mod convert;
#[cfg(target_os = "linux")]
mod created;
pub mod latency;
#[cfg(target_os = "linux")]
mod passthrough;
pub mod priming;
pub mod profile;
pub mod progress;
pub mod requests;
#[cfg_attr(not(target_os = "linux"), path = "fuse/no_session.rs")]
mod session;
pub mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::observe::{Fallback, Tally};

use awake::Awake;
use latency::{Latencies, Latency};
use priming::Recorder;
use progress::Progress;
use requests::Requests;
pub use session::{Handshake, Session};
use trace::Trace;

/// How the files of a mount are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Io {
    /// Through the mount's own page cache, with the fewest requests
    NoOpen,
    /// By the kernel from the files on disk, whose page cache all spaces share: for large data and many spaces; as root
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

/// What is watched while a mount is served, and told as the extended attribute [`STATS`] of its root.
#[derive(Clone, Default)]
pub struct Watch {
    /// Requests by opcode.
    pub requests: Arc<Requests>,
    /// What the layers below count.
    pub tally: Arc<Tally>,
    /// What is read first.
    pub recorder: Arc<Recorder>,
    /// How long requests took.
    pub latencies: Arc<Latencies>,
    /// Single requests, while somebody asks for them.
    pub trace: Arc<Trace>,
    /// Where processors are to be kept awake for requests.
    pub awake: Option<Arc<Awake>>,
    /// Who is to know that this server gets on.
    pub progress: Option<Arc<Progress>>,
    /// How many servers of this mount ended before this one.
    pub deaths: u64,
}

/// The attribute of a mount's root that tells about its requests, as JSON.
pub const STATS: &str = "user.holofs.stats";

/// The fallback, if files are not passed through though it was asked for.
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
    /// How many servers of this mount ended before the one that answers.
    deaths: u64,
}

impl Watch {
    /// Everything seen so far, as JSON.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nobody can ask"))]
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
}
