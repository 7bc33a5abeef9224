//! Who is changing which inode.
//!
//! A transaction takes all the inodes that it reads and changes at once, or waits: nobody waits while holding one, so
//! there is no order to keep and no deadlock. Reading takes nothing here.
//!
//! `tests/models/` compiles this very file against a scheduler that tries the orders in which threads can run.

use super::Ino;
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The inodes that are being changed: a handful, so a list is searched faster than a set.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<Vec<Ino>>,
    released: Condvar,
}

/// Inodes that are ours until this is dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    locks: &'a Locks,
    inos: Vec<Ino>,
}

impl Locks {
    /// Waits until none of `inos` is held, and takes them all.
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
    /// True if `ino` is among them.
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
