//! What a materialize reads and writes outside the tree: the last materialize's records, `.meta`, the marks of use.
//!
//! A `.meta` is a small head of the space and the catalog's tree, which is the same for all its spaces: that tail is compressed once
//! and stored next to the Index, so that a materialize parses no catalog.

use super::checksummed::Magic;
use super::run::{Clock, Old, Run};
use super::{Job, MaterializeError, checksummed};
use crate::rcc::catalog::{Catalog, Header};
use crate::space::RestoredState;
use crate::store::index::{Index, index_path};

/// The magic of a file with a tail.
const MAGIC: &Magic = b"HOLOTAL1";

impl Run<'_> {
    /// Records that the catalog is complete: `.meta` if there is one to write, then the marks of use.
    pub fn record(&self, tail: Option<&[u8]>, clock: &mut Clock) -> Result<(), MaterializeError> {
        let Job { space, index, catalog_path, .. } = self.job;
        if let Some(tail) = tail {
            space.write_meta_parts(&header(index), tail)?;
            if let Some(meta) = space.meta_state() {
                space.set_restored_state(&RestoredState {
                    catalog: index.id().to_string(),
                    meta,
                    is_empty: false,
                })?;
            }
        }
        space.mark_used(catalog_path, index.blueprint());
        clock.seconds.record = clock.lap();
        Ok(())
    }

    /// What the last materialize put there.
    pub fn old_records(&self) -> Old {
        let Job { space, index, home, .. } = self.job;
        let remembered = space.restored_state().ok().flatten();
        if let Some(state) = remembered.filter(|state| Some(&state.meta) == space.meta_state().as_ref()) {
            if state.catalog == index.id().to_string() {
                return Old::Same;
            }
            let id = state.catalog.parse().ok();
            let known = id.and_then(|id| Index::open(index_path(&home.index_dir(), &id), &id).ok());
            if let Some(old) = known {
                return Old::Known(Box::new(old));
            }
        }
        let Some(meta) = space.old_meta() else { return Old::Unknown };
        let compiled = Index::build(&meta.catalog, &meta.id).ok();
        match compiled.and_then(|bytes| Index::from_bytes(bytes).ok()) {
            Some(old) => Old::Known(Box::new(old)),
            None => Old::Unknown,
        }
    }

    /// The part of `.meta` after the head, compressed: stored, or from the catalog, which must still be the one that was compiled.
    pub fn tail(&self) -> Result<Vec<u8>, MaterializeError> {
        let Job { index, home, catalog_path, .. } = self.job;
        let kept = home.index_dir().below(format!("{}.tail", index.id()));
        if let Some(tail) = checksummed::read(&kept, MAGIC) {
            return Ok(tail);
        }
        let identity = String::from_utf8_lossy(index.identity()).into_owned();
        let path = index.base().join(&identity).to_string_lossy().into_owned();
        let recorded = Header { identity, path, ..header(index) };
        let (tail, id) = Catalog::tail_of(catalog_path, &recorded)?;
        if id != index.id() {
            return Err(MaterializeError::CatalogChanged { path: catalog_path.to_path_buf() });
        }
        if let Err(error) = checksummed::write(&kept, MAGIC, &tail) {
            log::debug!("Cannot keep {}: {error}", kept.display());
        }
        Ok(tail)
    }
}

/// The fields of the catalog that every `.meta` repeats.
fn header(index: &Index) -> Header {
    Header {
        rcc: index.rcc().to_owned(),
        platform: index.platform().to_owned(),
        blueprint: index.blueprint().to_owned(),
        ..Header::default()
    }
}
