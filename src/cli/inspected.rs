//! A catalog with its packages, and what runs used of it.

use std::sync::Arc;

use crate::fs::fuse::profile::Profile;
use crate::inspect::packages::Packages;
use crate::inspect::touched::{Share, Touched};
use crate::rcc::catalog::CatalogId;
use crate::session::error::NotFound;
use crate::session::written::known_index;
use crate::store::index::Index;
use crate::store::observe::Tally;

use super::context::Context;
use super::target;

/// A longer profile is not ours.
const MAX_PROFILE: u64 = 16 << 20;

/// A catalog and its content.
pub struct Inspected {
    /// The compiled catalog.
    pub index: Index,
    /// Its packages.
    pub packages: Packages,
}

impl Inspected {
    /// Opens the catalog that `what` selects.
    pub fn open(context: &Context, what: &str) -> anyhow::Result<Inspected> {
        let (index, _, _) = context.index(&target::of_word(context, Some(what))?.catalog)?;
        Inspected::of(context, index)
    }

    fn of(context: &Context, index: Index) -> anyhow::Result<Inspected> {
        let store = context.store_for_now(Arc::new(Tally::new()))?;
        let packages = Packages::of(&index, &*store);
        Ok(Inspected { index, packages })
    }

    /// Opens the catalog with that id, whatever its name; it need not be in the hololib if it was mounted from a remote.
    pub fn of_id(context: &Context, id: &str) -> anyhow::Result<Inspected> {
        let unknown = || NotFound(format!("The catalog {id} is not in the hololib any more"));
        let id: CatalogId = id.parse().map_err(|_| unknown())?;
        Inspected::of(context, known_index(context, &id)?)
    }

    /// What earlier runs used; empty if none was recorded.
    pub fn touched(&self, context: &Context) -> Touched {
        let id = self.index.id();
        let text = context.home.profiles_dir().below(id.to_string()).read(MAX_PROFILE);
        let profile = text.ok().and_then(|text| Profile::from_text(&String::from_utf8_lossy(&text), &id));
        let profile = profile.unwrap_or_default();
        Touched::of(&self.index, &profile)
    }
}

/// A summary of the usage, in one line.
pub fn sentence(share: &Share) -> String {
    if share.files == 0 {
        return "No run of this environment was recorded yet".to_owned();
    }
    let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
    format!(
        "Runs touched {} of {} files ({:.1} %), {:.1} % of bytes",
        share.files,
        share.all_files,
        percent(share.files, share.all_files),
        percent(share.bytes, share.all_bytes)
    )
}
