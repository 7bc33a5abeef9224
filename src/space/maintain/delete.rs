//! Removes what a user names: a space with everything that belongs to it, or a catalog.
//!
//! RCC takes no lock for either, and leaves `.use`, `.meta.info` and `.info` behind. Here a space is removed under its lock, only if
//! it is not live, and completely; a catalog is removed under the lock of the hololib, which the caller holds. The blobs of a catalog
//! stay: others may use them, and `gc --hololib` removes the unused ones.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Class, Failure};
use crate::space::materialize::set_aside;
use crate::space::{Live, Space, SpaceError, Wait, Waiting};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The space or its lock is in use.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A system call failed.
    #[error("Removing {} failed", path.display())]
    Io {
        /// The path to remove.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Failure for DeleteError {
    fn class(&self) -> Option<Class> {
        match self {
            DeleteError::Space(error) => error.class(),
            DeleteError::Io { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            DeleteError::Space(error) => error.hint(),
            DeleteError::Io { .. } => None,
        }
    }
}

/// Deletes a space, including what was written to it as a mount: its tree, RCC's files next to it, and our state. `.meta` is removed
/// first, so that a half-deleted tree is never taken for a complete one.
pub fn delete_space(
    space: &Space,
    wait: Wait,
    on_wait: &dyn Fn(&Waiting<'_>),
) -> Result<Vec<PathBuf>, DeleteError> {
    delete_by(space, wait, on_wait, remove_tree)
}

/// Like [`delete_space`], but only sets the tree aside if possible: the caller has it deleted in the background.
pub fn set_space_aside(
    space: &Space,
    wait: Wait,
    on_wait: &dyn Fn(&Waiting<'_>),
) -> Result<Vec<PathBuf>, DeleteError> {
    delete_by(space, wait, on_wait, |root| set_aside(root).or_else(|_| remove_tree(root)))
}

fn delete_by(
    space: &Space,
    wait: Wait,
    on_wait: &dyn Fn(&Waiting<'_>),
    remove_root: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<Vec<PathBuf>, DeleteError> {
    let lock = space.lock(wait, on_wait)?;
    let live = space.go_live()?;
    space.refuse_mounted()?;
    let mut removed = Vec::new();
    for suffix in [".meta", ".meta.info", ".use"] {
        note(&mut removed, space.sibling(suffix), |path| fs::remove_file(path))?;
    }
    note(&mut removed, space.root.clone(), remove_root)?;
    remove_state(&mut removed, space, live)?;
    note(&mut removed, space.sibling(".lck"), |path| fs::remove_file(path))?;
    drop(lock);
    Ok(removed)
}

/// Removes a catalog and its `.info`. Spaces created from it stay as they are, even mounted ones.
pub fn remove_catalog(path: &Path) -> Result<Vec<PathBuf>, DeleteError> {
    let mut removed = Vec::new();
    note(&mut removed, path.to_owned(), |path| fs::remove_file(path))?;
    let mut info = path.as_os_str().to_owned();
    info.push(".info");
    note(&mut removed, info.into(), |path| fs::remove_file(path))?;
    Ok(removed)
}

/// True if a space is certainly deleted: neither its directory nor its `.meta` exists.
pub fn is_deleted(space: &Space) -> bool {
    let gone =
        |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    gone(&space.root) && gone(&space.sibling(".meta"))
}

/// Removes our state of a deleted space; false, and nothing is removed, if a process is about to use it again.
pub fn forget_space(space: &Space) -> Result<bool, DeleteError> {
    let lock = match space.lock(Wait::Not, &|_| {}) {
        Err(SpaceError::Locked { .. }) => return Ok(false),
        lock => lock?,
    };
    let live = match space.go_live() {
        Err(SpaceError::Live { .. }) => return Ok(false),
        live => live?,
    };
    let mut removed = Vec::new();
    match is_deleted(space) {
        true => remove_state(&mut removed, space, live)?,
        false => drop(live),
    }
    let forgotten = !removed.is_empty();
    if forgotten {
        note(&mut removed, space.sibling(".lck"), |path| fs::remove_file(path))?;
    }
    drop(lock);
    Ok(forgotten)
}

/// Removes our state of a space that we hold, under its lock.
fn remove_state(removed: &mut Vec<PathBuf>, space: &Space, live: Live) -> Result<(), DeleteError> {
    // Windows may keep a directory while one of its files is open. A process that goes live meanwhile waits for the space's lock
    // before it works, as every command does there; at worst one of the two is refused the directory and reports that.
    let _live = cfg!(not(windows)).then_some(live);
    let path = space.state_dir.path().to_owned();
    match space.state_dir.remove() {
        Ok(true) => removed.push(path),
        Ok(false) => {}
        Err(source) => return Err(DeleteError::Io { path, source }),
    }
    Ok(())
}

/// Removes `path`, and records it if it existed.
fn note(
    removed: &mut Vec<PathBuf>,
    path: PathBuf,
    remove: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), DeleteError> {
    match remove(&path) {
        Ok(()) => removed.push(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(DeleteError::Io { path, source }),
    }
    Ok(())
}

/// Removes the entry at `path` with everything in it, without following links: its parent is opened once, and everything is
/// accessed relative to that descriptor. Directories that deny their owner access are made accessible first.
fn remove_tree(path: &Path) -> io::Result<()> {
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let name = Name::new(name.as_encoded_bytes()).map_err(io::Error::other)?;
    match TreeDir::open(parent)?.remove(name)? {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::home::{Environment, Home};

    #[test]
    fn nothing_is_left_of_a_space_that_is_deleted() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("rcc");
        let var = |name: &str| (name == "ROBOCORP_HOME").then(|| root.clone().into_os_string());
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        let space = Space::new(&home, home.holotree(), "golden", "interop");
        fs::create_dir_all(space.root.join("bin")).unwrap();
        fs::write(space.root.join("bin/tool"), "x").unwrap();
        fs::write(space.sibling(".meta"), "x").unwrap();
        let gone = [
            space.sibling(".meta"),
            space.root.clone(),
            space.state_dir.clone().into(),
            space.sibling(".lck"),
        ];
        assert_eq!(delete_space(&space, Wait::Not, &|_| {}).unwrap(), gone);
        assert_eq!(gone.map(|path| path.symlink_metadata().is_ok()), [false; 4]);
        assert!(forget_space(&space).unwrap(), "looking at it alone leaves a state of it");
        assert!(!space.state_dir.exists());
    }
}
