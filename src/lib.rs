//! HoloFS: RCC environments that appear instead of being copied.
//!
//! # Data flow
//! ```text
//! catalog file ─parse, validate─▶ Catalog ─compile─▶ Index (mapped)          blobs: library/ (gz|raw|zstd)
//!                                                      │                        │ inflate + verify, once
//!                                                      ▼                        ▼
//!              FUSE requests ─▶ fuse ─▶ vfs ─▶ {Index, Upper, Relocated} ─▶ BlobSource ─▶ raw store
//!                                                      ▲                        │
//!              materialize: plan(Index, what is there) ─▶ execute ──────────────┘ reflink ▸ hardlink ▸ copy ▸ patch
//! ```
//! Data enters at one edge and becomes checked types there. `vfs` (semantics) knows no FUSE; `fuse` only decodes and replies.
//! Mount and materialize never know each other: both read through the store, so that they cannot disagree.
//!
//! # Layers
//! A module imports only from lower layers, or from its own children; `tests/layers.rs` is the referee.
//!
//! | layer | modules |
//! |---|---|
//! | L0 | [`digest`], [`name`], [`observe`], [`sys`], [`yaml`] |
//! | L1 | [`catalog`], [`conda`], [`home`], [`tree`] |
//! | L2 | [`relocate`], [`store`] |
//! | L3 | [`bytecode`], [`check`], [`discard`], [`gc`], [`inventory`], [`record`], [`restore`], [`space`], [`transfer`], [`upper`], [`warm`] |
//! | L4 | [`vfs`] |
//! | L5 | [`fuse`] |
//! | L6 | [`cli`] |

pub mod bytecode;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod conda;
pub mod digest;
pub mod discard;
#[cfg(unix)]
pub mod fuse;
pub mod gc;
pub mod home;
pub mod inventory;
pub mod name;
pub mod observe;
pub mod record;
pub mod relocate;
pub mod restore;
pub mod space;
pub mod store;
pub mod sys;
pub mod transfer;
pub mod tree;
#[cfg(unix)]
pub mod upper;
#[cfg(unix)]
pub mod vfs;
pub mod warm;
pub mod yaml;
