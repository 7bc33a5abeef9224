//! State of a space between runs: `mount.json` while it is mounted, `restored.json` after materialize, `restoring.json` during one,
//! `hidden.json` since it was mounted over files, `converted.json` if RCC has converted its upper.
//!
//! Each is written to a temporary file and renamed. None is needed for a repair: a missing one costs time, a damaged one is an error
//! that names it.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::{CONVERTED, HIDDEN, MOUNT, RESTORED, RESTORING};
use super::{Space, SpaceError};
use crate::sys::fs::place::Place;
use crate::sys::process::Process;

/// The description of a live mount, for other processes.
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
    /// The mount method that worked.
    #[serde(rename = "rung")]
    pub method: String,
    /// Why a better method was not used; empty if it is the best.
    pub reason: String,
    /// The device number of the mounted file system. While a mount of it exists, it identifies it in any mount namespace.
    #[serde(default)]
    pub device: u64,
    /// The source of the mount. With the device number it identifies the mount even if the number was reused. Empty if it was mounted by
    /// a version that did not record it.
    #[serde(default)]
    pub source: String,
    /// The mount namespace it was mounted in.
    #[serde(default)]
    pub namespace: Option<u64>,
    /// The mount namespaces in which it stays until it is unmounted; in others it ends with its last user.
    #[serde(default)]
    pub kept_in: Vec<u64>,
    /// The controller of the space, for lists.
    #[serde(default)]
    pub controller: String,
    /// The name of the space, for lists.
    #[serde(default)]
    pub space: String,
    /// The blueprint of the catalog.
    #[serde(default)]
    pub blueprint: String,
    /// The version of the program that serves it; empty if it did not record one.
    #[serde(default)]
    pub version: String,
    /// The restarts of this mount; `None` if its supervisor is of a version that cannot restart it.
    #[serde(default)]
    pub restarts: Option<Restarts>,
    /// The options it was mounted with.
    #[serde(default)]
    pub options: MountOptions,
    /// The PID namespace in which the number of `process` is valid.
    #[serde(default)]
    pub pid_namespace: Option<u64>,
    /// The state of RCC's `.meta` when it was mounted.
    #[serde(default)]
    pub meta: Option<String>,
}

/// The outcome of requests to restart a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// Their number.
    pub count: u64,
    /// Why the last one was refused; `None`: it was not.
    pub refused: Option<String>,
}

/// The options of a live mount that a later request may contradict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOptions {
    /// How files are read.
    pub io: String,
    /// Other users have access.
    pub allow_other: bool,
    /// The owner of everything, if it is another user.
    pub uid: Option<u32>,
    /// As `uid`, for the group.
    pub gid: Option<u32>,
    /// Programs in it cannot be executed.
    pub no_exec: bool,
}

/// The last complete materialize, and the `.meta` it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredState {
    /// The catalog's id.
    pub catalog: String,
    /// The state of the `.meta` file: if it differs, RCC has changed the space since.
    pub meta: String,
    /// It was written for a mount on an empty directory, so no file is there.
    #[serde(default)]
    pub is_empty: bool,
}

/// What `.meta` said about the files in the directory when a mount hid them. RCC may write `.meta` while it is mounted, from what it sees
/// in the mount: then it says nothing about the files below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hidden {
    /// The blueprint in `.meta`.
    blueprint: Option<String>,
    /// The state of `.meta`.
    meta: Option<String>,
}

/// Into which environment RCC has converted the upper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Converted {
    blueprint: String,
}

impl MountState {
    /// The live or dead mount that a space's state directory describes.
    pub fn read_in(state_dir: &Place) -> Result<Option<MountState>, SpaceError> {
        read(&state_dir.below(MOUNT))
    }

    /// True if its process is in another PID namespace: its number is not valid here.
    #[cfg(unix)]
    pub fn is_hidden(&self) -> bool {
        let own = crate::sys::mount::namespace::of_pids();
        self.pid_namespace.zip(own).is_some_and(|(theirs, own)| theirs != own)
    }
}

