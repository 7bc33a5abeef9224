//! The entries of an Index: loaded, or still being loaded by a thread.
//!
//! A use of an entry waits until all of them are loaded and checked; so no user sees one that was not checked.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::format::Bytes;

/// The bytes with the entries, and the outcome of loading them.
pub(super) struct Entries<T> {
    bytes: OnceLock<Bytes>,
    loading: Mutex<Loading<T>>,
}

/// The progress of loading.
enum Loading<T> {
    /// The thread, and the outcome if it panics.
    Going(JoinHandle<(Option<Bytes>, T)>, T),
    /// The outcome, until it is taken.
    Ended(Option<T>),
}

impl<T: Send + 'static> Entries<T> {
    /// Loaded already.
    pub fn of(bytes: Bytes) -> Entries<T> {
        Entries { bytes: OnceLock::from(bytes), loading: Mutex::new(Loading::Ended(None)) }
    }

    /// Loads them with `load`, in a thread; `panicked` is the outcome if it panics.
    pub fn load(
        load: impl FnOnce() -> (Option<Bytes>, T) + Send + 'static,
        panicked: T,
    ) -> std::io::Result<Entries<T>> {
        let thread = std::thread::Builder::new().name("index".into()).spawn(load)?;
        Ok(Entries { bytes: OnceLock::new(), loading: Mutex::new(Loading::Going(thread, panicked)) })
    }

    /// The bytes; `None` if they could not be loaded.
    pub fn get(&self) -> Option<&Bytes> {
        self.bytes.get().or_else(|| {
            self.wait(|_| ());
            self.bytes.get()
        })
    }

    /// Like [`Entries::get`], to keep them without the Index.
    pub fn into_bytes(self) -> Option<Bytes> {
        self.get()?;
        self.bytes.into_inner()
    }

    /// Waits until they are loaded; returns the outcome, once, if a thread has loaded them.
    pub fn complete(&self) -> Option<T> {
        self.wait(Option::take)
    }

    fn wait<R>(&self, then: impl FnOnce(&mut Option<T>) -> R) -> R {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = match std::mem::replace(&mut *loading, Loading::Ended(None)) {
            Loading::Ended(outcome) => outcome,
            Loading::Going(thread, panicked) => {
                let (bytes, outcome) = thread.join().unwrap_or((None, panicked));
                bytes.map(|bytes| self.bytes.get_or_init(|| bytes));
                Some(outcome)
            }
        };
        let answer = then(&mut outcome);
        *loading = Loading::Ended(outcome);
        answer
    }
}
