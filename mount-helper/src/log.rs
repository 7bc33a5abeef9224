//! The helper's log: one line on stderr for each request. Refusals are easy to provoke, so each user gets only a few lines per period;
//! further refusals are counted, and their number is one line.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holofs_mount_helper::packet::Peer;

/// The maximum number of a user's refusals logged per [`WHILE`].
const MOST_LINES: u64 = 10;
const WHILE: Duration = Duration::from_secs(10);
/// The maximum number of users distinguished per [`WHILE`]; all others share the limit of one.
const MOST_USERS: usize = 64;

/// The recent log activity.
#[derive(Default)]
pub struct Log(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    since: Option<Instant>,
    refusals: BTreeMap<Option<u32>, u64>,
}

/// Writes a line.
pub fn line(text: &str) {
    eprintln!("holofs-mount-helper: {text}");
}

fn name(who: &Peer) -> String {
    format!("uid={} gid={} pid={}", who.uid, who.gid, who.pid)
}

impl Log {
    /// Logs a success.
    pub fn done(&self, who: &Peer, what: &str) {
        line(&format!("{}: {what}", name(who)));
    }

    /// Logs a refusal.
    pub fn refused(&self, who: &Peer, why: &str) {
        self.summarize();
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.counts(who.uid) {
            line(&format!("{}: refused: {why}", name(who)));
        }
    }

    /// Logs the suppressed lines, if it is time; true if there may be more later.
    pub fn summarize(&self) -> bool {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.since.is_some_and(|since| since.elapsed() >= WHILE) {
            lately.end().iter().for_each(|text| line(text));
        }
        lately.since.is_some()
    }
}

impl Lately {
    /// Counts a refusal; true if it is to be logged.
    fn counts(&mut self, uid: u32) -> bool {
        self.since.get_or_insert_with(Instant::now);
        let known = self.refusals.len() < MOST_USERS || self.refusals.contains_key(&Some(uid));
        let count = self.refusals.entry(known.then_some(uid)).or_default();
        *count += 1;
        *count <= MOST_LINES
    }

    /// Starts a new period; returns the lines about suppressed ones.
    fn end(&mut self) -> Vec<String> {
        let refusals = std::mem::take(self).refusals;
        let more = refusals.into_iter().filter(|&(_, count)| count > MOST_LINES);
        let entries = more.map(|(uid, count)| {
            let who = uid.map_or("other users".to_owned(), |uid| format!("uid={uid}"));
            format!("{who}: refused {} more times in {} s", count - MOST_LINES, WHILE.as_secs())
        });
        entries.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_ten_lines_and_the_rest_is_counted() {
        let mut lately = Lately::default();
        let written = (0..1000).filter(|_| lately.counts(7)).count();
        assert_eq!((written, lately.counts(8)), (10, true));
        assert_eq!(lately.end(), ["uid=7: refused 990 more times in 10 s"]);
        assert!(lately.counts(7) && lately.end().is_empty());
    }

    #[test]
    fn any_number_of_users_takes_a_bounded_number_of_lines() {
        let mut lately = Lately::default();
        let written = (0..100_000).filter(|&uid| lately.counts(uid)).count();
        assert_eq!((written, lately.refusals.len()), (64 + 10, 65));
        assert_eq!(lately.end(), ["other users: refused 99926 more times in 10 s"]);
    }
}
