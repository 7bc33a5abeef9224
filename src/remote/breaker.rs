//! A breaker: while a remote counts as down, requests to it fail at once, so that no program waits for its timeout again and again.
//!
//! A remote is down from when a request got no useful answer within its whole time until one succeeds. Meanwhile one request at a
//! time, and at most one per [`PAUSE`], is sent as a probe, with at most [`PROBE`] for all of it; all others fail with the first cause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::RemoteError;
use crate::error::chain;

/// The time that a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// The time between two probes.
const PAUSE: Duration = Duration::from_millis(500);

/// The state of one remote.
#[derive(Debug, Default)]
pub struct Breaker {
    down: Mutex<Option<Down>>,
    opened: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    cause: String,
    is_probing: bool,
    next_probe: Instant,
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    /// The remote is up.
    Full,
    /// The remote is down: this request finds out whether it still is.
    Probe,
    /// The remote is down, because of this.
    No(String),
}

impl Breaker {
    /// Runs `work` with the time it may take: `patience`, less for a probe, or not at all.
    pub fn run<T>(
        &self,
        remote: &str,
        patience: Duration,
        work: impl FnOnce(Duration) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let leave = self.enter(Instant::now());
        let limit = match &leave {
            Leave::Full => patience,
            Leave::Probe => patience.min(PROBE),
            Leave::No(cause) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(RemoteError::Down { remote: remote.to_owned(), cause: cause.clone() });
            }
        };
        let outcome = work(limit);
        let cause =
            outcome.as_ref().err().filter(|error| error.is_down()).map(|error| chain(error).to_string());
        self.leave(remote, &leave, cause, Instant::now());
        outcome
    }

    /// How often the remote began to count as down, and how many requests failed at once, since the last call.
    pub fn new_counts(&self) -> [u64; 2] {
        [&self.opened, &self.refused].map(|count| count.swap(0, Ordering::Relaxed))
    }

    fn enter(&self, now: Instant) -> Leave {
        match &mut *self.lock() {
            None => Leave::Full,
            Some(down) if !down.is_probing && down.next_probe <= now => {
                down.is_probing = true;
                Leave::Probe
            }
            Some(down) => Leave::No(down.cause.clone()),
        }
    }

    fn leave(&self, remote: &str, left: &Leave, cause: Option<String>, now: Instant) {
        let mut state = self.lock();
        match (&mut *state, cause) {
            (None, None) => {}
            (None, Some(cause)) => {
                log::warn!("{remote} counts as down, and requests fail at once until it answers: {cause}");
                self.opened.fetch_add(1, Ordering::Relaxed);
                *state = Some(Down { since: now, cause, is_probing: false, next_probe: now + PAUSE });
            }
            (Some(down), None) => {
                log::info!("{remote} answers again after {:.0} s", (now - down.since).as_secs_f64());
                *state = None;
            }
            (Some(down), Some(_)) if *left == Leave::Probe => {
                down.is_probing = false;
                down.next_probe = now + PAUSE;
            }
            // It began before the remote counted as down.
            (Some(_), Some(_)) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Duration = Duration::from_secs(60);

    fn down() -> RemoteError {
        let (what, remote) = ("x".to_owned(), "r".to_owned());
        let source = Box::new(ureq::Error::ConnectionFailed);
        RemoteError::Network { doing: "Reading", what, remote, source }
    }

    fn denied() -> RemoteError {
        let (what, remote, said) = ("x".to_owned(), "r".to_owned(), "status 403".to_owned());
        RemoteError::Denied { doing: "reading", what, remote, said }
    }

    #[test]
    fn a_remote_that_is_down_is_probed_by_one_request_at_a_time_until_it_answers() {
        let breaker = Breaker::default();
        // Other errors say nothing about that.
        breaker.run("r", FULL, |_| Err::<(), _>(denied())).unwrap_err();
        assert_eq!(breaker.enter(Instant::now()), Leave::Full);
        breaker
            .run("r", FULL, |limit| {
                Err::<(), _>({
                    assert_eq!(limit, FULL);
                    down()
                })
            })
            .unwrap_err();
        let refused =
            breaker.run("r", FULL, |_| -> Result<(), _> { unreachable!("no request") }).unwrap_err();
        assert!(matches!(refused, RemoteError::Down { .. }));
        let later = Instant::now() + PAUSE;
        assert_eq!(breaker.enter(later), Leave::Probe);
        assert!(matches!(breaker.enter(later), Leave::No(_)), "only one");
        breaker.leave("r", &Leave::Probe, Some("again".to_owned()), later);
        assert!(matches!(breaker.enter(later), Leave::No(_)), "not so soon");
        assert_eq!(breaker.enter(later + PAUSE), Leave::Probe);
        breaker.leave("r", &Leave::Probe, None, later + PAUSE);
        assert_eq!(breaker.run("r", FULL, Ok).unwrap(), FULL);
        assert_eq!(breaker.new_counts(), [1, 1]);
        assert_eq!(breaker.new_counts(), [0, 0]);
    }

    #[test]
    fn a_probe_has_little_time_and_an_older_request_changes_nothing() {
        let breaker = Breaker::default();
        breaker.leave("r", &Leave::Full, Some("first".to_owned()), Instant::now() - FULL);
        breaker.leave("r", &Leave::Full, Some("second".to_owned()), Instant::now());
        assert_eq!(breaker.run("r", FULL, Ok).unwrap(), PROBE);
        assert_eq!(breaker.new_counts(), [1, 0]);
    }
}
