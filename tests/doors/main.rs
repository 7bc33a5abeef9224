//! How users enter: shells, hooks, notebooks, completions, help, packages.

#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

#[path = "../common/mod.rs"]
mod common;

mod completions;
mod editor;
mod hook;
mod install;
mod kernel;
mod pages;
mod schemas;
mod shell;
mod talking;
mod texts;
