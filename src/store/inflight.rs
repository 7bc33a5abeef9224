//! The same blob is made ready by one thread at a time; the others wait for it and look again.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::layout::RawKey;

/// Which blobs are being made ready.
#[derive(Debug, Default)]
pub struct InFlight {
    keys: Mutex<HashSet<RawKey>>,
    done: Condvar,
}

/// The right to make one blob ready; ends when dropped, even by a panic.
#[derive(Debug)]
pub struct Ticket<'f> {
    flight: &'f InFlight,
    key: RawKey,
}

impl InFlight {
    /// Gives the ticket for `key`, or, if another thread has it, waits until that one is done and gives `None`.
    pub fn enter(&self, key: RawKey) -> Option<Ticket<'_>> {
        let mut keys = self.lock();
        if keys.insert(key) {
            return Some(Ticket { flight: self, key });
        }
        while keys.contains(&key) {
            keys = self.done.wait(keys).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RawKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.flight.lock().remove(&self.key);
        self.flight.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, Regime};
    use crate::store::layout::RawMode;
    use std::time::Duration;

    #[test]
    fn a_second_thread_waits_for_the_first_and_gets_no_ticket() {
        let key = RawKey { digest: Digest::of(Regime::SipHash128, b""), mode: RawMode::new(0o644) };
        let flight = InFlight::default();
        let ticket = flight.enter(key).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| flight.enter(key).is_none());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiter.is_finished());
            drop(ticket);
            assert!(waiter.join().unwrap());
        });
        assert!(flight.enter(key).is_some());
    }
}
