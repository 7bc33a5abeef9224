//! Keeps processors from halting while requests arrive quickly.
//!
//! A request wakes the thread that serves it, and the answer wakes the waiting program. On a virtual machine that returns idle
//! processors to its host at once, each wake-up costs some 20 µs, several times as long as the request itself takes. So during a
//! burst of requests this process claims a low wake-up latency, which keeps the kernel from halting processors, and it withdraws
//! the claim shortly after the last request. Other programs still get a processor at once; the cost is power, or the host's time.

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::store::observe::{Counter, Observer};
use crate::sys::host::Idling;
use crate::sys::process::latency::Claim;

/// More requests than this within [`WINDOW`] count as a burst.
const HANDFUL: u64 = 4;
/// The time window for counting requests.
const WINDOW: Duration = Duration::from_millis(10);
/// Without a request for this long, or up to twice that, processors may halt again.
const LINGER: Duration = Duration::from_millis(10);
/// On a machine with more processors than this it is not worth it, because all of them would stay awake.
const MOST_PROCESSORS: usize = 8;

/// The fallback if it was requested but is not possible.
pub const KEEP_AWAKE: &str = "keep awake";

/// When processors are kept awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepAwake {
    /// By root, on a small virtual machine whose idle processors halt at once
    Auto,
    /// On any machine
    Always,
    /// Never
    Off,
}

impl KeepAwake {
    /// Its name, as in options.
    pub fn name(self) -> &'static str {
        match self {
            KeepAwake::Auto => "auto",
            KeepAwake::Always => "always",
            KeepAwake::Off => "off",
        }
    }

    /// The claim for this machine; `None` if it does not apply here. Fails if it is not permitted.
    pub fn claim(self) -> io::Result<Option<Claim>> {
        self.applies_to(Idling::here()).then(Claim::open).transpose()
    }

    /// True if it applies to a machine that idles like this.
    fn applies_to(self, idling: Idling) -> bool {
        match self {
            KeepAwake::Auto => idling.halts_at_once && idling.processors <= MOST_PROCESSORS,
            KeepAwake::Always => true,
            KeepAwake::Off => false,
        }
    }
}

/// Detects bursts of requests.
#[derive(Debug, Default)]
struct Pace {
    came: AtomicU64,
    /// When the current window began, in milliseconds.
    window: AtomicU64,
    /// How many requests had arrived by then.
    before: AtomicU64,
}

impl Pace {
    /// Counts a request at `now` since the start; true if it belongs to a burst. Concurrent threads may make the count slightly
    /// wrong.
    fn is_quick(&self, now: Duration) -> bool {
        let (now, came) = (now.as_millis() as u64, self.one_more());
        if now.saturating_sub(self.window.load(Relaxed)) >= WINDOW.as_millis() as u64 {
            self.window.store(now, Relaxed);
            self.before.store(came, Relaxed);
        }
        came.saturating_sub(self.before.load(Relaxed)) >= HANDFUL
    }

    /// Counts a request, and returns the count.
    fn one_more(&self) -> u64 {
        self.came.fetch_add(1, Relaxed) + 1
    }
}

/// Keeps processors awake for the requests of one mount.
pub struct Awake {
    claim: Claim,
    observer: Arc<dyn Observer>,
    began: Instant,
    pace: Pace,
    held: AtomicBool,
    keeper: OnceLock<Thread>,
}

impl Awake {
    /// Takes a `claim` without making it; has no effect before the [keeper](Awake::start) runs.
    pub fn new(claim: Claim, observer: Arc<dyn Observer>) -> Awake {
        let (began, pace) = (Instant::now(), Pace::default());
        Awake { claim, observer, began, pace, held: AtomicBool::new(false), keeper: OnceLock::new() }
    }

    /// Starts the thread that calls `ready`, then makes and withdraws the claim as needed.
    pub fn start(self: &Arc<Awake>, ready: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let this = Arc::clone(self);
        let keep = move || {
            ready();
            this.keep();
        };
        let keeper = thread::Builder::new().name("keeper".into()).spawn(keep)?;
        drop(self.keeper.set(keeper.thread().clone()));
        Ok(())
    }

    /// Counts an incoming request.
    pub fn request(&self) {
        if self.held.load(Relaxed) {
            self.pace.one_more();
        } else if self.pace.is_quick(self.began.elapsed()) && !self.held.swap(true, AcqRel) {
            self.keeper.get().into_iter().for_each(Thread::unpark);
        }
    }

    /// The loop of the keeper: until the process ends or the claim is refused.
    fn keep(&self) {
        loop {
            while !self.held.load(Acquire) {
                thread::park();
            }
            if let Err(error) = self.claim.make() {
                return self.observer.fallback(KEEP_AWAKE, &error.to_string());
            }
            self.observer.count(Counter::KeptAwake, 1);
            self.linger();
            self.held.store(false, Release);
            if let Err(error) = self.claim.withdraw() {
                return self.observer.fallback(KEEP_AWAKE, &error.to_string());
            }
        }
    }

    /// Returns when no more requests come.
    fn linger(&self) {
        let mut seen = 0;
        while self.pace.came.load(Relaxed) != seen {
            seen = self.pace.came.load(Relaxed);
            thread::sleep(LINGER);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HANDFUL, KeepAwake, Pace};
    use crate::sys::host::Idling;

    /// How many of `count` requests, `apart` from each other, belong to a burst.
    fn quick(count: u32, apart: Duration) -> usize {
        let pace = Pace::default();
        (1..=count).filter(|&nth| pace.is_quick(Duration::from_secs(1) + apart * nth)).count()
    }

    #[test]
    fn only_quick_succession_is() {
        assert_eq!(quick(1000, Duration::from_millis(4)), 0);
        assert_eq!(quick(HANDFUL as u32, Duration::ZERO), 0);
        assert_eq!(quick(HANDFUL as u32 + 1, Duration::ZERO), 1);
        assert!(quick(1000, Duration::from_micros(100)) > 900);
    }

    #[test]
    fn it_is_done_where_it_is_worth_it() {
        let idling = |halts_at_once, processors| Idling { halts_at_once, processors };
        for (machine, auto) in [(idling(true, 2), true), (idling(true, 64), false), (idling(false, 2), false)]
        {
            assert_eq!(KeepAwake::Auto.applies_to(machine), auto, "{machine:?}");
            assert!(KeepAwake::Always.applies_to(machine) && !KeepAwake::Off.applies_to(machine));
        }
    }
}
