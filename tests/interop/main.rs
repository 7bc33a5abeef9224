//! HoloFS and the official RCC on one hololib: each reads what the other wrote, and both agree on what they see.

#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod build;
mod concurrency;
mod hash;
mod json;
mod mounted;
mod parity;
mod rcc;
mod rccremote;
mod remote;
mod report;
mod robot;
mod words;
