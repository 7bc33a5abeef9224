//! The source of lock types: the standard library, or the scheduler of a model (`tests/models/`).

pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
