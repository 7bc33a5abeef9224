//! The parts of `store` that its lock protocol needs, with the model's locks in place of the standard library's.

pub mod layout {
    pub use holofs::store::RawKey;
}

pub mod sync {
    pub use std::sync::PoisonError;

    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../../src/store/inflight.rs"]
pub mod inflight;
