//! Everything on disk: catalogs, blobs, spaces and archives are read, written, damaged and maintained.

#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helper fails loudly, and says why it skips"
)]

#[path = "../common/mod.rs"]
mod common;

mod catalog_format;
mod damage;
mod equivalence;
mod locator;
mod materialize;
mod record;
mod settled;
mod store;
mod transfer;
mod upkeep;
mod usage;
