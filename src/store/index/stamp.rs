//! Recognising a catalog file without reading it.
//!
//! The identity of a catalog is the SHA-256 of its file, which costs time in proportion to the tree. A stamp remembers it
//! for a file of one device, inode, size, modification and change time. The change time cannot be set by a user, so a
//! file that was altered never matches; one that changed within the last second is not remembered, because a second
//! change in the same tick of the clock would go unseen.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::rcc::catalog::CatalogId;
use crate::sys::fs::place::Place;

/// How old a change must be before a stamp of it is kept.
const SETTLED: Duration = Duration::from_secs(1);

/// No stamp is longer.
const MOST: u64 = 4096;

/// A catalog file at one moment.
pub struct Stamp {
    path: PathBuf,
    text: String,
    changed: SystemTime,
}

impl Stamp {
    /// The stamp of the file at `path`; `None` where the platform has no change time, or the file is not there.
    pub fn of(path: &Path) -> Option<Stamp> {
        let path = path.canonicalize().ok()?;
        let state = crate::sys::fs::dir::file_state(&path).ok()?;
        Some(Stamp { path, text: state.text, changed: state.changed })
    }

    /// The catalog's identity, if it was remembered for exactly this state of the file.
    pub fn known_id(&self, index_dir: &Place) -> Option<CatalogId> {
        let kept = String::from_utf8(self.file(index_dir).read(MOST).ok()?).ok()?;
        let (state, id) = kept.trim_end().rsplit_once(' ')?;
        (state == self.text).then(|| id.parse().ok()).flatten()
    }

    /// Remembers that this file is the catalog `id`.
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
