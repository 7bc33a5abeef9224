//! The damage matrix: whatever happens to the files below, the answer is the right bytes or the right error.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

#[path = "damage/blobs.rs"]
mod blobs;
#[path = "damage/hololib.rs"]
mod hololib;
#[path = "damage/raw_entries.rs"]
mod raw_entries;
