//! Finds out who takes a large file in large pieces, one after the other, so that the disk can be read further ahead for him.
//!
//! Only a guess, and what comes of it only costs or saves time. So there is no lock, although the pieces of a file come to several
//! threads at once, and not always in their order.

use std::sync::atomic::{AtomicU64, Ordering};

/// Smaller reads say nothing of how a file is taken, in bytes.
const LEAST: u64 = 128 << 10;
/// So many bytes make a row: a library that is mapped is read in pieces as large, but here and there.
const STEADY: u64 = 2 << 20;

/// How one file was read lately.
#[derive(Debug, Default)]
pub struct Row {
    /// Where the furthest piece of the row ended.
    end: AtomicU64,
    /// How many bytes are in it.
    len: AtomicU64,
}

impl Row {
    /// Notes that `len` bytes from `offset` are read; true for the piece that makes it a row, once in each.
    pub fn grows(&self, offset: u64, len: u64) -> bool {
        if len < LEAST {
            return false;
        }
        let end = offset.saturating_add(len);
        // Two pieces may have changed places.
        if offset.abs_diff(self.end.load(Ordering::Relaxed)) > 2 * len {
            self.end.store(end, Ordering::Relaxed);
            self.len.store(len, Ordering::Relaxed);
            return false;
        }
        self.end.fetch_max(end, Ordering::Relaxed);
        let before = self.len.fetch_add(len, Ordering::Relaxed);
        before < STEADY && before.saturating_add(len) >= STEADY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 512 << 10;

    /// Which of the pieces with these numbers make a row.
    fn rows(pieces: &[u64]) -> Vec<u64> {
        let row = Row::default();
        pieces.iter().copied().filter(|piece| row.grows(piece * PIECE, PIECE)).collect()
    }

    #[test]
    fn four_pieces_make_a_row_and_it_is_told_once() {
        assert!(rows(&[0, 1, 2]).is_empty());
        assert_eq!(rows(&(0..100).collect::<Vec<_>>()), [3]);
    }

    #[test]
    fn two_threads_may_change_the_order_of_neighbours() {
        assert_eq!(rows(&[1, 0, 3, 2, 5, 4, 7, 6]), [2]);
    }

    #[test]
    fn who_jumps_about_or_reads_little_makes_none() {
        assert!(rows(&[0, 9, 3, 40, 12, 70, 5, 33, 90, 20]).is_empty());
        let row = Row::default();
        assert!(!(0..1000).any(|at| row.grows(at << 16, 1 << 16)));
    }

    #[test]
    fn who_begins_elsewhere_makes_another() {
        assert_eq!(rows(&[0, 1, 2, 3, 4, 50, 51, 52, 53, 54]), [3, 53]);
    }
}
