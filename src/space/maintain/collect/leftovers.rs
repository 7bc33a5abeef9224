//! Leftovers of killed commands around spaces: unfinished trees and files, records and leases of processes that are gone.
//!
//! Each is removed only with exclusive access to the space. A failure to remove one is reported, and does not affect the others.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

#[cfg(unix)]
use super::entries;
use super::{CollectError, Collected, Sweep};
use crate::error::line;
use crate::rcc::home::Label;
#[cfg(unix)]
use crate::space::MountState;
use crate::space::{Space, SpaceError};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;
use crate::sys::fs::stat;

/// The suffix of unfinished entries: `<label>.holofs-tmp`, `<label>.meta.holofs-tmp`.
const IN_THE_MAKING: &str = ".holofs-tmp";

impl Sweep<'_> {
    /// Unfinished entries next to spaces.
    pub fn leftovers(&mut self) -> Result<(), CollectError> {
        for base in self.bases()? {
            for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
                let name = entry.file_name();
                // In a shared holotree, other members may be creating entries, under locks in their own homes.
                if let Some(label) = label_of(&name).filter(|_| stat::is_own(&entry.path())) {
                    let space = Space::labelled(self.home, &base, label, "", "");
                    let removed = self.remove_from(&space, &base, &name);
                    note(self.report, &entry.path(), removed);
                }
            }
        }
        Ok(())
    }

    /// True if it was removed, or would be.
    fn remove_from(&self, space: &Space, base: &Path, name: &OsStr) -> Result<bool, SpaceError> {
        if Space::may_be_live_in(&space.state_dir) {
            return Ok(false);
        }
        if self.options.dry_run {
            return Ok(true);
        }
        let _live = match space.go_live() {
            Err(SpaceError::Live { .. }) => return Ok(false),
            live => live?,
        };
        let path = base.join(name);
        let name = Name::new(name.as_encoded_bytes()).map_err(io::Error::other);
        let removed = name.and_then(|name| TreeDir::open(base)?.remove(name));
        removed.map_err(SpaceError::io("Removing", &path))
    }

    /// Removes records of mounts that are gone together with their servers, and leases of processes that are gone.
    #[cfg(unix)]
    pub fn records(&mut self) -> Result<(), CollectError> {
        for state_dir in entries(&self.home.spaces_dir())? {
            if self.options.dry_run {
                continue;
            }
            drop(crate::space::lease::users(&state_dir));
            let Ok(Some(state)) = MountState::read_in(&state_dir) else { continue };
            let place = (state.mountpoint.parent(), state.mountpoint.file_name());
            let (Some(base), Some(name)) = place else { continue };
            let Some(label) = Label::new(name.as_encoded_bytes()) else { continue };
            let space = Space::labelled(self.home, base, label, "", "");
            if space.state_dir == state_dir && !Space::may_be_live_in(&state_dir) {
                let cleared = forget(&space);
                note(self.report, &state_dir.join(crate::space::files::MOUNT), cleared);
            }
        }
        Ok(())
    }

    /// There are no mounts on this platform.
    #[cfg(windows)]
    pub fn records(&mut self) -> Result<(), CollectError> {
        Ok(())
    }
}

/// Removes the record of a mount that is gone; true if it was removed.
#[cfg(unix)]
fn forget(space: &Space) -> Result<bool, SpaceError> {
    // A dead mount must be unmounted first.
    if space.refuse_mounted().is_err() {
        return Ok(false);
    }
    let _live = match space.go_live() {
        Err(SpaceError::Live { .. }) => return Ok(false),
        live => live?,
    };
    space.clear_mount_state().map(|()| true)
}

/// The space that an unfinished entry belongs to.
fn label_of(name: &OsStr) -> Option<Label> {
    let name = name.to_str()?.strip_suffix(IN_THE_MAKING)?;
    ["", ".meta", ".meta.info"].iter().find_map(|end| {
        let label = name.strip_suffix(end)?;
        Label::new(label.as_bytes())
    })
}

fn note(report: &mut Collected, path: &Path, removed: Result<bool, SpaceError>) {
    match removed {
        Ok(true) => report.trash.push(path.to_owned()),
        Ok(false) => {}
        Err(error) => report.kept.push(format!("{} is kept: {}", path.display(), line(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_making_has_a_label() {
        let label = "ed5981b_5a1fac3_11c19f32";
        for end in [".holofs-tmp", ".meta.holofs-tmp", ".meta.info.holofs-tmp"] {
            assert_eq!(label_of(OsStr::new(&format!("{label}{end}"))), Label::new(label.as_bytes()));
        }
        for name in [label.to_owned(), format!("{label}.meta"), "x.holofs-tmp".to_owned()] {
            assert_eq!(label_of(OsStr::new(&name)), None, "{name}");
        }
    }
}
