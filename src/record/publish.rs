//! The catalog and its `.info`, written last: from then on RCC and we can restore the environment.
//!
//! Each is written beside, synced and renamed, so that no reader meets half of one (RCC writes in place). The temporary
//! name begins with a dot, which keeps it out of RCC's glob of catalogs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::RecordError;
use crate::catalog::Catalog;
use crate::home::Home;
use crate::sys;

/// Writes both files and gives the catalog's path.
pub(super) fn publish(home: &Home, catalog: &Catalog) -> Result<PathBuf, RecordError> {
    let dir = home.catalog_dir();
    sys::shared::ensure_dir(&dir, home.is_shared()).map_err(RecordError::io("Making", &dir))?;
    let name = format!("{}v12.{}", catalog.header.blueprint, catalog.header.platform);
    let path = dir.join(&name);
    replace(&dir, &name, |file| catalog.write_to(file)).map_err(RecordError::io("Writing", &path))?;
    let info = format!("{name}.info");
    replace(&dir, &info, |file| file.write_all(&catalog.info_json()))
        .map_err(RecordError::io("Writing", dir.join(&info)))?;
    Ok(path)
}

fn replace(dir: &Path, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temp = dir.join(format!(".{name}.{}", std::process::id()));
    let result = write_new(&temp, write).and_then(|()| fs::rename(&temp, dir.join(name)));
    if result.is_err()
        && let Err(error) = fs::remove_file(&temp)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("{} is left behind: {error}", temp.display());
    }
    result
}

fn write_new(temp: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    match fs::remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = sys::shared::create_new(temp, 0o666)?;
    write(&mut file)?;
    file.sync_all()
}
