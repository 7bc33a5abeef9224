//! What attacks, faults and many parallel processes must not achieve, checked by the program's own behaviour.
//!
//! The slow parts run longer with `HOLOFS_SOAK` (`scripts/test --soak`). `SECURITY.md` names the promise of each test here.
#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helper fails loudly, and prints what it did"
)]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod bundle;
mod catalogs;
mod clock;
mod commits;
mod contents;
mod crowd;
mod deaths;
mod faults;
mod fuzz;
mod isolation;
mod limits;
mod mountpoint;
mod mutations;
mod opens;
mod paranoid;
mod planted;
mod remotes;
mod sandbox;
mod security;
mod text;
mod trace;
mod trust;
mod writes;
