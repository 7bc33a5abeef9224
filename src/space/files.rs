//! The names of what is kept for a space, in its state directory.

/// Our own lock, held while the space is mounted or materialized.
pub const LOCK: &str = "lock";
/// The start lock.
pub const START: &str = "start";
/// The leases of those who use the space.
pub const LEASES: &str = "leases";
/// What is told about the mount.
pub const MOUNT: &str = "mount.json";
/// The log of the process that serves the mount.
pub const LOG: &str = "log";
/// The last complete materialize.
pub const RESTORED: &str = "restored.json";
/// A materialize that has begun.
pub const RESTORING: &str = "restoring.json";
/// What was written: its names.
pub const UPPER_NAMES: &str = "state.db";
/// What was written: its bytes.
pub const UPPER_BYTES: &str = "upper";
/// Files with the space's own path in them.
pub const RELOCATED: &str = "relocated";
/// What a materialize saw of its files the last time.
pub const LISTED: &str = "listed";
