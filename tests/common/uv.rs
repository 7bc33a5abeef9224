//! uv, kept in the cache directory of the tests.

use std::path::PathBuf;
use std::process::Command;

use super::{project, said, skip, stdout};

/// The path of uv; `None`, with the reason printed, where it is not available.
pub fn uv() -> Option<PathBuf> {
    let script = format!(". {}/scripts/lib.sh; find_uv", project().display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let path = stdout(&output).trim_end().to_owned();
    if !output.status.success() || path.is_empty() {
        skip(&format!("No uv: {}", said(&output)));
        return None;
    }
    Some(path.into())
}
