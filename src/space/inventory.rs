//! The contents of a home: its catalogs, and its spaces with their current state. Read-only.
//!
//! RCC finds a space by its `.meta` in the base of some catalog; so do we, and we also find mounted spaces without one. The fields
//! that RCC prints follow RCC's own rules; our additional fields are separate.

mod catalogs;
mod spaces;

use std::path::Path;
use std::time::SystemTime;

pub use self::catalogs::{CatalogRow, Shown, catalogs};
pub use self::spaces::{Is, Known, SpaceRow, SpaceState, bases, find, known, spaces};

/// Days since the file at `path` was changed; `None` if there is none.
fn days_since_change(path: &Path) -> Option<f64> {
    let modified = path.metadata().and_then(|found| found.modified()).ok()?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    Some(age.as_secs_f64() / 86_400.0)
}

/// Whole days, truncated as by RCC.
#[allow(clippy::cast_possible_truncation, reason = "the age must be at most 10^18 days")]
fn whole(days: f64) -> i64 {
    days as i64
}
