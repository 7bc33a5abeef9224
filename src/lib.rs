//! HoloFS: mounts RCC environments instead of copying them.
//!
//! # Data flow
//! ```text
//! catalog file ─parse, validate─▶ Catalog ─compile─▶ Index (cached)          blobs: library/ (gz|raw|zstd)
//!                                                      │                        │ inflate + verify, once
//!                                                      ▼                        ▼
//!              FUSE requests ─▶ fuse ─▶ vfs ─▶ {Index, Upper, Relocated} ─▶ BlobSource ─▶ raw store
//!                                                      ▲                        │
//!              materialize: plan(Index, what is there) ─▶ execute ──────────────┘ reflink ▸ hardlink ▸ copy ▸ patch
//! ```
//! Data enters at one edge and becomes checked types there. `vfs` (semantics) knows no FUSE; `fuse` only decodes and replies. Mount
//! and materialize do not depend on each other: both read through the store, so their results agree.
//!
//! # Layers
//! A layer imports only from layers above it in this table, or from its own files, and no files import each other in a circle;
//! `tests/layers.rs` checks this.
//!
//! | layer | responsibility |
//! |---|---|
//! | [`error`] | errors: causes, class, hint |
//! | [`sys`] | the operating system: files, mounts, processes; the only `unsafe` |
//! | [`rcc`] | RCC's files and terms: digests, catalogs, blueprints, the home |
//! | [`store`] | content by digest: blobs, the raw store, compiled catalogs, relocations |
//! | [`space`] | a space on disk: its state, materialize, record, archives, maintenance |
//! | [`remote`] | remote environments: heads, packs, references; registries, buckets, directories, web servers |
//! | [`fs`] | a space as a file system: upper, vfs, FUSE |
//! | [`session`] | the life of a space: mount, serve, run, unmount |
//! | [`build`] | builds environments from requirements with existing tools; ends in record |
//! | [`inspect`] | what an environment contains, what runs used of it, what changed |
//! | [`cli`] | arguments, text, JSON, progress, exit codes |

pub mod build;
#[allow(clippy::disallowed_methods, reason = "the command line reads the environment and exits")]
pub mod cli;
pub mod error;
#[cfg(unix)]
pub mod fs;
#[cfg(unix)]
pub mod inspect;
pub mod rcc;
pub mod remote;
pub mod session;
pub mod space;
pub mod store;
pub mod sys;
