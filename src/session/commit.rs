//! Committing: turns the written state of a space into a new catalog.
//!
//! The tree is read from the current space, catalog and upper together; unwritten contents keep their digest and are not read. In
//! written files, the space's label is replaced by the recorded identity, so that the new catalog relocates like the old one.
//! Contents are stored first, then the catalog; then both are synced, and only then is the upper dropped: a commit killed at any
//! point loses nothing and can be repeated.

mod contents;
mod links;
mod tree;

use std::fs::File;
use std::path::PathBuf;

use crate::fs::upper::{self, Access};
use crate::rcc::catalog::{Catalog, Header};
use crate::rcc::home::blueprint_hash;
use crate::space::record::Contents;
use crate::store::index::Index;

use super::context::Context;
use super::error::{Busy, NotFound, SessionError, Tried as _};
use super::left::wait_until_left;
use super::request::SpaceName;
use super::written;

use contents::Relocator;
use tree::Tree;

/// The result of a commit.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Committed {
    /// The hash in the new catalog's name.
    pub blueprint: String,
    /// The new catalog's file.
    pub catalog: PathBuf,
    /// The catalog that the space was mounted from.
    pub base: String,
    /// Files and links of the new catalog.
    pub files: u64,
    /// Files whose content was written in the space.
    pub written_files: u64,
    /// Their size in bytes.
    pub written_bytes: u64,
    /// Contents that were not in the hololib.
    pub new_blobs: u64,
    /// Entries that RCC never records, such as bytecode.
    pub left_out: u64,
}

/// Creates a catalog from the space, named by the hash of `specification`, and empties the space's upper.
pub fn commit(context: &Context, name: &SpaceName, specification: &str) -> Result<Committed, SessionError> {
    let _hololib = context.lock_hololib()?;
    commit_held(context, name, specification)
}

/// Like [`commit`], for a caller that holds the lock of the hololib.
pub fn commit_held(
    context: &Context,
    name: &SpaceName,
    specification: &str,
) -> Result<Committed, SessionError> {
    let state_dir = written::state_dir(context, name)?;
    let Some(index) = written::index(context, &state_dir)? else {
        return Err(NotFound(format!("Nothing was written to space {:?}", name.space)).into());
    };
    let space = context.space(index.base(), name);
    wait_until_left(context, &space);
    let _lock = context.lock(&space)?;
    let _live = space.go_live()?;
    let blueprint = blueprint_hash(specification.trim());
    if blueprint == index.blueprint() {
        return Err(Busy(format!("The new catalog needs another name than the old one, {blueprint}")).into());
    }
    let base = base_catalog(context, &index)?;
    let store = Contents::ensure(&context.home)?;
    let vfs = written::open(context, name, index, Access::ReadOnly)?;
    let relocator = Relocator::new(space.label.as_bytes(), base.header.identity.as_bytes(), &vfs, &store);
    let tree = Tree::read(&vfs, &base, &space.root, &relocator, specification.trim())?;
    let header = Header { blueprint: blueprint.clone(), rcc: recorder(), ..base.header.clone() };
    let catalog = Catalog::new(header, tree.dirs).tried("The space cannot be a catalog")?;
    let (path, new_blobs) = store.publish(&context.home, &catalog)?;
    let hololib = context.home.hololib();
    File::open(hololib)
        .and_then(|dir| crate::sys::fs::at::sync_file_system(&dir))
        .tried_with(|| format!("Cannot make {} durable", hololib.display()))?;
    drop(vfs);
    upper::reset(&state_dir)?;
    Ok(Committed {
        blueprint,
        catalog: path,
        base: base.header.blueprint.clone(),
        files: catalog.stats().files,
        written_files: tree.written_files,
        written_bytes: tree.written_bytes,
        new_blobs,
        left_out: tree.left_out,
    })
}

fn recorder() -> String {
    format!("holofs-v{}", env!("CARGO_PKG_VERSION"))
}

/// The catalog of `index`, with the data that an index omits.
fn base_catalog(context: &Context, index: &Index) -> Result<Catalog, SessionError> {
    for path in context.home.catalogs()? {
        if Catalog::identify(&path).is_ok_and(|id| id == index.id()) {
            return Ok(Catalog::read(&path)?.0);
        }
    }
    Err(NotFound(format!("The catalog {} is not in the hololib any more", index.blueprint())).into())
}
