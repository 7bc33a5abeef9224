//! HoloFS and the official RCC on one hololib: each program reads what the other one wrote, with the same result.

#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod build;
mod build_index;
mod build_interrupted;
mod concurrency;
mod conda;
mod hash;
mod interpreter;
mod json;
mod mounted;
mod parity;
mod rcc;
mod rccremote;
mod remote;
mod report;
mod robot;
mod words;
