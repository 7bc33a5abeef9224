//! Locks on the inodes that are being changed.
//!
//! A transaction locks all inodes that it reads and changes at once, or waits. No thread waits while it holds one, so there is no
//! lock order and no deadlock. Reads take no lock here.
//!
//! `tests/models/` compiles this file against a scheduler that explores thread interleavings.

use super::Ino;
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The inodes that are being changed.
#[derive(Debug, Default)]
pub struct Locks {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// So few that a list is faster to search than a set.
    held: Vec<Ino>,
    /// How many threads wait: waking costs a system call even if there is nothing to wake.
    waiting: usize,
}

/// Inodes locked by one transaction until this is dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    locks: &'a Locks,
    inos: Vec<Ino>,
}

impl Locks {
    /// Waits until none of `inos` is locked, then locks all of them.
    pub fn lock(&self, inos: &[Ino]) -> Locked<'_> {
        let mut state = self.state();
        while inos.iter().any(|ino| state.held.contains(ino)) {
            state.waiting += 1;
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let mut taken: Vec<Ino> = Vec::with_capacity(inos.len());
        for &ino in inos {
            if !taken.contains(&ino) {
                taken.push(ino);
            }
        }
        state.held.extend(&taken);
        Locked { locks: self, inos: taken }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked<'_> {
    /// True if `ino` is one of the locked inodes.
    pub fn holds(&self, ino: Ino) -> bool {
        self.inos.contains(&ino)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let mut state = self.locks.state();
        state.held.retain(|ino| !self.inos.contains(ino));
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.locks.released.notify_all();
        }
    }
}
