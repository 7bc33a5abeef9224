//! The primitives of our lock protocol: the system's, or those of a model (`tests/models/`).

pub use std::fs::{File, TryLockError};
pub use std::thread::sleep;
pub use std::time::Instant;
