//! A space that is plain files: used, compared and reset like a mounted one.
//!
//! Its changes are kept, as in a mount, until it is reset or laid out again, or RCC restores it. A command has a lease on it, so that
//! the files are not changed under the command. All decisions are made under the start lock.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::fs::upper;
use crate::rcc::catalog::{Catalog, CatalogId};
use crate::rcc::home::Home;
use crate::space::lease::{self, Lease};
use crate::space::materialize::{self, Options};
use crate::space::{RestoredState, Space, SpaceError, inventory};
use crate::store::index::{Index, index_path};
use crate::sys::fs::name::RelPath;

use super::context::Context;
use super::error::{Busy, CannotMount, NotFound};
use super::foreign;
use super::lay_out;
use super::method::{Refusal, told};
use super::obtain::{Repairs, ready_for_files};
use super::report::{MountReport, report_of_files};
use super::request::{MountRequest, SpaceName};
use super::written;

/// Why nothing is mounted over changed files.
pub const CHANGED: &str = "it stands as files, and what was written to them would not be seen in a mount";

/// A space that is plain files.
pub struct Standing {
    /// The space.
    pub space: Space,
    /// The catalog it was laid out from.
    pub index: Index,
}

/// The space with that name if it is plain files and its catalog is known; laid out by us or by RCC.
pub fn find(context: &Context, name: &SpaceName) -> anyhow::Result<Option<Standing>> {
    for dir in written::state_dirs(context, name)? {
        let Some(state) = RestoredState::read_in(&dir).ok().flatten() else { continue };
        let Some(index) = state.catalog.parse().ok().and_then(|id| written::known_index(context, &id).ok())
        else {
            continue;
        };
        let space = context.space(index.base(), name);
        if space.state_dir == dir && stands(&space) && laid_out_by_us(&space).is_some() {
            return Ok(Some(Standing { space, index }));
        }
    }
    let known = inventory::find(&context.home, &name.controller, &name.space)?;
    let found = known.into_iter().find_map(|known| {
        let named = !known.blueprint.is_empty() && stands(&known.space);
        let index = named.then(|| context.index(&known.blueprint).ok()).flatten()?.0;
        (index.base() == known.space.base).then_some(Standing { space: known.space, index })
    });
    Ok(found)
}

/// True if the directory of the space has entries, and nothing is mounted there.
pub fn stands(space: &Space) -> bool {
    let filled = || std::fs::read_dir(&space.root).is_ok_and(|mut entries| entries.next().is_some());
    space.refuse_mounted().is_ok() && space.live_holder().is_none() && filled()
}

/// The catalog that we laid out there, if that was completed and RCC has not restored the space since.
fn laid_out_by_us(space: &Space) -> Option<CatalogId> {
    let state = space.restored_state().ok().flatten()?;
    let ours = Some(&state.meta) == space.meta_state().as_ref() && !space.is_half_restored();
    ours.then(|| state.catalog.parse().ok()).flatten()
}

/// True if files that we laid out were changed.
pub fn has_changes(home: &Home, space: &Space, wanted: &Index) -> anyhow::Result<bool> {
    let Some(id) = laid_out_by_us(space).filter(|_| stands(space)) else { return Ok(false) };
    let changed = |index: &Index| {
        let changed = materialize::is_changed(index, space);
        changed.with_context(|| format!("Cannot look for what was written to {}", space.root.display()))
    };
    if id == wanted.id() {
        return changed(wanted);
    }
    match Index::open(index_path(&home.index_dir(), &id), &id) {
        Ok(index) => changed(&index),
        // It is no longer known what was laid out there.
        Err(error) => {
            log::debug!("{}: what was written to it is not known: {error}", space.root.display());
            Ok(false)
        }
    }
}

