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
pub struct SequentialReads {
    /// The end of the furthest read of the sequence.
    end: AtomicU64,
    /// The number of bytes in the sequence.
    len: AtomicU64,
}

impl SequentialReads {
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
    fn raises(pieces: &[u64]) -> Vec<u64> {
        let reads = SequentialReads::default();
        pieces.iter().copied().filter(|piece| reads.grows(piece * PIECE, PIECE)).collect()
    }

    #[test]
    fn grows_is_true_once_at_the_fourth_piece() {
        assert!(raises(&[0, 1, 2]).is_empty());
        assert_eq!(raises(&(0..100).collect::<Vec<_>>()), [3]);
    }

    #[test]
    fn grows_despite_neighbours_in_changed_order() {
        assert_eq!(raises(&[1, 0, 3, 2, 5, 4, 7, 6]), [2]);
    }

    #[test]
    fn grows_is_false_for_random_and_small_reads() {
        assert!(raises(&[0, 9, 3, 40, 12, 70, 5, 33, 90, 20]).is_empty());
        let reads = SequentialReads::default();
        assert!(!(0..1000).any(|at| reads.grows(at << 16, 1 << 16)));
    }

    #[test]
    fn grows_again_for_reads_that_begin_elsewhere() {
        assert_eq!(raises(&[0, 1, 2, 3, 4, 50, 51, 52, 53, 54]), [3, 53]);
    }
}
