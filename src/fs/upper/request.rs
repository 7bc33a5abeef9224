//! Requests of the kernel that were done and may not have been answered: whoever takes a mount over must not do them again.
//!
//! A thread answers what it has done before it does the next thing. So what may be unanswered is the last request of each thread, and
//! each thread has one row, which says so in the transaction that did it. Rows of a process that died stay for a while: who took
//! over may have died too, before it answered.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::Upper;
use super::tables::Change;

thread_local! {
    static REQUEST: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Does `work`, whose commit says that it did the request of that number.
pub fn in_request<T>(number: u64, work: impl FnOnce() -> T) -> T {
    let before = REQUEST.replace(Some(number));
    let done = work();
    REQUEST.set(before);
    done
}

/// The requests of one upper.
#[derive(Default)]
pub(super) struct Requests {
    /// Done by processes that are gone.
    done: HashSet<u64>,
    rows: Mutex<HashMap<ThreadId, u64>>,
    first_row: u64,
}

impl Requests {
    /// Those that earlier processes have done, by row.
    pub fn new(done: HashMap<u64, u64>) -> Requests {
        let first_row = done.keys().max().map_or(0, |last| last + 1);
        Requests { done: done.into_values().collect(), rows: Mutex::default(), first_row }
    }

    /// The row that says that this thread does its request now, if it does one.
    pub fn change(&self) -> Option<Change> {
        let number = REQUEST.get()?;
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.first_row + rows.len() as u64;
        let row = *rows.entry(std::thread::current().id()).or_insert(next);
        Some(Change::Done(row, number))
    }
}

impl Upper {
    /// True if a process that died has done the request of that number.
    pub fn was_done(&self, number: u64) -> bool {
        self.requests.done.contains(&number)
    }
}
