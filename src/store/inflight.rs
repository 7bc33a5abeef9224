//! Lets only one thread prepare a blob at a time; the others wait for it and then look again.
//!
//! `tests/models/` compiles this same file with a scheduler that explores thread interleavings.

use std::collections::HashSet;

use crate::store::layout::RawKey;
use crate::store::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The blobs that are being prepared.
#[derive(Debug, Default)]
pub struct InFlight {
    keys: Mutex<HashSet<RawKey>>,
    done: Condvar,
}

/// The right to prepare one blob; released on drop, even by a panic.
#[derive(Debug)]
pub struct Ticket<'f> {
    flight: &'f InFlight,
    key: RawKey,
}

impl InFlight {
    /// Returns the ticket for `key`, or, if another thread has it, waits until that thread is done and returns `None`.
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
