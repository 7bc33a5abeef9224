//! The local state of remote environments. Heads that are in use or were used recently are kept, with what their catalogs refer
//! to, and so are the names that refer to these heads.
//!
//! See [`crate::rcc::home::Home::remote_dir`] for its location; a directory is named by the SHA-256 of its head, and the time of
//! its file `origin` is that of its last use.

use std::time::{Duration, SystemTime};

use super::hold::{Holds, Remote};
use super::{CollectError, Sweep, entries};
use crate::rcc::catalog::{Catalog, CatalogId, MAX_STORED};
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::{Home, is_catalog_name};
use crate::sys::fs::place::Place;

/// How long an unused environment is kept.
const UNUSED: Duration = Duration::from_secs(30 * 86_400);
/// The maximum length of what a name refers to.
const MAX_NAME: u64 = 64 << 10;

const ORIGIN: &str = "origin";
const NAMES: &str = "names";
const STAGE: &str = "stage";
const PARTIAL: &str = "partial";

/// Records in `holds` what the remote environments refer to that were used within `unused`, or recently if that is `None`.
pub(super) fn hold(holds: &mut Holds, home: &Home, unused: Option<Duration>) -> Result<(), CollectError> {
    for place in entries(&home.remote_dir())? {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        if !name.parse::<Digest>().is_ok_and(|head| head.regime() == Regime::Sha256) {
            continue;
        }
        let is_used = age(&place.below(ORIGIN)) <= unused.unwrap_or(UNUSED);
        let read = catalog_of(&place)?.and_then(|catalog| read(&catalog));
        let catalog = read.as_ref().map(|(_, id)| *id);
        if let Some((catalog, id)) = read
            && is_used
        {
            holds.catalogs.insert(id);
            holds.named.extend(catalog.digests().map(|(digest, _)| *digest));
        }
        holds.remotes.push(Remote { place, catalog, is_used });
    }
    Ok(())
}

impl Sweep<'_> {
    /// Removes unused environments, partial files, names of environments that are gone, and an abandoned pull.
    pub fn remotes(&mut self) -> Result<(), CollectError> {
        if self.holds.unknown {
            return Ok(());
        }
        let mut stay = Vec::new();
        for kept in &self.holds.remotes {
            if kept.catalog.is_some_and(|id| self.holds.mounted.contains(&id)) {
                stay.push(kept.place.clone());
            } else if kept.is_used {
                stay.push(kept.place.clone());
                let partial = kept.place.below(PARTIAL);
                if !entries(&partial)?.is_empty() {
                    self.drop_remote(partial)?;
                }
            } else {
                self.drop_remote(kept.place.clone())?;
            }
        }
        for name in entries(&self.home.remote_dir().below(NAMES))? {
            let head = name.read(MAX_NAME).ok().and_then(|bytes| head_in(&bytes));
            let is_of = |place: &Place| place.file_name().and_then(|found| found.to_str()) == head.as_deref();
            if !stay.iter().any(is_of) {
                self.drop_remote(name)?;
            }
        }
        let stage = self.home.remote_dir().below(STAGE);
        let unused = self.options.unused.unwrap_or(UNUSED);
        let is_old = |time: SystemTime| time.elapsed().unwrap_or_default() > unused;
        if !entries(&stage).unwrap_or_default().is_empty() && stage.last_use().is_ok_and(is_old) {
            self.drop_remote(stage)?;
        }
        Ok(())
    }

    fn drop_remote(&mut self, place: Place) -> Result<(), CollectError> {
        if !self.options.dry_run {
            place.remove().map_err(CollectError::io("Removing", place.path()))?;
        }
        self.report.remotes.push(place.into());
        Ok(())
    }
}

/// The file of the catalog in the directory of a head.
fn catalog_of(dir: &Place) -> Result<Option<Place>, CollectError> {
    let is_catalog =
        |place: &Place| place.file_name().and_then(|name| name.to_str()).is_some_and(is_catalog_name);
    Ok(entries(dir)?.into_iter().find(is_catalog))
}

/// The catalog at `place`, opened like all of our state.
fn read(place: &Place) -> Option<(Catalog, CatalogId)> {
    let stored = place.read(MAX_STORED).ok()?;
    Some((Catalog::parse(&stored).ok()?, Digest::of(Regime::Sha256, &stored)))
}

/// The head that a stored name refers to.
fn head_in(bytes: &[u8]) -> Option<String> {
    let reference: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(reference.get("head")?.as_str()?.to_owned())
}

/// How long ago a file was written; for a missing one, the maximum.
fn age(place: &Place) -> Duration {
    let written = place.open_file().and_then(|file| file.metadata()?.modified());
    written.map_or(Duration::MAX, |time| time.elapsed().unwrap_or_default())
}
