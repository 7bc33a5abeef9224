//! The parts of `upper` that its lock protocol needs, with the model's locks in place of the standard library's.

pub use holofs::store::index::Ino;

pub mod sync {
    pub use std::sync::PoisonError;

    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../../src/fs/upper/locks.rs"]
pub mod locks;
