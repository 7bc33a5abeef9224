//! Lock types for the lock protocols: from the standard library, or from the scheduler of a model (`tests/models/`).

pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
