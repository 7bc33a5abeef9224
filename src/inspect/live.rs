//! The currently mounted spaces: their requests, latencies and users.
//!
//! Counters start when the serving process starts; rates per second are differences between two samples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fs::fuse::STATS;
use crate::fs::fuse::latency::Latency;
use crate::rcc::home::{Home, HomeError};
use crate::space::inventory;
use crate::space::lease::{self, User};
use crate::space::{MountState, Space};
use crate::store::observe::Counter;
use crate::sys::fs::xattr;

/// A server that takes longer to answer is reported as not answering.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a server reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How files are read.
    #[serde(default)]
    pub io: String,
    /// Requests by kind.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// Their latencies.
    #[serde(default)]
    pub latency: BTreeMap<String, Latency>,
    /// Counters of the lower layers.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Slower methods that were used, with the reason.
    #[serde(default)]
    pub fallbacks: BTreeMap<String, Value>,
    /// Items that were prefetched.
    #[serde(default)]
    pub primed: u64,
}

/// A mounted space.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveSpace {
    /// Its name.
    pub space: String,
    /// Its controller.
    pub controller: String,
    /// Its label.
    pub label: String,
    /// Its path.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// The blueprint.
    pub blueprint: String,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// The process that serves it.
    pub pid: u32,
    /// Its users.
    pub users: Vec<User>,
    /// The server's report, if it answers.
    pub stats: Option<Stats>,
    /// Why there is no report.
    pub silent: Option<String>,
}

/// All mounted spaces at one time.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// The time.
    #[serde(skip)]
    pub at: Instant,
    /// The spaces, sorted by name.
    pub spaces: Vec<LiveSpace>,
}

/// Rates per second between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Requests.
    pub requests: f64,
    /// Bytes read.
    pub bytes: f64,
}

impl Stats {
    /// The number of requests of all kinds.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// The value of a counter.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts.get(counter.name()).copied().unwrap_or_default()
    }

    /// The share of content opens that found it ready, from 0 to 1; `None` if there were none.
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.count(Counter::RawHits);
        let all = hits + self.count(Counter::BlobsIngested) + self.count(Counter::ServedFromMemory);
        (all > 0).then(|| hits as f64 / all as f64)
    }
}

impl Sample {
    /// Queries every mounted space of `home`.
    pub fn take(home: &Home) -> Result<Sample, HomeError> {
        let known = inventory::known(home)?;
        let mounted = known.into_iter().filter_map(|known| {
            let state = known.space.mount_state().ok().flatten()?;
            let is_live = known.space.live_holder() == Some(state.process);
            is_live.then_some((known.space, known.blueprint, known.controller, state))
        });
        let mut spaces: Vec<LiveSpace> = mounted.map(live).collect();
        spaces.sort_by(|a, b| (&a.space, &a.controller, &a.path).cmp(&(&b.space, &b.controller, &b.path)));
        Ok(Sample { at: Instant::now(), spaces })
    }

    /// The rates of the space at `path` since `earlier`.
    pub fn rates(&self, earlier: &Sample, path: &Path) -> Option<Rates> {
        let of = |sample: &Sample| {
            let space = sample.spaces.iter().find(|space| space.path == path)?;
            let stats = space.stats.as_ref()?;
            Some((space.pid, stats.total(), stats.count(Counter::BytesRead)))
        };
        let ((pid, requests, bytes), (old_pid, old_requests, old_bytes)) = (of(self)?, of(earlier)?);
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if pid != old_pid || seconds <= 0.0 {
            return None;
        }
        let rate = |now: u64, old: u64| now.saturating_sub(old) as f64 / seconds;
        Some(Rates { requests: rate(requests, old_requests), bytes: rate(bytes, old_bytes) })
    }
}

fn live((space, blueprint, controller, state): (Space, String, String, MountState)) -> LiveSpace {
    let asked = ask(&space.root);
    let (stats, silent) = match asked {
        Ok(stats) => (Some(stats), None),
        Err(why) => (None, Some(why)),
    };
    LiveSpace {
        space: space.name().to_owned(),
        controller: controller.strip_prefix("rcc.").unwrap_or(&controller).to_owned(),
        label: space.label.as_str().to_owned(),
        users: lease::users(&space.state_dir),
        path: space.root,
        blueprint,
        mode: state.mode,
        pid: state.process.pid,
        stats,
        silent,
    }
}

/// Queries the server of the mount at `root`, on a separate thread, since a hanging server may block it forever.
fn ask(root: &Path) -> Result<Stats, String> {
    let (tell, received) = mpsc::channel();
    let root = root.to_owned();
    let work = move || {
        let stats = xattr::get(&root, STATS).map_err(|error| error.to_string());
        // The receiver may have given up.
        drop(tell.send(stats));
    };
    let thread = std::thread::Builder::new().name("ask".into()).spawn(work);
    thread.map_err(|error| error.to_string())?;
    let received = received.recv_timeout(PATIENCE).map_err(|_| "it does not answer".to_owned())??;
    serde_json::from_slice(&received).map_err(|error| format!("its answer is invalid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, pid: u32, requests: u64, bytes: u64) -> Sample {
        let stats = Stats {
            requests: BTreeMap::from([("read".to_owned(), requests)]),
            counts: BTreeMap::from([("bytes_read".to_owned(), bytes), ("raw_hits".to_owned(), 3)]),
            ..Stats::default()
        };
        let space = LiveSpace {
            space: "s".to_owned(),
            controller: "user".to_owned(),
            label: "l".to_owned(),
            path: "/s".into(),
            blueprint: "b".to_owned(),
            mode: "read-write".to_owned(),
            pid,
            users: Vec::new(),
            stats: Some(stats),
            silent: None,
        };
        Sample { at, spaces: vec![space] }
    }

    #[test]
    fn rates_are_differences_of_one_server() {
        let start = Instant::now();
        let (old, new) = (sample(start, 1, 10, 100), sample(start + Duration::from_secs(2), 1, 30, 300));
        let rates = new.rates(&old, Path::new("/s"));
        assert_eq!(rates, Some(Rates { requests: 10.0, bytes: 100.0 }));
        assert_eq!(new.rates(&sample(start, 2, 10, 100), Path::new("/s")), None, "another server");
        assert_eq!(new.rates(&old, Path::new("/other")), None);
        assert_eq!(new.spaces[0].stats.as_ref().unwrap().hit_rate(), Some(1.0));
    }
}
