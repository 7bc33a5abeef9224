//! Facts about a space: whether it is plain files, from which catalog, and whether they were changed.

use crate::fs::upper;
use crate::rcc::catalog::CatalogId;
use crate::space::{RestoredState, Space, SpaceError, inventory, lease, materialize};
use crate::store::index::{Head, Index, index_path};

use super::context::Context;
use super::error::{SessionError, Tried as _};
use super::request::SpaceName;
use super::written;

/// Why nothing is mounted over changed files.
pub const CHANGED: &str = "it is plain files, whose changes would not be visible in a mount";

/// A space that is plain files.
pub struct PlainSpace {
    /// The space.
    pub space: Space,
    /// The catalog it was laid out from.
    pub index: Index,
}

/// The space with that name if it is plain files and its catalog is known; laid out by us or by RCC.
pub fn find(context: &Context, name: &SpaceName) -> Result<Option<PlainSpace>, SessionError> {
    for dir in written::state_dirs(context, name)? {
        let Some(state) = RestoredState::read_in(&dir).ok().flatten() else { continue };
        let Some(index) = state.catalog.parse().ok().and_then(|id| written::known_index(context, &id).ok())
        else {
            continue;
        };
        let space = context.space(index.base(), name);
        if space.state_dir == dir && space.stands_as_files() && laid_out_by_us(&space).is_some() {
            return Ok(Some(PlainSpace { space, index }));
        }
    }
    let known = inventory::find(&context.home, &name.controller, &name.space)?;
    let found = known.into_iter().find_map(|known| {
        let named = !known.blueprint.is_empty() && known.space.stands_as_files();
        let index = named.then(|| context.index(&known.blueprint).ok()).flatten()?.0;
        (index.base() == known.space.base).then_some(PlainSpace { space: known.space, index })
    });
    Ok(found)
}

/// The catalog that we laid out there, if that was completed and RCC has not restored the space since.
pub fn laid_out_by_us(space: &Space) -> Option<CatalogId> {
    let state = space.restored_state().ok().flatten()?;
    let ours =
        Some(&state.meta) == space.meta_state().as_ref() && !state.is_empty && !space.is_half_restored();
    ours.then(|| state.catalog.parse().ok()).flatten()
}

/// True if files that we laid out were changed. `wanted` is the requested catalog, with its name.
pub fn has_changes(
    context: &Context,
    space: &Space,
    (named, wanted): (&str, &Head),
) -> Result<bool, SessionError> {
    let Some(id) = laid_out_by_us(space).filter(|_| space.stands_as_files()) else { return Ok(false) };
    let changed = |index: &Index| {
        let changed = materialize::is_changed(index, space);
        changed.tried_with(|| format!("Cannot look for what was written to {}", space.root.display()))
    };
    if id == wanted.id() {
        return changed(&context.index_of(named, &id)?);
    }
    match Index::open(index_path(&context.home.index_dir(), &id), &id) {
        Ok(index) => changed(&index),
        // Without the Index it is unknown what was laid out there.
        Err(error) => {
            log::debug!("{}: its written state is unknown: {error}", space.root.display());
            Ok(false)
        }
    }
}

/// Drops what was written to the mounted space.
pub fn drop_written(space: &Space) -> Result<(), SessionError> {
    let _live = space.go_live()?;
    Ok(upper::reset(&space.state_dir)?)
}

/// Refuses to delete a space that is in use.
pub fn refuse_used(space: &Space) -> Result<(), SpaceError> {
    let users = lease::users(&space.state_dir);
    match users.first() {
        None => Ok(()),
        Some(user) => Err(SpaceError::Live { root: space.root.clone(), holder: Some(user.process) }),
    }
}
