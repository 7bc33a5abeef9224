//! The request to a server to stop using its own mount, which is about to be removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Set once. Waiting threads wake up at once, because a command waits for the mount to become unused.
#[derive(Debug, Clone, Default)]
pub struct Quiet(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    flag: AtomicBool,
    waiting: Mutex<()>,
    wake: Condvar,
}

impl Quiet {
    /// Requests it.
    pub fn request(&self) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.flag.store(true, Ordering::Relaxed);
        drop(waiting);
        self.0.wake.notify_all();
    }

    /// The flag that is set with it.
    pub fn flag(&self) -> &AtomicBool {
        &self.0.flag
    }

    /// Waits for it up to a timeout; true if it was requested.
    pub fn wait(&self, most: Duration) -> bool {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_not = |(): &mut ()| !self.0.flag.load(Ordering::Relaxed);
        drop(self.0.wake.wait_timeout_while(waiting, most, is_not));
        self.0.flag.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_it_is_requested() {
        let quiet = Quiet::default();
        assert!(!quiet.wait(Duration::from_millis(1)));
        let asked = quiet.clone();
        let asking = std::thread::spawn(move || asked.request());
        assert!(quiet.wait(Duration::from_secs(600)));
        assert!(quiet.flag().load(Ordering::Relaxed) && asking.join().is_ok());
    }
}
