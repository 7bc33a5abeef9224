//! For each parser of foreign bytes, a function that must neither panic nor accept anything wrong.
//!
//! Used twice: by the fuzzer with coverage, and by `tests/hostile/fuzz.rs` with a fixed sequence of inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken promise is a panic here")]

use std::path::Path;

#[path = "targets/blob.rs"]
pub mod blob;
#[path = "targets/catalog.rs"]
pub mod catalog;
#[path = "targets/index.rs"]
pub mod index;
#[path = "targets/logins.rs"]
pub mod logins;
#[path = "targets/oci.rs"]
pub mod oci;
#[path = "targets/queries.rs"]
pub mod queries;
#[path = "targets/rccremote.rs"]
pub mod rccremote;
#[path = "targets/remote.rs"]
pub mod remote;
#[path = "targets/request.rs"]
pub mod request;
#[path = "targets/state.rs"]
pub mod state;
#[path = "targets/vfs.rs"]
pub mod vfs;
#[path = "targets/zip.rs"]
pub mod zip;

/// One target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Handles one input.
    pub run: fn(&[u8]),
    /// Creates seeds from the golden data in this directory.
    pub seeds: fn(&Path) -> Vec<Vec<u8>>,
    /// The number of inputs in a test, for about two seconds.
    pub usual: u64,
}

/// All targets.
pub const ALL: [Target; 11] = [
    Target { name: "catalog", run: catalog::run, seeds: catalog::seeds, usual: 1_500 },
    Target { name: "index", run: index::run, seeds: index::seeds, usual: 20_000 },
    Target { name: "blob", run: blob::run, seeds: blob::seeds, usual: 3_000 },
    Target { name: "zip", run: zip::run, seeds: zip::seeds, usual: 60 },
    Target { name: "request", run: request::run, seeds: request::seeds, usual: 100_000 },
    Target { name: "remote", run: remote::run, seeds: remote::seeds, usual: 2_000 },
    Target { name: "oci", run: oci::run, seeds: oci::seeds, usual: 50_000 },
    Target { name: "logins", run: logins::run, seeds: logins::seeds, usual: 50_000 },
    Target { name: "rccremote", run: rccremote::run, seeds: rccremote::seeds, usual: 300 },
    Target { name: "state", run: state::run, seeds: state::seeds, usual: 1_500 },
    Target { name: "vfs", run: vfs::run, seeds: vfs::seeds, usual: 100 },
];
