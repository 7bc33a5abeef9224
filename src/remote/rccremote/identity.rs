//! The identity of a process in RCC's protocol: a server refuses requests with its own, which would go round in circles.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// 16 hex digits that no other process has.
pub fn new() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
