//! File names in the state directory of a space.

/// Our own lock, held while the space is mounted or materialized.
pub const LOCK: &str = "lock";
/// The start lock.
pub const START: &str = "start";
/// The leases of the users of the space.
pub const LEASES: &str = "leases";
/// The socket at which the server of the mount gives copies of it to commands in other containers.
pub const CONTROL: &str = "control";
/// The description of the mount.
pub const MOUNT: &str = "mount.json";
/// The log of the process that serves the mount.
pub const LOG: &str = "log";
/// The last complete materialize.
pub const RESTORED: &str = "restored.json";
/// A materialize that has started.
pub const RESTORING: &str = "restoring.json";
/// The upper: its names.
pub const UPPER_NAMES: &str = "state.db";
/// The upper: its bytes.
pub const UPPER_BYTES: &str = "upper";
/// Files that contain the space's own path.
pub const RELOCATED: &str = "relocated";
/// The state of the directories at the last materialize.
pub const LISTED: &str = "listed";
