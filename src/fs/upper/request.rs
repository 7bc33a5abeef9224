//! Kernel requests that were done but perhaps not answered: the next server of the mount must not do them again.
//!
//! The transaction that does a request records its number. A change of names records it in the row of the directory, which it
//! writes anyway. No later change replaces the number before the answer, because the kernel locks a directory from the request
//! until it has the answer.
//!
//! Other changes have a row for each thread. A thread answers each request before it starts the next one. So only the last request of
//! each thread may be unanswered. Rows of dead processes stay for a while, because their successor may also have died before it
//! answered.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::tables::Change;
use super::{Kind, Upper};

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
    /// The requests that earlier processes have done, from the rows of threads and from the rows of directories.
    pub fn new(by_row: HashMap<u64, u64>, in_directories: HashSet<u64>) -> Requests {
        let first_row = by_row.keys().max().map_or(0, |last| last + 1);
        let done = in_directories.into_iter().chain(by_row.into_values()).collect();
        Requests { done, rows: Mutex::default(), first_row }
    }

    /// Makes `changes` record this thread's current request, if there is one.
    pub fn record(&self, changes: &mut Vec<Change>) {
        let Some(number) = REQUEST.get() else { return };
        // The last directory is the one that the kernel has locked, not one that is created or removed in it.
        let directory = changes.iter_mut().rev().find_map(|change| match change {
            Change::Inode(ino, inode) if inode.kind == Kind::Dir => Some((*ino, inode.clone(), change)),
            _ => None,
        });
        match directory {
            Some((ino, inode, change)) => *change = Change::Asked(ino, inode, number),
            None => changes.push(self.row(number)),
        }
    }

    /// The row of this thread.
    fn row(&self, number: u64) -> Change {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.first_row + rows.len() as u64;
        let row = *rows.entry(std::thread::current().id()).or_insert(next);
        Change::Done(row, number)
    }
}

impl Upper {
    /// True if a dead process has done the request of that number.
    pub fn was_done(&self, number: u64) -> bool {
        self.requests.done.contains(&number)
    }
}
