//! Examines each kind of data, and removes what is not in use.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::parts;
use super::{CollectError, Options, Sweep, entries};
use crate::error::line;
use crate::rcc::home::Label;
use crate::space::Space;
use crate::space::inventory;
use crate::space::maintain::delete;
use crate::space::materialize;
use crate::space::temp;
use crate::store::{Library, RawEntry, RawStore, blob_path};
use crate::sys::fs::place::Place;

/// The maximum length of a catalog's stamp.
const STAMP: u64 = 4096;

/// Bytecode is named by the first digits of its catalog's id.
const SHORTEST_ID: usize = 16;

impl Sweep<'_> {
    /// The state of spaces whose directory and `.meta` are gone.
    pub fn spaces(&mut self) -> Result<(), CollectError> {
        let bases = self.bases()?;
        for entry in entries(&self.home.spaces_dir())? {
            let name = entry.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
            let Some(label) = name.get(..24).and_then(Label::new) else { continue };
            let mut candidates = bases.iter().map(|base| Space::labelled(self.home, base, label, "", ""));
            let Some(space) = candidates.find(|space| space.state_dir == entry) else {
                self.report
                    .kept
                    .push(format!("{} is kept: no catalog says where its space is", entry.display()));
                continue;
            };
            if Space::may_be_live_in(&entry) || !delete::is_deleted(&space) {
                continue;
            }
            if self.options.dry_run {
                self.report.spaces.push(entry.into());
                continue;
            }
            match delete::forget_space(&space) {
                Ok(true) => self.report.spaces.push(entry.into()),
                Ok(false) => {}
                // Its lock may be in another user's home; such a space does not stop the others.
                Err(error) => self.report.kept.push(format!("{} is kept: {}", entry.display(), line(&error))),
            }
        }
        Ok(())
    }

    /// Directories that may contain spaces.
    pub fn bases(&self) -> Result<BTreeSet<PathBuf>, CollectError> {
        let mut bases = inventory::bases(self.home)?;
        bases.insert(self.home.holotree().to_owned());
        Ok(bases)
    }

    /// What materialize set aside, unless a process is working on it.
    pub fn trash(&mut self) -> Result<(), CollectError> {
        for base in self.bases()? {
            let Some(trash) = materialize::trash_in(&base) else { continue };
            let swept = match self.options.dry_run {
                true => Ok(true),
                false => materialize::sweep(&base, materialize::Other::LeaveToIt),
            };
            match swept {
                Ok(true) => self.report.trash.push(trash),
                Ok(false) => self.report.kept.push(format!("{} is just being deleted", trash.display())),
                Err(error) => self.report.kept.push(format!("{} is kept: {error}", trash.display())),
            }
        }
        Ok(())
    }

    /// Raw entries that are not referred to, those unused for too long, and the oldest ones above the limit.
    pub fn raw(&mut self) -> Result<(), CollectError> {
        let dir = self.home.raw_dir();
        let failed = || CollectError::io("Collecting in", dir.path());
        match dir.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => drop(opened.map_err(failed())?),
        }
        let store = RawStore::open(&dir, u64::MAX).map_err(failed())?;
        let mut entries = store.entries().map_err(failed())?;
        let total: u64 = entries.iter().map(|entry| entry.size).sum();
        entries.sort_unstable_by_key(|entry| entry.last_use);
        for entry in self.chosen(&entries, total) {
            if !self.options.dry_run {
                store.remove(&entry.key).map_err(failed())?;
            }
            self.report.raw_entries += 1;
            self.report.raw_bytes += entry.size;
        }
        self.report.raw_bytes_left = total - self.report.raw_bytes;
        if !self.options.dry_run {
            self.report.raw_temps = store.gc().map_err(failed())?.temps_removed;
        }
        Ok(())
    }

    /// Which of the entries, sorted by age, must be removed.
    fn chosen(&self, entries: &[RawEntry], total: u64) -> Vec<RawEntry> {
        if self.holds.unknown {
            return Vec::new();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let too_old = |entry: &RawEntry| {
            let used = Duration::from_secs(u64::try_from(entry.last_use).unwrap_or(0));
            self.options.unused.is_some_and(|unused| now.saturating_sub(used) > unused)
        };
        // References of an unreadable catalog are not known, but the entries can be created again.
        let unnamed = |entry: &RawEntry| !self.holds.named.contains(&entry.key.digest);
        let free = entries.iter().filter(|entry| !self.holds.leased.contains(&entry.key.digest));
        let (mut chosen, rest): (Vec<RawEntry>, Vec<RawEntry>) =
            free.copied().partition(|entry| unnamed(entry) || too_old(entry));
        let mut left = total - chosen.iter().map(|entry| entry.size).sum::<u64>();
        for entry in rest {
            if self.options.max_size.is_none_or(|most| left <= most) {
                break;
            }
            left -= entry.size;
            chosen.push(entry);
        }
        chosen
    }

    /// Indexes, stamps, pristine trees and bytecode of catalogs that are gone; pristine trees and bytecode unused for too long, and
    /// the oldest pristine trees above the limit.
    pub fn derived(&mut self) -> Result<(), CollectError> {
        if self.holds.unknown {
            return Ok(());
        }
        let kept: Vec<String> = self.holds.catalogs.iter().map(ToString::to_string).collect();
        let profiles = self.home.profiles_dir();
        let Options { dry_run, max_size, unused, .. } = self.options;
        let bounds = materialize::Bounds { bytes: max_size.unwrap_or(u64::MAX), unused, dry_run };
        let trimmed = materialize::trim(&self.home.pristine_dir(), bounds, None);
        self.report
            .derived
            .extend(trimmed.map_err(CollectError::io("Trimming", self.home.pristine_dir().path()))?);
        for dir in [self.home.index_dir(), self.home.pristine_dir(), self.home.pyc_dir(), profiles] {
            for place in entries(&dir)? {
                let bytecode = dir == self.home.pyc_dir();
                // Directories without a user in their name are from older versions, in which programs wrote shared bytecode.
                let gone = derived_from(&place)
                    .is_some_and(|id| kept.iter().all(|kept| !kept.starts_with(&id)))
                    || (bytecode && place.extension().is_none());
                let unused = bytecode && self.is_unused(&place);
                if (gone && self.report.derived.iter().all(|dropped| *dropped != *place)) || unused {
                    self.drop_derived(place)?;
                }
            }
        }
        Ok(())
    }

    /// Temporary directories of killed runs.
    pub fn temps(&mut self) -> Result<(), CollectError> {
        let dir = self.home.temp_dir();
        match temp::sweep(&dir, self.options.dry_run) {
            Ok(left) => self.report.trash.extend(left),
            Err(error) => self.report.kept.push(format!("Cannot clean up {}: {error}", dir.display())),
        }
        Ok(())
    }

    fn is_unused(&self, place: &Place) -> bool {
        let age = SystemTime::now().duration_since(last_use(place)).unwrap_or_default();
        self.options.unused.is_some_and(|unused| age > unused)
    }

    fn drop_derived(&mut self, place: Place) -> Result<(), CollectError> {
        if !self.options.dry_run {
            place.remove().map_err(CollectError::io("Removing", place.path()))?;
        }
        self.report.derived.push(place.into());
        Ok(())
    }

    /// Blobs that no catalog and no mount refers to, and abandoned parts of blobs.
    pub fn blobs(&mut self) -> Result<(), CollectError> {
        let dir = self.home.library();
        if self.holds.unknown || !self.holds.unreadable.is_empty() || !dir.is_dir() {
            return Ok(());
        }
        let found = Library::open(&dir)?.sweep().map_err(CollectError::io("Walking", &dir))?;
        for (digest, stored) in found.blobs {
            if !self.holds.named.contains(&digest) && !self.holds.leased.contains(&digest) {
                self.drop_blob(&dir.join(blob_path(&digest)), stored)?;
            }
        }
        for path in found.strays.iter().filter(|path| parts::is_left_of_blob(path)) {
            self.drop_blob(path, path.metadata().map_or(0, |found| found.len()))?;
        }
        Ok(())
    }

    fn drop_blob(&mut self, path: &Path, stored: u64) -> Result<(), CollectError> {
        if !self.options.dry_run {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CollectError::io("Removing", path)(error));
                }
                _ => prune(path, &self.home.library()),
            }
        }
        self.report.blobs += 1;
        self.report.blob_bytes += stored;
        Ok(())
    }
}

/// The beginning of the id of the catalog that one of our files or directories was made from: from its name, or from a stamp.
fn derived_from(place: &Place) -> Option<String> {
    let name = place.file_name()?.to_str()?;
    let id = match name.ends_with(".stamp") {
        true => String::from_utf8(place.read(STAMP).ok()?).ok()?.trim_end().rsplit(' ').next()?.to_owned(),
        // A tail of a catalog is named by its id and a suffix.
        false => name.split('.').next()?.to_owned(),
    };
    let hex = id.len() >= SHORTEST_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then_some(id)
}

/// When anything in one of our directories was last read or written.
fn last_use(place: &Place) -> SystemTime {
    place.last_use().unwrap_or(UNIX_EPOCH)
}

/// Removes directories that became empty with a removed blob.
fn prune(path: &Path, library: &Path) {
    let above = path.ancestors().skip(1).take_while(|dir| *dir != library);
    for dir in above {
        // Stops at the first that is not empty.
        if fs::remove_dir(dir).is_err() {
            return;
        }
    }
}
