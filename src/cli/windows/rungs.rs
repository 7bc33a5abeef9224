//! The rungs that mount, of which Windows has none.

use super::{Tried, tried};
use crate::cli::context::Context;
use crate::cli::mount::NO_FUSE;
use crate::cli::rung::Rung;

/// Says of each why it does not hold.
pub fn try_mounts(_context: &Context) -> Vec<Tried> {
    let mounts = [Rung::Direct, Rung::Helper, Rung::Fusermount, Rung::Namespace];
    mounts.map(|rung| tried(rung, || Err(anyhow::Error::msg(NO_FUSE)))).into()
}
