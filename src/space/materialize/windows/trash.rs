//! Nothing is set aside on Windows: no process of ours would delete it later. Directories that go are removed where they are.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;

/// Where a run would put what goes: there is none.
pub(super) struct Trash(Infallible);

/// What to do while another process sweeps: none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// It does the work.
    LeaveToIt,
    /// Until it is done, nothing can go on.
    WaitFor,
}

impl Trash {
    /// There is none.
    pub fn new(_base: &TreeDir) -> io::Result<Trash> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "Nothing is set aside on Windows"))
    }

    /// There is none to put anything into.
    pub fn take(&self, _from: &TreeDir, _name: Name<'_>) -> io::Result<()> {
        match self.0 {}
    }
}

/// Nothing is set aside.
pub fn trash_in(_base: &Path) -> Option<PathBuf> {
    None
}

/// Nothing was set aside, so that nothing is left.
pub fn sweep(_base: &Path, _other: Other) -> io::Result<bool> {
    Ok(true)
}
