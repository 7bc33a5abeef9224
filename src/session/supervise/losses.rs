//! When to give a mount up: too many servers ended in a short time without progress.
//!
//! A server makes progress when it has answered all requests left by its predecessor and more ([`crate::fs::fuse::progress`]). So a
//! server that is killed occasionally is always replaced, while a request that kills every server is not retried forever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this many ends, the mount is given up.
const MOST: usize = 5;
/// The time window for them.
const WITHIN: Duration = Duration::from_secs(10);
/// The pause after the first, second, ... end.
const PAUSES: [Duration; MOST - 1] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// The ends of servers since the last progress.
#[derive(Debug, Default)]
pub struct Losses {
    ends: VecDeque<Instant>,
    given_up: bool,
}

impl Losses {
    /// A server made progress.
    pub fn forget(&mut self) {
        self.ends.clear();
    }

    /// Gives the mount up.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// True if it was given up.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Records that a server has ended `now`: returns the pause before the next one, or why there is none.
    pub fn note(&mut self, now: Instant) -> Result<Duration, String> {
        self.ends.retain(|end| now.duration_since(*end) < WITHIN);
        self.ends.push_back(now);
        let count = self.ends.len();
        if self.given_up {
            return Err("no server answered in time".to_owned());
        }
        PAUSES
            .get(count - 1)
            .copied()
            .ok_or_else(|| format!("{count} servers ended within {} s without progress", WITHIN.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_ends_in_ten_seconds_are_a_crash_loop() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        for pause in PAUSES {
            assert_eq!(losses.note(start), Ok(pause));
        }
        let why = losses.note(start + WITHIN / 2).unwrap_err();
        assert_eq!(why, "5 servers ended within 10 s without progress");
    }

    #[test]
    fn what_is_long_ago_or_before_progress_does_not_count() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        for second in 0..100 {
            assert!(losses.note(start + Duration::from_secs(3 * second)).is_ok());
        }
        for _ in 0..100 {
            losses.forget();
            assert_eq!(losses.note(start + Duration::from_secs(300)), Ok(Duration::ZERO));
        }
        losses.forget();
        losses.give_up();
        assert!(losses.note(start).is_err());
    }
}
