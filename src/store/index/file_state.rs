//! Recognizing a catalog file without reading it.
//!
//! The identity of a catalog is the SHA-256 of its file, which takes time in proportion to the tree. A stored state records it for a
//! file with a given device, inode, size, modification and change time. Users cannot set the change time, so a modified file never
//! matches. A file that changed within the last second is not stored, because a second change in the same clock tick would go unnoticed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::rcc::catalog::CatalogId;
use crate::sys::fs::place::Place;

/// The minimum age of a change before a state of it is stored.
const SETTLED: Duration = Duration::from_secs(1);

/// The maximum length of a state.
const MOST: u64 = 4096;

/// The state of a catalog file at one moment.
pub struct CatalogFileState {
    path: PathBuf,
    text: String,
    changed: SystemTime,
}

impl CatalogFileState {
    /// The state of the file at `path`; `None` where the platform has no change time, or if there is no file.
    pub fn of(path: &Path) -> Option<CatalogFileState> {
        let path = path.canonicalize().ok()?;
        let state = crate::sys::fs::dir::file_state(&path).ok()?;
        Some(CatalogFileState { path, text: state.text, changed: state.changed })
    }

    /// The catalog's identity, if it was stored for exactly this state of the file.
    pub fn known_id(&self, index_dir: &Place) -> Option<CatalogId> {
        let kept = String::from_utf8(self.file(index_dir).read(MOST).ok()?).ok()?;
        let (state, id) = kept.trim_end().rsplit_once(' ')?;
        (state == self.text).then(|| id.parse().ok()).flatten()
    }

    /// Stores that this file is the catalog `id`.
    pub fn remember(&self, index_dir: &Place, id: &CatalogId) -> io::Result<()> {
        let age = SystemTime::now().duration_since(self.changed).unwrap_or_default();
        if age < SETTLED {
            return Ok(());
        }
        self.file(index_dir).publish(format!("{} {id}\n", self.text).as_bytes())
    }

    fn file(&self, index_dir: &Place) -> Place {
        let path = self.path.as_os_str().as_encoded_bytes();
        let name = crate::rcc::digest::Digest::of(crate::rcc::digest::Regime::SipHash128, path);
        index_dir.below(format!("{name}.stamp"))
    }
}
