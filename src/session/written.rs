//! The written state of a space, opened by a command while the space may be served.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::fs::upper::{self, Access, Upper};
use crate::fs::vfs::{Vfs, View};
use crate::rcc::catalog::{Catalog, CatalogId};
use crate::space::relocated::Relocated;
use crate::store::index::Index;
use crate::store::observe::{Observer, Tally};
use crate::sys::fs::place::Place;

use super::context::Context;
use super::error::{NotAmong, NotFound, SessionError, Tried as _};
use super::request::SpaceName;

/// How many files a command keeps open.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");

/// The state directory of a space; an error if there is no such space.
pub fn state_dir(context: &Context, name: &SpaceName) -> Result<Place, SessionError> {
    let found = find_state_dir(context, name)?;
    found.ok_or_else(|| {
        let (space, controller) = (&name.space, &name.controller);
        NotAmong::spaces(format!("Space {space:?} of controller {controller:?} was never mounted")).into()
    })
}

/// The state directory of the space with that name, for any base; `None` if it was never used.
fn find_state_dir(context: &Context, name: &SpaceName) -> Result<Option<Place>, SessionError> {
    let dirs = state_dirs(context, name)?;
    let mut written = Vec::new();
    for dir in &dirs {
        written.extend(upper::written_catalog(dir).map_or(true, |it| it.is_some()).then(|| dir.clone()));
    }
    Ok(written.into_iter().next().or_else(|| dirs.into_iter().next()))
}

/// The state directories of spaces with that name, one for each base.
pub fn state_dirs(context: &Context, name: &SpaceName) -> Result<Vec<Place>, SessionError> {
    let label = context.home.label(&name.controller, &name.space);
    let spaces = context.home.spaces_dir();
    let mut dirs = spaces.entries().tried_with(|| format!("Cannot list {}", spaces.display()))?;
    dirs.retain(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(label.as_str())));
    Ok(dirs)
}

/// The Index of the catalog that the space's written state belongs to; `None` if nothing was written.
pub fn index(context: &Context, state_dir: &Place) -> Result<Option<Index>, SessionError> {
    let id = upper::written_catalog(state_dir)?;
    id.map(|id| known_index(context, &id)).transpose()
}

/// The Index of a catalog that was mounted before, by its id.
pub fn known_index(context: &Context, id: &CatalogId) -> Result<Index, SessionError> {
    let place = crate::store::index::index_path(&context.home.index_dir(), id);
    if !context.paranoid
        && let Ok(index) = Index::open(place, id)
    {
        return Ok(index);
    }
    for path in context.home.catalogs()? {
        if Catalog::identify(&path).is_ok_and(|found| found == *id) {
            return Ok(context.index_at(&path)?.0);
        }
    }
    Err(NotFound(format!("The catalog {id} is not in the hololib any more")).into())
}

/// The space of `index`, with its written state.
pub fn open(context: &Context, name: &SpaceName, index: Index, access: Access) -> Result<Vfs, SessionError> {
    let space = context.space(index.base(), name);
    let observer: Arc<dyn Observer> = Arc::new(Tally::logging());
    let source = context.store(Arc::clone(&observer))?;
    let label = space.label.as_bytes();
    let relocated = Relocated::new(&space.state_dir, &index, label, source, Arc::clone(&observer))
        .with_paranoia(context.paranoid);
    let options = upper::Options { access, descriptors: OPEN_FILES };
    let upper = Upper::open(&space.state_dir, &index.id(), &options, observer)?;
    upper.check_tree(|ino| index.node(ino).map(|node| node.parent))?;
    let writable = access == Access::Writable;
    let view = view();
    Ok(Vfs::with_upper(Arc::new(index), Arc::new(relocated), Arc::new(upper), view, writable))
}

/// Owned by the mounting user, with directory modes as RCC sets them.
pub fn view() -> View {
    let owner = crate::sys::process::daemon::owner();
    View { uid: owner.uid, gid: owner.gid, dir_mode: 0o750 & !owner.umask }
}
