//! A zip file with one catalog and some of its blobs, as an rccremote server sends it: the part of an environment that is missing.
//!
//! Names are checked as in an import. What was not requested is ignored. A blob can be taken from the file only through the
//! function that verifies it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::import::{self, Archive, Content};
use super::{ArchiveError, names};
use crate::rcc::catalog::Catalog;
use crate::rcc::digest::Digest;
use crate::store::{self, Sharing, StoreError};

/// An open file; none of its content is verified yet.
pub struct Delta {
    path: PathBuf,
    archive: Archive,
    content: Content,
}

impl Delta {
    /// Opens the file, named `path` in errors, and checks every name in it.
    pub fn open(file: File, path: &Path) -> Result<Delta, ArchiveError> {
        let mut archive = import::open_file(file, path)?;
        let content = import::content(path, &mut archive)?;
        Ok(Delta { path: path.to_owned(), archive, content })
    }

    /// The catalog `name`, as stored and parsed.
    pub fn catalog(&mut self, name: &str) -> Result<(Vec<u8>, Catalog), ArchiveError> {
        debug_assert!(names::is_catalog(name));
        let Some(&at) = self.content.catalogs.get(name) else {
            return Err(ArchiveError::NoCatalog { path: self.path.clone() });
        };
        import::catalog(&self.path, &mut self.archive, name, at)
    }

    /// Puts one blob into `library` if its content has this digest and size.
    pub fn publish(&self, library: &Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let origin = self.path.join("library").join(store::blob_path(digest));
        let Some(&at) = self.content.blobs.get(digest) else {
            return Err(StoreError::Missing { digest: *digest, path: origin.into() });
        };
        let mut open = || import::open_entry(self.archive.clone(), at);
        store::publish_verified(library, (digest, size), Sharing::Private, &origin, &mut open).map(drop)
    }
}
