//! Waiting for a server whose mount is gone from here: it holds the space until its last changes are on disk, and as long as another
//! mount namespace has a copy of the mount, such as one that is just being prepared for an isolated run.

use std::time::Duration;

use crate::space::Space;

use super::context::Context;
use super::decide::AtRoot;
use super::snapshot::at_root;
use super::start::Deadline;

/// The interval between checks while waiting for a space.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a mount may exist only in another namespace before this is an error: one that exists longer is in use.
pub(super) const PASSING: Duration = Duration::from_secs(2);

/// Waits for the end of a server whose mount is not here, so that the space can be changed. Does not wait for a mount that is here.
pub fn wait_until_left(context: &Context, space: &Space) {
    let deadline = Deadline::of(context.wait);
    let is_leaving = || space.live_holder().is_some() && !is_here(space);
    while is_leaving() && !deadline.is_over() && deadline.waited() < PASSING {
        std::thread::sleep(LOOK_EVERY);
    }
}

fn is_here(space: &Space) -> bool {
    let state = space.mount_state().ok().flatten();
    state.is_some_and(|state| at_root(space, &state) == AtRoot::Ours)
}
