//! Whether a replacement server makes progress: it has answered all resent requests, and some new ones.
//!
//! A request that kills every server is resent again and again. Answers to other requests meanwhile are not progress.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How many new requests are answered before progress is reported, with no resent one pending: a resent request that kills the
/// server comes before them, and kills it quickly.
const ENOUGH: u32 = 20;

thread_local! {
    /// This thread handles a resent request. A thread answers each request before it starts the next one.
    static RESENT: Cell<bool> = const { Cell::new(false) };
}

/// Reports once that this server makes progress.
pub struct Progress {
    resent: AtomicU32,
    fresh: AtomicU32,
    was_reported: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Progress {
    /// `tell` is called once, by a serving thread.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Progress {
        let (resent, fresh, was_reported) = <(AtomicU32, AtomicU32, AtomicBool)>::default();
        Progress { resent, fresh, was_reported, tell: Box::new(tell) }
    }

    /// Called when this thread starts a request, which is resent or new.
    pub fn begin(&self, resent: bool) {
        if self.was_reported.load(Ordering::Relaxed) {
            return;
        }
        self.end();
        if resent {
            RESENT.set(true);
            self.resent.fetch_add(1, Ordering::Relaxed);
        } else if self.resent.load(Ordering::Relaxed) == 0
            && self.fresh.fetch_add(1, Ordering::Relaxed) >= ENOUGH
            && !self.was_reported.swap(true, Ordering::Relaxed)
        {
            (self.tell)();
        }
    }

    /// Called when this thread has answered a request.
    pub fn end(&self) {
        if RESENT.take() {
            self.resent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_came_again_is_answered_before_there_is_progress() {
        let was_reported = Arc::new(AtomicU32::new(0));
        let tell = Arc::clone(&was_reported);
        let progress = Progress::new(move || {
            tell.fetch_add(1, Ordering::Relaxed);
        });
        let fresh = |count: u32| (0..count).for_each(|_| progress.begin(false));
        progress.begin(true);
        std::thread::scope(|scope| drop(scope.spawn(|| fresh(2 * ENOUGH))));
        assert_eq!(was_reported.load(Ordering::Relaxed), 0, "one that came again is not answered");
        fresh(ENOUGH);
        assert_eq!(was_reported.load(Ordering::Relaxed), 0);
        fresh(ENOUGH);
        assert_eq!(was_reported.load(Ordering::Relaxed), 1);
    }
}
