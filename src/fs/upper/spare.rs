//! An empty file that is prepared for the next created inode.
//!
//! Creating a file on the disk takes longer than the rest of a creation. While files are created one after another, the next one's
//! is made after the answer, while the program that asked goes on; the next creation finds it.
//!
//! - A prepared file has a number that was handed out, and no row: if the process dies, the next opening deletes it (a server
//!   that takes over: its first sync), like the bytes of any operation that never returned.
//! - It was created before the commit that uses it, so nothing else about power cuts differs.
//! - Its times are those of its use.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Ino;
use crate::sys::fs::bytes::{self, Timestamp};

/// Creations further apart than this do not follow one another: nothing is prepared.
const AT_ONCE_NANOS: i128 = 100_000_000;

/// The prepared file of one upper, if there is one.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the last file was created.
    last: Timestamp,
    /// The last two files were created one after another, so another one is expected.
    is_wanted: bool,
    ready: Option<Ready>,
}

/// A prepared file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// Its inode.
    pub ino: Ino,
    /// When it was created.
    at: Timestamp,
}

impl Ready {
    /// True if the file has the times of one that is created now.
    pub fn is_new(&self) -> bool {
        self.at == bytes::now()
    }
}

impl Spare {
    /// Takes the prepared file for a creation.
    pub fn take(&self) -> Option<Ready> {
        let now = bytes::now();
        let mut state = self.state();
        state.is_wanted = nanos(now) - nanos(state.last) < AT_ONCE_NANOS;
        state.last = now;
        state.ready.take()
    }

    /// True, once, if another creation is expected and no file is prepared for it.
    pub fn is_wanted(&self) -> bool {
        let mut state = self.state();
        state.ready.is_none() && std::mem::take(&mut state.is_wanted)
    }

    /// Keeps the file of `ino`, which was created not before `at`. Returns the one that another thread has prepared meanwhile.
    pub fn keep(&self, ino: Ino, at: Timestamp) -> Option<Ready> {
        self.state().ready.replace(Ready { ino, at })
    }

    /// Takes the file because it is not needed any more.
    pub fn give_up(&self) -> Option<Ready> {
        self.state().ready.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos((seconds, nanos): Timestamp) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}
