//! Detects sequential reads of large files, so that read-ahead can be raised.
//!
//! This is a heuristic, and a wrong guess only costs time. So there is no lock, although several threads read the pieces of a file at
//! once, and not always in order.

use std::sync::atomic::{AtomicU64, Ordering};

/// The minimum size of a read that counts, in bytes: smaller reads say nothing about the pattern.
const LEAST: u64 = 128 << 10;
/// The number of bytes that make a sequence: a mapped library is read in pieces of similar size, but not in order.
const STEADY: u64 = 2 << 20;

/// The recent reads of one file.
#[derive(Debug, Default)]
pub struct Row {
    /// The end of the furthest read of the sequence.
    end: AtomicU64,
    /// The number of bytes in the sequence.
    len: AtomicU64,
}

impl Row {
    /// Records a read of `len` bytes at `offset`; true for the one read that makes it a sequence.
    pub fn grows(&self, offset: u64, len: u64) -> bool {
        if len < LEAST {
            return false;
        }
        let end = offset.saturating_add(len);
        // Two reads may have been reordered.
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

    /// Which of the pieces with these numbers complete a sequence.
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
