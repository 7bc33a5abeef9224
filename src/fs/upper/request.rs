//! Kernel requests that were done and may not have been answered: the next server of a mount must not do them again.
//!
//! A thread answers each request before it starts the next one. So only the last request of each thread may be unanswered. Each
//! thread has one row, written in the transaction that does the request. Rows of dead processes stay for a while, because their
//! successor may also have died before it answered.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::Upper;
use super::tables::Change;

thread_local! {
    static REQUEST: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `work`; its commit records that the request of that number is done.
pub fn in_request<T>(number: u64, work: impl FnOnce() -> T) -> T {
    let before = REQUEST.replace(Some(number));
    let done = work();
    REQUEST.set(before);
    done
}

/// The requests of one upper.
#[derive(Default)]
pub(super) struct Requests {
    /// Requests done by earlier processes.
    done: HashSet<u64>,
    rows: Mutex<HashMap<ThreadId, u64>>,
    first_row: u64,
}

impl Requests {
    /// Takes the requests that earlier processes have done, by row.
    pub fn new(done: HashMap<u64, u64>) -> Requests {
        let first_row = done.keys().max().map_or(0, |last| last + 1);
        Requests { done: done.into_values().collect(), rows: Mutex::default(), first_row }
    }

    /// The row that records this thread's current request, if there is one.
    pub fn change(&self) -> Option<Change> {
        let number = REQUEST.get()?;
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.first_row + rows.len() as u64;
        let row = *rows.entry(std::thread::current().id()).or_insert(next);
        Some(Change::Done(row, number))
    }
}

impl Upper {
    /// True if a dead process has done the request of that number.
    pub fn was_done(&self, number: u64) -> bool {
        self.requests.done.contains(&number)
    }
}
