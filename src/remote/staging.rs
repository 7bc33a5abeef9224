//! The stage of a pull: blobs on their way into the library, each verified. See [`super::pull`].

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::RemoteError;
use crate::rcc::catalog::{Catalog, MAX_STORED};
use crate::rcc::digest::Digest;
use crate::rcc::home::Home;
use crate::store::observe::{Counter, Observer};
use crate::store::{self, Library, Published, Sharing, StoreError};
use crate::sys;

/// What one pull adds to the library.
pub struct Staging<'p> {
    home: &'p Home,
    observer: &'p dyn Observer,
    library: Library,
    stage: PathBuf,
    sharing: Sharing,
    missing: Vec<(Digest, u64)>,
}

impl<'p> Staging<'p> {
    /// Determines which of the blobs, given with their sizes, the library lacks.
    pub fn new(
        home: &'p Home,
        blobs: &[(Digest, u64)],
        observer: &'p dyn Observer,
    ) -> Result<Staging<'p>, RemoteError> {
        let path = home.library();
        sys::fs::shared::ensure_dir(&path, home.is_shared()).map_err(RemoteError::io("Making", &path))?;
        let library = Library::open(&path)?.hold()?;
        let stage = home.remote_dir().below("stage");
        stage.ensure().map_err(RemoteError::io("Making", stage.path()))?;
        let stage = stage.path().to_owned();
        let sharing = if home.is_shared() { Sharing::Shared } else { Sharing::Private };
        observer.expect(blobs.iter().map(|(_, size)| *size).fold(0, u64::saturating_add));
        let missing = lacking(&library, blobs, observer);
        Ok(Staging { home, observer, library, stage, sharing, missing })
    }

    /// The blobs that the library lacks.
    pub fn missing(&self) -> &[(Digest, u64)] {
        &self.missing
    }

    /// The directory of the stage, laid out like a library.
    pub fn stage(&self) -> &Path {
        &self.stage
    }

    /// The missing blobs that no earlier attempt left in the stage.
    pub fn not_staged(&self) -> Result<Vec<(Digest, u64)>, RemoteError> {
        let staged = Library::open(&self.stage)?.hold()?;
        Ok(lacking(&staged, &self.missing, self.observer))
    }

    /// Publishes blobs, `.info` and catalog. The caller holds the lock of the hololib. True if the catalog is new.
    pub fn publish(&self, catalog: &Catalog, stored: &[u8]) -> Result<bool, RemoteError> {
        let staged = Library::open(&self.stage)?.hold()?;
        let written: Result<Vec<bool>, StoreError> =
            self.missing.par_iter().map(|(digest, size)| self.move_in(digest, *size, &staged)).collect();
        let written = written?.into_iter().filter(|written| *written).count();
        self.observer.count(Counter::BlobsRecorded, written as u64);
        let dir = self.home.catalog_dir();
        sys::fs::shared::ensure_dir(&dir, self.home.is_shared()).map_err(RemoteError::io("Making", &dir))?;
        let name = catalog.header.file_name();
        let path = dir.join(&name);
        let info = format!("{name}.info");
        sys::fs::shared::replace(&dir, &info, |file| file.write_all(&catalog.info_json()))
            .map_err(RemoteError::io("Writing", dir.join(&info)))?;
        if sys::fs::stat::read_regular(&path, MAX_STORED).is_ok_and(|present| present == stored) {
            return Ok(false);
        }
        sys::fs::shared::replace(&dir, &name, |file| file.write_all(stored))
            .map_err(RemoteError::io("Writing", &path))?;
        Ok(true)
    }

    fn move_in(&self, digest: &Digest, size: u64, staged: &Library) -> Result<bool, StoreError> {
        // Another pull, or RCC, may have added it meanwhile.
        if self.library.verify(digest, size).is_ok() {
            return Ok(false);
        }
        let from = staged.open_blob(digest)?;
        if self.library.exists(digest) {
            self.library.move_aside(digest, self.home.quarantine_dir())?;
        }
        let origin = self.stage.join(store::blob_path(digest));
        let mut open = || Ok(Box::new(from.stored_bytes()) as Box<dyn std::io::Read>);
        let place = (digest, size);
        let outcome = store::publish_verified(self.library.path(), place, self.sharing, &origin, &mut open)?;
        Ok(outcome == Published::Written)
    }

    /// Removes from the stage what the library has now. If another pull still needs it, that pull fetches it again.
    pub fn clean(&self) {
        for (digest, _) in &self.missing {
            let path = self.stage.join(store::blob_path(digest));
            if let Err(error) = std::fs::remove_file(&path) {
                log::debug!("Cannot remove {}: {error}", path.display());
            }
            for dir in path.ancestors().skip(1).take(3) {
                // A directory that others use is kept.
                if std::fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
    }
}

/// The blobs that are not in `library` undamaged; the others have arrived.
fn lacking(library: &Library, blobs: &[(Digest, u64)], observer: &dyn Observer) -> Vec<(Digest, u64)> {
    let lacks = |(digest, size): &&(Digest, u64)| {
        let is_there = library.verify(digest, *size).is_ok();
        if is_there {
            observer.advance(*size);
        }
        !is_there
    };
    blobs.par_iter().filter(lacks).copied().collect()
}
