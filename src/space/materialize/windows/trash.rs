//! Nothing is set aside on Windows, where no background process would delete it later. Directories are removed in place.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;

/// The trash of a run: there is none.
pub(super) struct Trash(Infallible);

/// What to do while another process sweeps: none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Leave the work to it.
    LeaveToIt,
    /// Wait until it is done.
    WaitFor,
}

impl Trash {
    /// Always fails.
    pub fn new(_base: &TreeDir) -> io::Result<Trash> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "Nothing is set aside on Windows"))
    }

    /// Never called.
    pub fn take(&self, _from: &TreeDir, _name: Name<'_>) -> io::Result<()> {
        match self.0 {}
    }
}

/// Nothing is set aside.
pub fn set_aside(_path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is none.
pub fn trash_in(_base: &Path) -> Option<PathBuf> {
    None
}

/// Nothing was set aside, so nothing is left.
pub fn sweep(_base: &Path, _other: Other) -> io::Result<bool> {
    Ok(true)
}
