//! The behaviour of a mounted space: its laws through the kernel, and against a model.

#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

#[path = "../common/mod.rs"]
mod common;

mod awake;
mod bytecode;
mod commit;
mod commit_model;
mod company;
mod containers;
mod created;
mod crowd;
mod files;
mod identity;
mod inherited;
mod killed;
mod leaving;
mod model;
mod mount;
mod observe;
mod passthrough;
mod posix;
mod readers;
mod real_run;
mod requests;
mod restart;
mod running;
mod supervised;
mod sweep;
mod targets;
mod travelled;
mod upgrade;