/// Provides the space as files for `request`, with a lease for `command`.
pub fn obtain(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
    command: Option<&str>,
) -> anyhow::Result<(MountReport, Option<Lease>)> {
    let (index, made, catalog) = context.index(&request.catalog)?;
    let space = context.space(index.base(), &request.space);
    foreign::refuse(&context.home, &space.base)?;
    let repairs = if request.fresh { Repairs::All } else { Repairs::Nothing };
    let start = ready_for_files(context, &space, &index, repairs)?;
    if request.fresh {
        drop_written(&space)?;
    } else if space.has_upper() {
        // The changes are in the upper, which plain files can neither show nor contain.
        let why = "what was written to it shows in a mount only; --fresh drops it";
        let what = format!("{} ({why})", space.root.display());
        return Err(CannotMount { what, refused: reasons }.into());
    }
    if !request.fresh && is_kept(context, &space, &index)? {
        space.journal_use(&catalog, index.blueprint());
        space.mark_used(&catalog, index.blueprint());
    } else {
        if !request.fresh && has_changes(&context.home, &space, &index)? {
            return Err(other_files(&space, &index).into());
        }
        let strategy = lay_out::default_strategy(context)?;
        let options = Options { strategy, wait: context.wait, verify: request.fresh, ..Options::default() };
        lay_out::place(context, &catalog, &index, &space, &options, &[])
            .with_context(|| format!("Cannot materialize (nor mount: {})", told(&reasons)))?;
    }
    let lease = command.map(|command| Lease::take(&space, command, &index.id().to_string())).transpose();
    let lease = lease.with_context(|| format!("Cannot note the use of {}", space.root.display()))?;
    drop(start);
    let report = report_of_files(&space, &index, &made, catalog, reasons);
    Ok((report, lease))
}

/// True if the files of this same catalog are there: they are used unchanged.
fn is_kept(context: &Context, space: &Space, index: &Index) -> anyhow::Result<bool> {
    if laid_out_by_us(space) != Some(index.id()) || !stands(space) {
        return Ok(false);
    }
    // RCC may be changing it.
    let _lock = context.lock(space)?;
    Ok(laid_out_by_us(space) == Some(index.id()))
}

/// The error if files of another catalog are in use or were changed.
fn other_files(space: &Space, index: &Index) -> Busy {
    let root = space.root.display();
    Busy(format!(
        "{root} has files of another catalog than {}, and something was written to them; `holofs diff` tells what, `holofs reset` and \
         --fresh drop it",
        index.blueprint()
    ))
}

/// Drops what was written to the mounted space.
pub fn drop_written(space: &Space) -> anyhow::Result<()> {
    let _live = space.go_live()?;
    Ok(upper::reset(&space.state_dir)?)
}

/// Resets the space, or only `paths` of it, to exactly the catalog's content.
pub fn reset(context: &Context, standing: &Standing, paths: &[RelPath]) -> anyhow::Result<()> {
    let Standing { space, index } = standing;
    let _start = ready_for_files(context, space, index, Repairs::All)?;
    if paths.is_empty() {
        drop_written(space)?;
    }
    let catalog = catalog_of(context, index)?;
    let options = Options { wait: context.wait, verify: true, ..Options::default() };
    lay_out::place(context, &catalog, index, space, &options, paths).map(drop)
}

fn catalog_of(context: &Context, index: &Index) -> anyhow::Result<PathBuf> {
    let catalogs = context.home.catalogs()?;
    let found = catalogs.into_iter().find(|path| Catalog::identify(path).is_ok_and(|id| id == index.id()));
    found.ok_or_else(|| {
        NotFound(format!("The catalog {} is not in the hololib any more", index.blueprint())).into()
    })
}

/// There is nothing to unmount for a space that is plain files; but its users are reported, as for a mount.
pub fn unmount(standing: &Standing, forces: bool) -> anyhow::Result<()> {
    let users = lease::users(&standing.space.state_dir);
    if users.is_empty() || forces {
        return Ok(());
    }
    let (root, users) = (standing.space.root.display(), lease::told(&users));
    Err(Busy(format!("{root} is in use by {users}; end it, or use --lazy")).into())
}

/// Refuses to delete a space that is in use.
pub fn refuse_used(space: &Space) -> Result<(), SpaceError> {
    let users = lease::users(&space.state_dir);
    match users.first() {
        None => Ok(()),
        Some(user) => Err(SpaceError::Live { root: space.root.clone(), holder: Some(user.process) }),
    }
}
