//! When to give a mount up: too many of its servers ended in a short time, and none of them got on.
//!
//! A server gets on that has answered what its predecessor left and more ([`crate::fs::fuse::progress`]): one that is killed now and
//! then is always followed by another, a request that ends whoever takes it is not tried for ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many ends are one too many.
const MOST: usize = 5;
/// In so long a time.
const WITHIN: Duration = Duration::from_secs(10);
/// How long to wait after one, two, ... of them.
const PAUSES: [Duration; MOST - 1] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// The ends of servers since one of them got on.
#[derive(Debug, Default)]
pub struct Losses {
    ends: VecDeque<Instant>,
    given_up: bool,
}

impl Losses {
    /// A server got on.
    pub fn forget(&mut self) {
        self.ends.clear();
    }

    /// There is no hope.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// True if there is none.
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// A server has ended `now`: how long to wait before the next one starts, or why none does.
    pub fn note(&mut self, now: Instant) -> Result<Duration, String> {
        self.ends.retain(|end| now.duration_since(*end) < WITHIN);
        self.ends.push_back(now);
        let count = self.ends.len();
        if self.given_up {
            return Err("no server answered in time".to_owned());
        }
        PAUSES.get(count - 1).copied().ok_or_else(|| {
            format!("{count} servers ended within {} s, none of which got on", WITHIN.as_secs())
        })
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
        assert_eq!(why, "5 servers ended within 10 s, none of which got on");
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
