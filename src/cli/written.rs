//! What was written to a space, opened by a command: whoever serves the space goes on.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::observe::{Observer, Tally};
use crate::space::relocated::Relocated;
use crate::tree::Index;
use crate::upper::{self, Access, Upper};
use crate::vfs::Vfs;

use super::SpaceArgs;
use super::context::Context;
use super::exit_code::NotFound;

/// Files that a command keeps open.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");

/// What we keep for a space; an error if there is no such space.
pub fn state_dir(context: &Context, args: &SpaceArgs) -> anyhow::Result<PathBuf> {
    let found = context.state_dir(args)?;
    found.ok_or_else(|| {
        NotFound(format!("Space {:?} of controller {:?} was never mounted", args.space, args.controller))
            .into()
    })
}

/// The Index of the catalog that the space was written on; `None` if it was never written.
pub fn index(context: &Context, state_dir: &Path) -> anyhow::Result<Option<Index>> {
    let id = upper::written_catalog(state_dir)?;
    id.map(|id| context.known_index(&id)).transpose()
}

/// The space of `index`, with what was written to it.
pub fn open(context: &Context, args: &SpaceArgs, index: Index, access: Access) -> anyhow::Result<Vfs> {
    let space = context.space(index.base(), args);
    let observer: Arc<dyn Observer> = Arc::new(Tally::logging());
    let source = context.store(Arc::clone(&observer))?;
    let label = space.label.as_bytes();
    let relocated = Relocated::new(&space.state_dir, &index, label, source, Arc::clone(&observer));
    let options = upper::Options { access, descriptors: OPEN_FILES };
    let upper = Upper::open(&space.state_dir, &index.id(), &options, observer)?;
    let writable = access == Access::Writable;
    let view = super::serve::view();
    Ok(Vfs::with_upper(Arc::new(index), Arc::new(relocated), Arc::new(upper), view, writable))
}
