//! Who is changing which inode.
//!
//! A transaction takes all the inodes that it reads and changes at once, or waits: nobody waits while holding one, so
//! there is no order to keep and no deadlock. Reading takes nothing here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Ino;

/// The inodes that are being changed: a handful, so a list is searched faster than a set.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Mutex<Vec<Ino>>,
    released: Condvar,
}

/// Inodes that are ours until this is dropped.
#[derive(Debug)]
pub(super) struct Locked<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn opposite_orders_do_not_deadlock_and_exclude_each_other() {
        let (locks, inside) = (Locks::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for order in [[Ino(1), Ino(2), Ino(1)], [Ino(2), Ino(1), Ino(2)], [Ino(1), Ino(3), Ino(3)]] {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let locked = locks.lock(&order);
                        assert!(locked.holds(Ino(1)));
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(locks.held().is_empty());
    }
}