impl RestoredState {
    /// The last complete materialize that a space's state directory describes.
    pub fn read_in(state_dir: &Place) -> Result<Option<RestoredState>, SpaceError> {
        read(&state_dir.below(RESTORED))
    }
}

/// A materialize that has started to change a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Restoring {
    catalog: String,
}

/// The maximum size of these files.
const MOST: u64 = 1 << 20;

impl Space {
    /// What the last mount wrote; it may be dead: check [`Process::is_alive`] or [`Space::live_holder`].
    pub fn mount_state(&self) -> Result<Option<MountState>, SpaceError> {
        MountState::read_in(&self.state_dir)
    }

    /// Stores the description of a new mount.
    pub fn set_mount_state(&self, state: &MountState) -> Result<(), SpaceError> {
        write(&self.state_dir.below(MOUNT), state)
    }

    /// Removes the description of a mount that ended.
    pub fn clear_mount_state(&self) -> Result<(), SpaceError> {
        remove(&self.state_dir.below(MOUNT))
    }

    /// What the last complete materialize stored.
    pub fn restored_state(&self) -> Result<Option<RestoredState>, SpaceError> {
        read(&self.state_dir.below(RESTORED))
    }

    /// Records a complete materialize: nothing is unfinished any more.
    pub fn set_restored_state(&self, state: &RestoredState) -> Result<(), SpaceError> {
        write(&self.state_dir.below(RESTORED), state)?;
        remove(&self.state_dir.below(HIDDEN))?;
        remove(&self.state_dir.below(RESTORING))
    }

    /// Records what `.meta` says about the files that a mount is about to hide; keeps an earlier record that `.meta` contradicts.
    pub fn record_hidden(&self) -> Result<(), SpaceError> {
        if self.is_misdescribed()? {
            return Ok(());
        }
        write(
            &self.state_dir.below(HIDDEN),
            &Hidden { blueprint: self.meta_blueprint(), meta: self.meta_state() },
        )
    }

    /// The blueprint of the files that the mount of the space hides, if it is known.
    pub fn hidden_blueprint(&self) -> Result<Option<String>, SpaceError> {
        let hidden: Option<Hidden> = read(&self.state_dir.below(HIDDEN))?;
        Ok(hidden.map_or_else(|| self.meta_blueprint(), |hidden| hidden.blueprint))
    }

    /// Records into which environment RCC has converted the upper, if there is one, before our own `.meta` replaces the one that shows it.
    pub fn record_converted(&self) -> Result<(), SpaceError> {
        let (current, ours) = (self.meta_state(), self.restored_state()?.map(|state| state.meta));
        if !self.has_upper() || current.is_none() || current == ours {
            return Ok(());
        }
        let Some(blueprint) = self.meta_blueprint() else { return Ok(()) };
        write(&self.state_dir.below(CONVERTED), &Converted { blueprint })
    }

    /// The environment into which RCC has converted the upper, if that was recorded. It is forgotten when the upper is dropped.
    pub fn converted_to(&self) -> Result<Option<String>, SpaceError> {
        let converted: Option<Converted> = read(&self.state_dir.below(CONVERTED))?;
        Ok(converted.map(|converted| converted.blueprint))
    }

    /// True if `.meta` was written while a mount hid the files, so that it does not describe them.
    fn is_misdescribed(&self) -> Result<bool, SpaceError> {
        let hidden: Option<Hidden> = read(&self.state_dir.below(HIDDEN))?;
        Ok(hidden.is_some_and(|hidden| hidden.meta != self.meta_state()))
    }

    /// Records that the space is about to change into the catalog `id`: until [`Space::set_restored_state`], its `.meta` must not be
    /// trusted about its files.
    pub fn set_restoring(&self, id: &str) -> Result<(), SpaceError> {
        write(&self.state_dir.below(RESTORING), &Restoring { catalog: id.to_owned() })
    }

    /// True if `.meta` must not be trusted about the files: a materialize started to change the space and did not finish, or a mount hid
    /// the files when `.meta` was written.
    pub fn is_half_restored(&self) -> bool {
        self.state_dir.below(RESTORING).is_there().unwrap_or(true) || self.is_misdescribed().unwrap_or(true)
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
