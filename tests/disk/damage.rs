//! The damage matrix: whatever happens to the files below, the answer is the right bytes or the right error.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test may panic and say why it skips

mod blobs;
mod hololib;
mod raw_entries;
