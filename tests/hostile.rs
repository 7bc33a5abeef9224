//! Trust nothing, lose nothing: what attacks, faults and crowds must not achieve, told by the program's own behaviour.
//!
//! The slow parts grow with `HOLOFS_SOAK` (`scripts/test --soak`). `SECURITY.md` names the promise of each test here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helper fails loudly, and tells what it did"
)]

mod common;

#[path = "hostile/bounds.rs"]
mod bounds;
#[path = "hostile/bundle.rs"]
mod bundle;
#[path = "hostile/cage.rs"]
mod cage;
#[path = "hostile/catalogs.rs"]
mod catalogs;
#[path = "hostile/clock.rs"]
mod clock;
#[path = "hostile/contents.rs"]
mod contents;
#[path = "hostile/crowd.rs"]
mod crowd;
#[path = "hostile/deaths.rs"]
mod deaths;
#[path = "hostile/faults.rs"]
mod faults;
#[path = "hostile/isolation.rs"]
mod isolation;
#[path = "hostile/mountpoint.rs"]
mod mountpoint;
#[path = "hostile/paranoid.rs"]
mod paranoid;
#[path = "hostile/trace.rs"]
mod trace;
#[path = "hostile/writes.rs"]
mod writes;
