//! The damage matrix: for every damage to the files, the result is the right bytes or the right error.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test may panic and say why it skips

mod blobs;
mod hololib;
mod raw_entries;
