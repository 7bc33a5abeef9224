//! The namespaces that keep or use a mount.

use crate::space::lease;
use crate::space::{MountState, Space, SpaceError};
use crate::sys::mount::namespace;

/// True if the mount is kept in this namespace, or a process in it uses the mount.
pub fn is_wanted_here(space: &Space, state: &MountState) -> bool {
    let here = namespace::current();
    state.kept_in.contains(&kept_here())
        || lease::users(&space.state_dir).iter().any(|user| user.namespace == here)
}

/// True if the mount is kept in another namespace, or a process there uses it, which need not be visible here (in another
/// container).
pub fn is_wanted_elsewhere(space: &Space) -> Result<bool, SpaceError> {
    let (here, kept) = (namespace::current(), kept_here());
    let is_kept = space.mount_state()?.is_some_and(|state| state.kept_in.iter().any(|there| *there != kept));
    Ok(is_kept || lease::users(&space.state_dir).iter().any(|user| user.namespace != here))
}

/// The namespace under which a mount is kept here; without /proc, which provides the ids, all namespaces count as one.
pub fn kept_here() -> u64 {
    namespace::current().unwrap_or_default()
}
