//! An upgrade: a mounted copy of the nearest catalog, in which the tools change only what differs, becomes the new catalog.
//!
//! Unchanged files are neither copied nor read. The space is used for nothing else, and removed however the build ends.

use std::time::Instant;

use crate::session::commit::{self, Committed};
use crate::session::context::Context;
use crate::session::error::Tried as _;
use crate::session::method::{Mode, described};
use crate::session::obtain::{Obtained, obtain};
use crate::session::own_space::OwnSpace;
use crate::session::unmount::leave;

use super::tools::Steps;
use super::{Imports, Inputs, NotUpgraded};

/// The result of an upgrade.
pub struct Upgraded {
    /// The new catalog.
    pub committed: Committed,
    /// Modules that cannot be imported, if that was checked.
    pub unimportable: Option<Imports>,
    /// Duration of the tools, in seconds.
    pub tool_seconds: f64,
    /// Duration of the commit, in seconds.
    pub commit_seconds: f64,
}

/// Creates the catalog of `inputs` from the one that `base` names. The caller holds the lock of the hololib.
pub fn upgrade(
    context: &Context,
    base: &str,
    inputs: &Inputs,
    steps: &Steps<'_>,
) -> Result<Upgraded, NotUpgraded> {
    let (index, _, _) = context.index(base)?;
    let own = OwnSpace::new(context, &index, "holofs build");
    own.during(|| in_space(context, base, inputs, steps, &own))
}

fn in_space(
    context: &Context,
    base: &str,
    inputs: &Inputs,
    steps: &Steps<'_>,
    own: &OwnSpace<'_>,
) -> Result<Upgraded, NotUpgraded> {
    let (space, request) = (&own.space, own.request(base, Mode::Mount));
    let Obtained { lease, .. } = obtain(context, &request, Some("holofs build"))?
        .map_err(|refused| NotUpgraded::Refused(described(&refused.refused)))?;
    let started = Instant::now();
    let steps = Steps { stage: &space.root, ..*steps };
    let done = steps.packages(inputs, "copy").and_then(|()| steps.check_if_wanted());
    let tool_seconds = started.elapsed().as_secs_f64();
    let left = leave(context, space, lease).tried("Cannot leave the mounted copy");
    let unimportable = done.map_err(NotUpgraded::Failed)?;
    left?;
    steps.go_on().map_err(NotUpgraded::Failed)?;
    let committed = commit::commit_held(context, &own.name, &inputs.specification)?;
    let commit_seconds = started.elapsed().as_secs_f64() - tool_seconds;
    Ok(Upgraded { committed, unimportable, tool_seconds, commit_seconds })
}
