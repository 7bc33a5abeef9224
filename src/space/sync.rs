//! What the protocol of our lock is made of: the system's, or that of a model (`tests/models/`).

pub use std::fs::{File, TryLockError};
pub use std::thread::sleep;
pub use std::time::Instant;
