//! Which threads wait for requests: one, and another one only while the first is busy.
//!
//! Most requests are answered within microseconds, and one thread answers a series of them sooner than two that take turns: its caches
//! stay warm, and no second processor has to be woken. But a request may also wait for a disk or for a server, and nobody else should
//! wait for it. So a thread that has answered a request rests if another one waits in the kernel. While there are requests, it looks now
//! and then whether one of them has taken all the time since it last looked, and then waits in the kernel, too. During large transfers no
//! thread rests: the kernel divides a large read or write into several requests, which two threads answer sooner.
//!
//! At least one thread always waits or is busy: a thread rests only if another one waits, and that one, when it has answered its next
//! request, waits again or finds that a third one does. Threads that have answered nothing yet do not count: they wait in any case.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a resting thread looks whether the others are busy, and so how long a request may keep later ones waiting: one to two times
/// this long.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The number of requests after the beginning of a large transfer during which no thread rests.
const TOGETHER: u64 = 32;
/// After this number of looks without a request, a resting thread sleeps until the next one.
const LOOKS: u32 = 25;

thread_local! {
    /// Set once this thread has started a request. Dropped when it ends.
    static SERVES: RefCell<Option<Serves>> = const { RefCell::new(None) };
}

/// A thread that serves.
struct Serves(Arc<Readers>);

impl Drop for Serves {
    fn drop(&mut self) {
        self.0.end_rest();
    }
}

/// The threads that serve one mount.
#[derive(Debug, Default)]
pub struct Readers {
    /// A thread that has answered a request waits for the next one in the kernel.
    is_awaited: AtomicBool,
    /// Requests so far.
    begun: AtomicU64,
    /// A thread ended, as all do when the file system is unmounted: no other one may rest.
    is_over: AtomicBool,
    /// A resting thread sleeps until the next request.
    sleeps: AtomicBool,
    /// The number of resting threads.
    rests: AtomicUsize,
    /// The number of the first request after which a thread may rest again.
    rest_after: AtomicU64,
    resting: Mutex<()>,
    wake: Condvar,
}

impl Readers {
    /// Called when this thread starts a request.
    pub fn begin(self: &Arc<Self>) {
        let was_known = SERVES.with_borrow_mut(|serves| {
            let was_known = serves.is_some();
            serves.get_or_insert_with(|| Serves(Arc::clone(self)));
            was_known
        });
        if was_known {
            self.is_awaited.store(false, Ordering::SeqCst);
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.sleeps.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Called when this thread has begun a large transfer: no thread rests during the next requests.
    pub fn help(&self) {
        self.rest_after.store(self.begun.load(Ordering::SeqCst) + TOGETHER, Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn may_rest(&self, begun: u64) -> bool {
        begun >= self.rest_after.load(Ordering::SeqCst)
    }

    /// Called when this thread has answered a request. Returns when it is its turn to wait for the next one.
    pub fn end(&self) {
        if self.may_rest(self.begun.load(Ordering::SeqCst)) && !self.await_next() {
            self.rests.fetch_add(1, Ordering::SeqCst);
            self.rest();
            self.rests.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// True if no other thread waits: this one may.
    fn await_next(&self) -> bool {
        self.is_awaited.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Returns when the threads that do not rest are busy.
    fn rest(&self) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut seen, mut quiet) = (self.begun.load(Ordering::SeqCst), 0);
        while !self.is_over.load(Ordering::SeqCst) {
            if quiet < LOOKS {
                let waited = self.wake.wait_timeout(resting, LOOK_EVERY);
                resting = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                self.sleeps.store(true, Ordering::SeqCst);
                // A request that began before it could see this has been counted.
                if self.begun.load(Ordering::SeqCst) == seen && !self.is_over.load(Ordering::SeqCst) {
                    resting = self.wake.wait(resting).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleeps.store(false, Ordering::SeqCst);
            }
            let begun = self.begun.load(Ordering::SeqCst);
            let is_same = begun == seen;
            if !self.may_rest(begun) || (is_same && self.await_next()) {
                return;
            }
            (seen, quiet) = (begun, if is_same { quiet + 1 } else { 0 });
        }
    }

    fn wake(&self) {
        let _resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }

    /// From now on no thread rests.
    fn end_rest(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{JoinHandle, ThreadId};

    use super::*;

    /// Two threads that serve what is sent, until no one can send any more; each answer names its thread.
    struct Served {
        requests: Option<Sender<Duration>>,
        answers: Receiver<ThreadId>,
        readers: Arc<Readers>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Served {
        fn new() -> Served {
            let (requests, queue) = channel::<Duration>();
            let (answer, answers) = channel();
            let (queue, readers) = (Arc::new(Mutex::new(queue)), Arc::new(Readers::default()));
            let serve = || {
                let (queue, readers, answer) = (Arc::clone(&queue), Arc::clone(&readers), answer.clone());
                move || {
                    loop {
                        let next = queue.lock().unwrap().recv();
                        let Ok(takes) = next else { return };
                        readers.begin();
                        std::thread::sleep(takes);
                        answer.send(std::thread::current().id()).unwrap();
                        readers.end();
                    }
                }
            };
            let threads = vec![std::thread::spawn(serve()), std::thread::spawn(serve())];
            Served { requests: Some(requests), answers, readers, threads }
        }

        fn send(&self, takes: Duration) {
            self.requests.as_ref().unwrap().send(takes).unwrap();
        }

        /// Sends quick requests until both threads have served; the last one is answered.
        fn use_both(&self) {
            let mut known = std::collections::HashSet::new();
            while known.len() < 2 {
                self.send(Duration::ZERO);
                known.insert(self.answers.recv().unwrap());
            }
            // One of them rests.
            while !self.readers.is_awaited.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.requests = None;
            for thread in self.threads.drain(..) {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn quick_requests_are_served_by_one_thread() {
        let served = Served::new();
        served.use_both();
        let serve = || {
            served.send(Duration::ZERO);
            served.answers.recv().unwrap()
        };
        let changes = (0..1000).map(|_| serve()).collect::<Vec<_>>();
        let changes = changes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // On a busy machine, a quick request may take a while, too.
        assert!(changes < 500, "{changes}");
    }

    #[test]
    fn request_is_served_while_another_one_is_in_progress_even_after_a_long_pause() {
        let served = Served::new();
        served.use_both();
        for pause in [Duration::ZERO, LOOK_EVERY * (LOOKS + 10)] {
            std::thread::sleep(pause);
            let long = Duration::from_millis(1000);
            served.send(long);
            let started = std::time::Instant::now();
            served.send(Duration::ZERO);
            let quick = served.answers.recv().unwrap();
            assert!(started.elapsed() < long, "{:?}", started.elapsed());
            assert_ne!(served.answers.recv().unwrap(), quick);
        }
    }

    #[test]
    fn thread_that_rests_helps_at_once_with_a_large_transfer() {
        let served = Served::new();
        served.use_both();
        let Readers { sleeps, rests, .. } = &*served.readers;
        // Before, it looks around by itself.
        while !sleeps.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(rests.load(Ordering::SeqCst), 1);
        served.readers.help();
        while rests.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn every_request_is_served_and_all_threads_end() {
        for round in 0..50 {
            let served = Served::new();
            for at in 0..round {
                served.send(Duration::from_micros(at % 7 * 100));
            }
            for _ in 0..round {
                served.answers.recv().unwrap();
            }
        }
    }
}
