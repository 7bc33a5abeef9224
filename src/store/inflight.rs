//! The same blob is made ready by one thread at a time; the others wait for it and look again.
//!
//! `tests/models/` compiles this very file against a scheduler that tries the orders in which threads can run.

use std::collections::HashSet;

use crate::store::layout::RawKey;
use crate::store::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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
