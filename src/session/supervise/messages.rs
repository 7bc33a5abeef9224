//! The messages between a supervisor and its server.

use serde::{Deserialize, Serialize};

use crate::fs::fuse::Handshake;
use crate::session::report::MountReport;
use crate::sys::mount::MountId;

/// A message of a server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// The space is claimed; with descriptors of the lock file and the log.
    Claimed,
    /// It is mounted; with descriptors of the device and the counters, unless it cannot be taken over.
    Standing(Box<Standing>),
    /// It is serving.
    Serving,
    /// The supervisor may outlive the process that it was forked from.
    Outlives,
    /// It has answered all resent requests.
    GoesOn,
}

/// A request to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Unmount and end.
    Unmount,
    /// Do not access the mount any more.
    Quiet,
}

/// The facts about a mount that a takeover needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// The handshake with the kernel; `None`: it cannot be taken over.
    pub handshake: Option<Handshake>,
    /// The id of the mount.
    pub id: MountId,
    /// The catalog's id.
    pub catalog: String,
    /// The report on it.
    pub report: MountReport,
}
