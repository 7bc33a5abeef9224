//! The messages between a supervisor and its server.

use serde::{Deserialize, Serialize};

use crate::fs::fuse::Handshake;
use crate::session::report::MountReport;
use crate::session::request::Order;
use crate::sys::mount::MountId;
use crate::sys::process::Process;

/// A message of a server.
#[derive(Debug, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The space is claimed; with descriptors of the lock file and the log.
    Claimed,
    /// It is mounted; with descriptors of the device and the counters, unless it cannot be taken over.
    Standing(Box<Standing>),
    /// It is serving.
    Serving,
    /// The supervisor may outlive the process that it was forked from.
    Outlives,
    /// It makes progress: it has answered all resent requests, and some new ones.
    GoesOn,
    /// A successor can take the mount over.
    Fits,
    /// A successor cannot take the mount over.
    Unfit(String),
}

/// A request to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Unmount and end.
    Unmount,
    /// Do not access the mount any more.
    Quiet,
    /// End once all requests that were started are answered: a successor waits.
    Stop,
    /// Record that a restart was refused, and why.
    Stays(String),
    /// To a successor: take the mount over. A command requested it, and waits for the record.
    Begin {
        /// False if the previous server died.
        requested: bool,
    },
}

/// The first message to a successor, with descriptors of the device and the counters.
#[derive(Debug, Serialize, Deserialize)]
pub struct Legacy {
    /// What was requested.
    pub order: Order,
    /// The mount.
    pub standing: Standing,
    /// The supervisor.
    pub supervisor: Process,
    /// How many servers died.
    pub deaths: u64,
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
