//! Whether a server gets on: one that was started in place of another has answered everything that it was sent again, and then some.
//!
//! A request that ends every server that takes it comes again and again. What a server answered meanwhile to others is no progress.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// So many requests that come for the first time are answered before it is said, with none left that came again: one that ends this
/// process is ahead of them, and does so in a moment.
const ENOUGH: u32 = 20;

thread_local! {
    /// What this thread does came again. A thread answers before it does the next thing.
    static RESENT: Cell<bool> = const { Cell::new(false) };
}

/// Tells once that this server gets on.
pub struct Progress {
    resent: AtomicU32,
    fresh: AtomicU32,
    told: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Progress {
    /// `tell` is called once, by a thread that serves.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Progress {
        let (resent, fresh, told) = <(AtomicU32, AtomicU32, AtomicBool)>::default();
        Progress { resent, fresh, told, tell: Box::new(tell) }
    }

    /// This thread begins with a request, which came again or for the first time.
    pub fn begin(&self, resent: bool) {
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        if RESENT.replace(resent) {
            self.resent.fetch_sub(1, Ordering::Relaxed);
        }
        if resent {
            self.resent.fetch_add(1, Ordering::Relaxed);
        } else if self.resent.load(Ordering::Relaxed) == 0
            && self.fresh.fetch_add(1, Ordering::Relaxed) >= ENOUGH
            && !self.told.swap(true, Ordering::Relaxed)
        {
            (self.tell)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_came_again_is_answered_before_there_is_progress() {
        let told = Arc::new(AtomicU32::new(0));
        let tell = Arc::clone(&told);
        let progress = Progress::new(move || {
            tell.fetch_add(1, Ordering::Relaxed);
        });
        let fresh = |count: u32| (0..count).for_each(|_| progress.begin(false));
        progress.begin(true);
        std::thread::scope(|scope| drop(scope.spawn(|| fresh(2 * ENOUGH))));
        assert_eq!(told.load(Ordering::Relaxed), 0, "one that came again is not answered");
        fresh(ENOUGH);
        assert_eq!(told.load(Ordering::Relaxed), 0);
        fresh(ENOUGH);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
