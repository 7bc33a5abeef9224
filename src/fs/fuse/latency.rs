//! Request latencies by kind: from taking a request out of the kernel's queue until its answer is sent.
//!
//! They are always measured, so the cost must be negligible: two clock readings (25 ns each, if the kernel reads the processor's
//! counter) and one short lock per request, which itself takes tens of microseconds. The histogram of a kind (11 KB) is allocated
//! with its first request; after that nothing is allocated. The time that a request waits in the kernel is not included.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::requests::{NAMES, Opcode};

/// The resolution, in nanoseconds.
const FINEST: u64 = 256;
/// Longer times are recorded as this, in nanoseconds.
const LONGEST: u64 = 64_000_000_000;
/// Significant digits.
const DIGITS: u8 = 2;
/// The upper bounds of the reported buckets, in microseconds.
pub const BOUNDS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 25_000, 250_000, 2_500_000];

/// The latencies of all kinds.
#[derive(Debug)]
pub struct Latencies([OnceLock<Mutex<Measured>>; NAMES.len()]);

/// The latencies of one kind.
#[derive(Debug)]
struct Measured {
    times: Option<Histogram<u64>>,
    sum: u64,
}

/// The reported latencies of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many requests were answered.
    pub count: u64,
    /// The sum of their times, in microseconds.
    pub sum_us: f64,
    /// The median, in microseconds.
    pub p50_us: f64,
    /// The 90th percentile.
    pub p90_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The maximum.
    pub max_us: f64,
    /// For each of [`BOUNDS`], how many requests took at most that long.
    pub buckets: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl Default for Measured {
    fn default() -> Measured {
        // The bounds are constants that the histogram accepts; without it, only the sum would be known.
        Measured { times: Histogram::new_with_bounds(FINEST, LONGEST, DIGITS).ok(), sum: 0 }
    }
}

impl Latencies {
    /// Records the latency of a request of this kind.
    pub fn record(&self, opcode: Opcode, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(LONGEST);
        let kind = self.0[opcode as usize].get_or_init(Mutex::default);
        let mut kind = kind.lock().unwrap_or_else(PoisonError::into_inner);
        kind.sum = kind.sum.saturating_add(took);
        if let Some(times) = &mut kind.times {
            times.saturating_record(took.max(1));
        }
    }

    /// The latencies of each kind that occurred.
    pub fn all(&self) -> BTreeMap<&'static str, Latency> {
        let known = NAMES.iter().zip(&self.0).filter_map(|(&name, kind)| Some((name, kind.get()?)));
        known
            .map(|(name, kind)| (name, kind.lock().unwrap_or_else(PoisonError::into_inner).quantiles()))
            .collect()
    }
}

impl Measured {
    fn quantiles(&self) -> Latency {
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
    fn quantiles_are_right_to_one_percent_and_absent_kinds_are_left_out() {
        let latencies = Latencies::default();
        (1..=1000).for_each(|us| latencies.record(Opcode::Read, Duration::from_micros(us)));
        let all = latencies.all();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&"read"]);
        let read = &all["read"];
        assert_eq!((read.count, read.sum_us), (1000, 500_500.0));
        for (quantiles, right) in
            [(read.p50_us, 500.0), (read.p90_us, 900.0), (read.p99_us, 990.0), (read.max_us, 1000.0)]
        {
            assert!((quantiles - right).abs() / right < 0.01, "{quantiles} is not {right}");
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
