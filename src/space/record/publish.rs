//! Writes the catalog and its `.info` last: from then on RCC and HoloFS can restore the environment.
//!
//! Each is written to a temporary file, synced and renamed, so that readers never see a partial one (RCC writes in place). The
//! temporary name begins with a dot, which hides it from RCC's glob of catalogs.

use std::io::Write;
use std::path::PathBuf;

use super::error::RecordError;
use crate::rcc::catalog::Catalog;
use crate::rcc::home::Home;
use crate::sys;

/// Writes both files and returns the catalog's path.
pub(super) fn publish(home: &Home, catalog: &Catalog) -> Result<PathBuf, RecordError> {
    let dir = home.catalog_dir();
    sys::fs::shared::ensure_dir(&dir, home.is_shared()).map_err(RecordError::io("Making", &dir))?;
    let name = catalog.header.file_name();
    let path = dir.join(&name);
    sys::fs::shared::replace(&dir, &name, |file| catalog.write_to(file))
        .map_err(RecordError::io("Writing", &path))?;
    let info = format!("{name}.info");
    sys::fs::shared::replace(&dir, &info, |file| file.write_all(&catalog.info_json()))
        .map_err(RecordError::io("Writing", dir.join(&info)))?;
    Ok(path)
}
