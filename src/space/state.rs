//! What we remember of a space between runs: `mount.json` while it is mounted, `restored.json` after
//! materialize, `restoring.json` in the middle of one.
//!
//! Both are written beside and renamed. Neither is needed to repair anything: one that is missing costs time, one that is
//! damaged is an error that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Space, SpaceError};
use crate::sys::fs::dir;
use crate::sys::process::Process;

/// A live mount, told to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountState {
    /// The daemon.
    #[serde(flatten)]
    pub process: Process,
    /// The catalog's id: the SHA-256 of its file.
    pub catalog: String,
    /// The catalog's file.
    pub catalog_path: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// The rung of the ladder that worked.
    pub rung: String,
    /// Why not a higher one; empty if it is the highest.
    pub reason: String,
}

/// The last complete materialize, and the `.meta` it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredState {
    /// The catalog's id.
    pub catalog: String,
    /// The state of the `.meta` file: if it is another one, RCC has been here since.
    pub meta: String,
}

impl MountState {
    /// The live or dead mount that the state directory of some space tells of.
    pub fn read_in(state_dir: &Path) -> Result<Option<MountState>, SpaceError> {
        read(&state_dir.join(MOUNT))
    }
}

/// A materialize that has begun to change a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Restoring {
    catalog: String,
}

const RESTORING: &str = "restoring.json";
const MOUNT: &str = "mount.json";
const RESTORED: &str = "restored.json";

impl Space {
    /// What the last mount wrote; it may be dead by now: ask [`Process::is_alive`] or [`Space::live_holder`].
    pub fn mount_state(&self) -> Result<Option<MountState>, SpaceError> {
        MountState::read_in(&self.state_dir)
    }

    /// Tells about the mount that begins.
    pub fn set_mount_state(&self, state: &MountState) -> Result<(), SpaceError> {
        self.ensure_state_dir()?;
        write(&self.state_dir.join(MOUNT), state)
    }

    /// Forgets the mount that ended.
    pub fn clear_mount_state(&self) -> Result<(), SpaceError> {
        remove(&self.state_dir.join(MOUNT))
    }

    /// What the last complete materialize remembered.
    pub fn restored_state(&self) -> Result<Option<RestoredState>, SpaceError> {
        read(&self.state_dir.join(RESTORED))
    }

    /// Remembers a complete materialize: nothing is unfinished any more.
    pub fn set_restored_state(&self, state: &RestoredState) -> Result<(), SpaceError> {
        self.ensure_state_dir()?;
        write(&self.state_dir.join(RESTORED), state)?;
        remove(&self.state_dir.join(RESTORING))
    }

    /// Remembers that the space is about to change into the catalog `id`: until [`Space::set_restored_state`], what its
    /// `.meta` says about its files is not to be believed.
    pub fn set_restoring(&self, id: &str) -> Result<(), SpaceError> {
        self.ensure_state_dir()?;
        write(&self.state_dir.join(RESTORING), &Restoring { catalog: id.to_owned() })
    }

    /// True if a materialize began to change the space and never came to its end.
    pub fn is_half_restored(&self) -> bool {
        self.state_dir.join(RESTORING).exists()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SpaceError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(SpaceError::io("Reading", path))?,
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| SpaceError::BadState { path: path.to_owned(), source })
}

fn write<T: Serialize>(path: &Path, state: &T) -> Result<(), SpaceError> {
    let text = serde_json::to_vec_pretty(state)
        .map_err(|source| SpaceError::BadState { path: path.to_owned(), source })?;
    dir::publish(path, &text).map_err(SpaceError::io("Writing", path))
}

fn remove(path: &Path) -> Result<(), SpaceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpaceError::io("Removing", path)(error)),
        _ => Ok(()),
    }
}
