//! Locks on the inodes that are being changed.
//!
//! A transaction locks all inodes that it reads and changes at once, or waits. No thread waits while it holds one, so there is no
//! lock order and no deadlock. Reads take no lock here.
//!
//! `tests/models/` compiles this file against a scheduler that explores thread interleavings.

use super::Ino;
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The inodes that are being changed: so few that a list is faster to search than a set.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<Vec<Ino>>,
    released: Condvar,
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
        let free = self.released.wait_while(self.held(), |held| inos.iter().any(|ino| held.contains(ino)));
        let mut held = free.unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<Ino> = Vec::with_capacity(inos.len());
        for &ino in inos {
            if !taken.contains(&ino) {
                taken.push(ino);
            }
        }
        held.extend(&taken);
        Locked { locks: self, inos: taken }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Ino>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.locks.held().retain(|ino| !self.inos.contains(ino));
        self.locks.released.notify_all();
    }
}
