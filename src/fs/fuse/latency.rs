//! How long requests take, by kind: from when a request is taken out of the kernel's queue to when its answer is there.
//!
//! It is always on, so it must cost nothing that counts: two readings of the clock (25 ns each, where the kernel answers from the
//! counter of the processor) and one short lock for each request, which itself takes tens of microseconds. A kind has its histogram
//! made when the first of it comes (11 KB); after that nothing is allocated. What a request waits in the kernel before it is taken
//! is not in it.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::requests::{NAMES, Opcode};

/// Nothing shorter is told apart, in nanoseconds.
const FINEST: u64 = 256;
/// What takes longer counts as this.
const LONGEST: u64 = 64_000_000_000;
/// Significant digits.
const DIGITS: u8 = 2;
/// The upper bounds of what is told as buckets, in microseconds.
pub const BOUNDS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 25_000, 250_000, 2_500_000];

/// The times of all kinds.
#[derive(Debug)]
pub struct Latencies([OnceLock<Mutex<Kind>>; NAMES.len()]);

/// The times of one kind.
#[derive(Debug)]
struct Kind {
    times: Option<Histogram<u64>>,
    sum: u64,
}

/// What is told of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were answered.
    pub count: u64,
    /// All their times, in microseconds.
    pub sum_us: f64,
    /// Half of them took at most this.
    pub p50_us: f64,
    /// 90 of 100 took at most this.
    pub p90_us: f64,
    /// 99 of 100 took at most this.
    pub p99_us: f64,
    /// None took longer.
    pub max_us: f64,
    /// How many took at most so many microseconds, for each of [`BOUNDS`].
    pub buckets: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl Default for Kind {
    fn default() -> Kind {
        // The bounds are constants that the histogram takes; without one, only the sum would be known.
        Kind { times: Histogram::new_with_bounds(FINEST, LONGEST, DIGITS).ok(), sum: 0 }
    }
}

impl Latencies {
    /// A request of this kind took so long.
    pub fn record(&self, opcode: Opcode, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(LONGEST);
        let kind = self.0[opcode as usize].get_or_init(Mutex::default);
        let mut kind = kind.lock().unwrap_or_else(PoisonError::into_inner);
        kind.sum = kind.sum.saturating_add(took);
        if let Some(times) = &mut kind.times {
            times.saturating_record(took.max(1));
        }
    }

    /// Each kind that came at least once.
    pub fn all(&self) -> BTreeMap<&'static str, Latency> {
        let known = NAMES.iter().zip(&self.0).filter_map(|(&name, kind)| Some((name, kind.get()?)));
        known.map(|(name, kind)| (name, kind.lock().unwrap_or_else(PoisonError::into_inner).told())).collect()
    }
}

impl Kind {
    fn told(&self) -> Latency {
        let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
        let Some(times) = &self.times else { return Latency::default() };
        let at = |quantile: f64| micros(times.value_at_quantile(quantile));
        let up_to = |bound: &u64| times.count_between(0, (bound * 1000).min(LONGEST));
        Latency {
            count: times.len(),
            sum_us: micros(self.sum),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: micros(times.max()),
            buckets: BOUNDS.iter().map(up_to).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_one_in_a_hundred_and_what_never_came_is_not_told() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|us| latencies.record(Opcode::Read, Duration::from_micros(us)));
        let all = latencies.all();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&"read"]);
        let read = &all["read"];
        assert_eq!((read.count, read.sum_us), (1000, 500_500.0));
        for (told, right) in
            [(read.p50_us, 500.0), (read.p90_us, 900.0), (read.p99_us, 990.0), (read.max_us, 1000.0)]
        {
            assert!((told - right).abs() / right < 0.01, "{told} is not {right}");
        }
        assert_eq!(read.buckets.len(), BOUNDS.len());
        assert!((99..=101).contains(&read.buckets[4]), "{:?}", read.buckets);
        assert_eq!(read.buckets[11], 1000);
    }

    #[test]
    fn a_time_beyond_the_longest_counts_as_it() {
        let latencies = Latencies::default();
        latencies.record(Opcode::Fsync, Duration::from_secs(1000));
        let fsync = &latencies.all()["fsync"];
        assert_eq!((fsync.count, fsync.buckets[11]), (1, 0));
        assert!(fsync.max_us >= 64_000_000.0 * 0.99);
    }
}
