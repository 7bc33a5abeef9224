//! File names in the state directory of a space.

/// Our own lock, held while the space is mounted or materialized.
pub const LOCK: &str = "lock";
/// The start lock.
pub const START: &str = "start";
/// The leases of the users of the space.
pub const LEASES: &str = "leases";
/// The socket at which the server of the mount offers copies of it to commands in other containers.
pub const CONTROL: &str = "control";
/// The description of the mount.
pub const MOUNT: &str = "mount.json";
/// The log of the process that serves the mount.
pub const LOG: &str = "log";
/// The last complete materialize.
pub const RESTORED: &str = "restored.json";
/// A materialize that has started.
pub const RESTORING: &str = "restoring.json";
/// What `.meta` said about the files below a mount.
pub const HIDDEN: &str = "hidden.json";
/// The environment into which RCC converted the upper.
pub const CONVERTED: &str = "converted.json";
/// The upper: its database of inodes and names.
pub const UPPER_NAMES: &str = "state.db";
/// The upper: its directory with the bytes of files.
pub const UPPER_BYTES: &str = "upper";
/// Files that contain the space's own path.
pub const RELOCATED: &str = "relocated";
/// The state of the directories at the last materialize.
pub const LISTED: &str = "listed";
