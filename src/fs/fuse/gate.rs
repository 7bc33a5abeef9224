//! The boundary between requests, at which a server stops for its successor: requests in progress are answered, and no others
//! start.
//!
//! A later request waits until this process ends. The kernel then sends it to the successor.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The interval at which a waiting thread checks whether the other requests have been answered.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Counts requests in progress.
#[derive(Debug, Default)]
pub struct Gate {
    inside: AtomicUsize,
    closed: AtomicBool,
}

impl Gate {
    /// Called when a request starts. Does not return once the gate is closed.
    pub fn enter(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.leave();
            loop {
                std::thread::park();
            }
        }
    }

    /// Called when a request is answered.
    pub fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Closes the gate for good, and waits until the requests in progress are answered, at most for `patience`; true if they are.
    pub fn close(&self, patience: Duration) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        self.wait_for_at_most(0, patience)
    }

    /// Waits until the request that calls this is the only one in progress, at most for `patience`; true if it is.
    pub fn wait_for_others(&self, patience: Duration) -> bool {
        self.wait_for_at_most(1, patience)
    }

    fn wait_for_at_most(&self, left: usize, patience: Duration) -> bool {
        let started = Instant::now();
        while self.inside.load(Ordering::SeqCst) > left {
            if started.elapsed() > patience {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn closing_waits_for_what_started_and_lets_nothing_else_start() {
        let gate = Arc::new(Gate::default());
        gate.enter();
        let closing = Arc::clone(&gate);
        let closing = std::thread::spawn(move || closing.close(Duration::from_secs(60)));
        while !gate.closed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let late = Arc::clone(&gate);
        let late = std::thread::spawn(move || late.enter());
        assert!(!closing.is_finished());
        gate.leave();
        assert!(closing.join().unwrap());
        assert!(!late.is_finished());
    }

    #[test]
    fn waiting_for_others_ends_with_their_last_answer_or_with_patience() {
        let gate = Arc::new(Gate::default());
        gate.enter();
        gate.enter();
        assert!(!gate.wait_for_others(Duration::from_millis(1)));
        let waiting = Arc::clone(&gate);
        let waiting = std::thread::spawn(move || waiting.wait_for_others(Duration::from_secs(60)));
        gate.leave();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn closing_gives_up_on_a_request_that_takes_too_long() {
        let gate = Gate::default();
        gate.enter();
        assert!(!gate.close(Duration::from_millis(1)));
    }
}
