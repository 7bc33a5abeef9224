//! What we remember of a space between runs: `mount.json` while it is mounted, `restored.json` after
//! materialize, `restoring.json` in the middle of one.
//!
//! Both are written beside and renamed. Neither is needed to repair anything: one that is missing costs time, one that is
//! damaged is an error that names it.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{MOUNT, RESTORED, RESTORING};
use super::{Space, SpaceError};
use crate::sys::fs::place::Place;
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
    /// The device number of the mounted file system: with it the mount is known in any mount namespace.
    #[serde(default)]
    pub device: u64,
    /// The mount namespace it was mounted in.
    #[serde(default)]
    pub namespace: Option<u64>,
    /// The mount namespaces in which it stays until it is unmounted; in others it goes with its last user.
    #[serde(default)]
    pub kept_in: Vec<u64>,
    /// Who the space belongs to, and its name: for lists.
    #[serde(default)]
    pub controller: String,
    /// As `controller`.
    #[serde(default)]
    pub space: String,
    /// The blueprint of the catalog.
    #[serde(default)]
    pub blueprint: String,
    /// What it was asked for.
    #[serde(default)]
    pub options: MountOptions,
    /// The state of RCC's `.meta` when it was mounted.
    #[serde(default)]
    pub meta: Option<String>,
}

/// The options of a live mount that a later request may ask for differently.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOptions {
    /// How files are read.
    pub io: String,
    /// Other users are let in.
    pub allow_other: bool,
    /// Whom everything belongs to, if it is another user.
    pub uid: Option<u32>,
    /// As `uid`, for the group.
    pub gid: Option<u32>,
    /// No program runs in it.
    pub no_exec: bool,
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
    pub fn read_in(state_dir: &Place) -> Result<Option<MountState>, SpaceError> {
        read(&state_dir.below(MOUNT))
    }
}

impl RestoredState {
    /// The last complete materialize that the state directory of some space tells of.
    pub fn read_in(state_dir: &Place) -> Result<Option<RestoredState>, SpaceError> {
        read(&state_dir.below(RESTORED))
    }
}

/// A materialize that has begun to change a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Restoring {
    catalog: String,
}

/// No file of these is larger.
const MOST: u64 = 1 << 20;

impl Space {
    /// What the last mount wrote; it may be dead by now: ask [`Process::is_alive`] or [`Space::live_holder`].
    pub fn mount_state(&self) -> Result<Option<MountState>, SpaceError> {
        MountState::read_in(&self.state_dir)
    }

    /// Tells about the mount that begins.
    pub fn set_mount_state(&self, state: &MountState) -> Result<(), SpaceError> {
        write(&self.state_dir.below(MOUNT), state)
    }

    /// Forgets the mount that ended.
    pub fn clear_mount_state(&self) -> Result<(), SpaceError> {
        remove(&self.state_dir.below(MOUNT))
    }

    /// What the last complete materialize remembered.
    pub fn restored_state(&self) -> Result<Option<RestoredState>, SpaceError> {
        read(&self.state_dir.below(RESTORED))
    }

    /// Remembers a complete materialize: nothing is unfinished any more.
    pub fn set_restored_state(&self, state: &RestoredState) -> Result<(), SpaceError> {
        write(&self.state_dir.below(RESTORED), state)?;
        remove(&self.state_dir.below(RESTORING))
    }

    /// Remembers that the space is about to change into the catalog `id`: until [`Space::set_restored_state`], what its
    /// `.meta` says about its files is not to be believed.
    pub fn set_restoring(&self, id: &str) -> Result<(), SpaceError> {
        write(&self.state_dir.below(RESTORING), &Restoring { catalog: id.to_owned() })
    }

    /// True if a materialize began to change the space and never came to its end.
    pub fn is_half_restored(&self) -> bool {
        self.state_dir.below(RESTORING).is_there().unwrap_or(true)
    }
}

fn read<T: DeserializeOwned>(place: &Place) -> Result<Option<T>, SpaceError> {
    let text = match place.read(MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(SpaceError::io("Reading", place))?,
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| SpaceError::BadState { path: place.path().to_owned(), source })
}

fn write<T: Serialize>(place: &Place, state: &T) -> Result<(), SpaceError> {
    let text = serde_json::to_vec_pretty(state)
        .map_err(|source| SpaceError::BadState { path: place.path().to_owned(), source })?;
    place.publish(&text).map_err(SpaceError::io("Writing", place))
}

fn remove(place: &Place) -> Result<(), SpaceError> {
    place.remove_file().map(drop).map_err(SpaceError::io("Removing", place))
}
