//! Entries under another name: hard links to them, and the files of pristine trees, which are such links.
//!
//! Adding or removing a link changes the change time of all names. So a file whose fingerprint does not match is read, and then has a
//! new fingerprint: a write through a link is detected even if the modification time was restored.

use std::fs::File;
use std::io;

use super::{RawStore, is_fit};
use crate::store::Wanted;
use crate::store::layout::RawKey;
use crate::store::verify::check_file;
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::beneath::{self, FileFacts, OpenError};
use crate::sys::fs::name::Name;

/// A name of an entry.
#[derive(Clone, Copy)]
pub enum NameOf<'a> {
    /// The one in the raw store.
    Entry,
    /// A hard link to it in this directory.
    Link(&'a TreeDir, Name<'a>),
}

impl RawStore {
    /// Opens a hard link to the entry; `None` unless it is as we created it, and verified.
    pub fn open_link(&self, wanted: &Wanted, dir: &TreeDir, name: Name<'_>) -> Option<File> {
        let (file, facts) = dir.open_with_facts(name).ok()?;
        self.check(&wanted.key(), wanted.size, &file, &facts).then_some(file)
    }

    /// True if the entry is as we created it, and verified.
    pub fn is_verified(&self, wanted: &Wanted, at: NameOf<'_>) -> bool {
        self.verified_facts(&wanted.key(), wanted.size, at).is_some()
    }

    /// Hard-links the entry to `name` in `dir`. The link itself is checked: false, and no link remains, if there is no entry, or it is
    /// not as we created it.
    pub fn link(&self, wanted: &Wanted, from: NameOf<'_>, dir: &TreeDir, name: Name<'_>) -> io::Result<bool> {
        let (key, size) = (&wanted.key(), wanted.size);
        let Some(known) = self.verified_facts(key, size, from) else { return Ok(false) };
        let made = match from {
            NameOf::Entry => self.dir.hardlink(&key.path(), dir, name.as_os_str()),
            NameOf::Link(source, old) => dir.hardlink_from(source, old, name).map_err(OpenError::from),
        };
        match made {
            Ok(()) => {}
            Err(OpenError::Missing | OpenError::Link | OpenError::NotRegular(_)) => return Ok(false),
            Err(OpenError::Other(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(OpenError::Other(error)) => return Err(error),
        }
        let linked = beneath::facts_at(dir, name.as_os_str());
        if let Some(facts) = linked.filter(|facts| facts.id == known.id && is_fit(facts, key, size)) {
            self.fingerprints(key).add(&key.name(), &facts);
            if matches!(from, NameOf::Entry) {
                self.touch(*key, size);
            }
            return Ok(true);
        }
        dir.remove(name).map(|_| false)
    }

    /// The facts of the entry, if it is as we created it, and verified.
    fn verified_facts(&self, key: &RawKey, size: u64, at: NameOf<'_>) -> Option<FileFacts> {
        let seen = match at {
            NameOf::Entry => self.dir.facts(&key.path()),
            NameOf::Link(dir, name) => dir.facts(name).ok(),
        };
        let seen = seen.filter(|seen| is_fit(seen, key, size))?;
        if self.is_unchanged(key, &seen) {
            return Some(seen);
        }
        let (file, facts) = match at {
            NameOf::Entry => self.dir.open_file(&key.path()).ok()?,
            NameOf::Link(dir, name) => dir.open_with_facts(name).ok()?,
        };
        (is_fit(&facts, key, size) && self.verify(key, size, &file, &facts)).then_some(facts)
    }

    /// True if the open file is as we created it, and has not changed since it was verified, or is right now.
    pub(super) fn check(&self, key: &RawKey, size: u64, file: &File, facts: &FileFacts) -> bool {
        is_fit(facts, key, size) && (self.is_unchanged(key, facts) || self.verify(key, size, file, facts))
    }

    /// Hashes the open file; fingerprints it if it is right.
    fn verify(&self, key: &RawKey, size: u64, file: &File, facts: &FileFacts) -> bool {
        let is_right = check_file(file, &key.digest, size).is_ok();
        if is_right {
            // If it changes while it is hashed, its change time differs from the recorded one.
            self.fingerprints(key).add(&key.name(), facts);
        }
        is_right
    }
}
