//! Everything about a space except its tree: where it is, who may change it, and the files that RCC expects next to it.
//!
//! ```text
//! <base>/<label>/            the space; base is the directory of the catalog's path, not of ROBOCORP_HOME
//! <base>/<label>.meta        the catalog that is in it, as RCC writes it; written last, so that an interrupted run shows
//! <base>/<label>.meta.info   its header
//! <base>/<label>.lck         RCC's lock                          <base>/<label>.use   one byte per use
//! <holofs>/spaces/<label>/   ours: lock, mount.json, restored.json, listed, relocated files, upper
//! ```
//! Two locks with two meanings: RCC's is held while a space is *changed*, by RCC or by us; ours ([`Live`]) while a mount lives or
//! materialize works, so that a second one is refused. RCC's `global.lck` is taken before RCC's lock of the space; ours never blocks,
//! so it may be taken before or after these (`tests/models/` tests both orders).

pub mod archive;
pub mod bytecode;
pub mod files;
pub mod inventory;
#[cfg(unix)]
pub mod lease;
pub mod maintain;
pub mod materialize;
pub mod record;
pub mod temp;
pub mod warm;

mod difference;
mod holder;
mod live;
mod lock;
mod meta;
pub mod relocated;
mod state;
mod sync;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

pub use self::difference::Differs;
pub use self::holder::{Holder, Holders};
pub use self::live::Live;
pub use self::lock::{Lock, Wait, Waiting};
pub use self::meta::OldMeta;
pub use self::state::{MountOptions, MountState, Restarts, RestoredState};
use crate::error::{Class, Failure};
use crate::rcc::home::{Home, Label};
use crate::sys;
use crate::sys::fs::place::Place;
use crate::sys::process::Process;

/// The location of one space, including the files next to it.
#[derive(Debug, Clone)]
pub struct Space {
    /// Its name.
    pub label: Label,
    /// The directory that contains it.
    pub base: PathBuf,
    /// `<base>/<label>`.
    pub root: PathBuf,
    /// Our state of it.
    pub state_dir: Place,
    controller: String,
    name: String,
    home: Home,
}

/// Why a space cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// RCC's lock is held by another process.
    #[error("{} is locked by {holders}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The processes that marked it as theirs.
        holders: Holders,
    },
    /// One of our mounts or materializes is active.
    #[error("{} is in use by {}", root.display(), live_holder(*holder))]
    Live {
        /// The space.
        root: PathBuf,
        /// Its holder, if it is known.
        holder: Option<Process>,
    },
    /// Another file system is mounted there, or a dead mount of HoloFS.
    #[error("Something is mounted at {}", root.display())]
    Mounted {
        /// The space.
        root: PathBuf,
    },
    /// Another user created the directory of the space.
    #[error("{} belongs to user {owner}, so its files may be anything", root.display())]
    Foreign {
        /// The space.
        root: PathBuf,
        /// The user.
        owner: u32,
    },
    /// One of our state files cannot be parsed.
    #[error("{} is damaged", path.display())]
    BadState {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A system call failed.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path it was on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure for SpaceError {
    fn class(&self) -> Option<Class> {
        match self {
            SpaceError::Locked { .. } | SpaceError::Live { .. } | SpaceError::Mounted { .. } => {
                Some(Class::Busy)
            }
            SpaceError::Foreign { .. } | SpaceError::BadState { .. } | SpaceError::Io { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            SpaceError::Locked { .. } => Some("wait for it, or end it".into()),
            SpaceError::Live { .. } | SpaceError::Mounted { .. } => Some("unmount it first".into()),
            SpaceError::Foreign { .. } => Some("move it away".into()),
            SpaceError::BadState { .. } => Some("remove it".into()),
            SpaceError::Io { .. } => None,
        }
    }
}

impl SpaceError {
    /// Wraps the system's error about `doing` something to `path`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> SpaceError {
        move |source| SpaceError::Io { doing, path: path.to_owned(), source }
    }
}

/// True if the record of the mount says that `holder` is in another PID namespace: a process here may have the same number and
/// even the same start time, which is counted in hundredths of a second.
#[cfg(unix)]
fn is_hidden(holder: &Process, state: Option<&MountState>) -> bool {
    state.is_some_and(|state| state.process == *holder && state.is_hidden())
}

/// False: there are no PID namespaces.
#[cfg(windows)]
fn is_hidden(_holder: &Process, _state: Option<&MountState>) -> bool {
    false
}

fn live_holder(holder: Option<Process>) -> String {
    holder.map_or_else(|| "an unidentified process".to_owned(), |process| process.to_string())
}

impl Space {
    /// The space of `controller` (without RCC's `rcc.`) and `name` below `base`. Touches nothing.
    pub fn new(home: &Home, base: &Path, controller: &str, name: &str) -> Space {
        Space::labelled(home, base, home.label(controller, name), controller, name)
    }

    /// The space `label` below `base`, of any owner: `controller` and `name` are only used for messages and marks.
    pub fn labelled(home: &Home, base: &Path, label: Label, controller: &str, name: &str) -> Space {
        Space {
            label,
            base: base.to_owned(),
            root: base.join(label.as_str()),
            state_dir: home.space_dir(base, &label),
            controller: controller.to_owned(),
            name: name.to_owned(),
            home: home.clone(),
        }
    }

    /// RCC's `--space`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// RCC's `--controller`.
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// Takes RCC's lock of this space, creating the base if needed.
    pub fn lock(&self, wait: Wait, on_wait: &dyn Fn(&Waiting<'_>)) -> Result<Lock, SpaceError> {
        self.ensure_base()?;
        self.wanted(self.sibling(".lck")).take(wait, on_wait)
    }

    /// Takes RCC's lock of the whole hololib: needed to change it, and taken before any space's lock.
    pub fn lock_hololib(&self, wait: Wait, on_wait: &dyn Fn(&Waiting<'_>)) -> Result<Lock, SpaceError> {
        let path = self.home.global_lock();
        sys::fs::shared::ensure_dir(self.home.holotree(), self.home.is_shared())
            .map_err(SpaceError::io("Making", self.home.holotree()))?;
        self.wanted(path).take(wait, on_wait)
    }

    /// Takes our lock: from now on no other mount or materialize of this space can start.
    pub fn go_live(&self) -> Result<Live, SpaceError> {
        self.refuse_state_inside()?;
        self.ensure_state_dir()?;
        Live::take(&self.state_dir.below(files::LOCK), &self.root)
    }

    /// The process that mounts or materializes this space now, if its number is valid here.
    pub fn live_holder(&self) -> Option<Process> {
        let holder = live::held_by(&self.state_dir.below(files::LOCK))?;
        let state = self.mount_state().ok().flatten();
        (!is_hidden(&holder, state.as_ref())).then_some(holder)
    }

    /// The same, for a caller that has already read the record of the mount.
    pub fn live_holder_by(&self, state: Option<&MountState>) -> Option<Process> {
        live::held_by(&self.state_dir.below(files::LOCK)).filter(|holder| !is_hidden(holder, state))
    }

    /// The process in another PID namespace that mounts this space, according to `state`; its number is not valid here.
    #[cfg(unix)]
    pub fn hidden_holder(&self, state: &MountState) -> Option<Process> {
        let signer = state.is_hidden().then(|| live::signed_by(&self.state_dir.below(files::LOCK))).flatten();
        signer.filter(|signer| *signer == state.process)
    }

    /// Fails for a space whose lock file cannot be used: one that is not a regular file of ours would never become free.
    pub fn check_claim(&self) -> Result<(), SpaceError> {
        let place = self.state_dir.below(files::LOCK);
        match sys::fs::lock::look_at(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SpaceError::io("Looking at", &place)(error))
            }
            _ => Ok(()),
        }
    }

    /// True unless it is certain that no process mounts or materializes the space with the state directory `state_dir`.
    pub fn may_be_live_in(state_dir: &Place) -> bool {
        live::may_be_held(&state_dir.below(files::LOCK))
    }

    /// Fails if anything is mounted on the space, alive or dead.
    pub fn refuse_mounted(&self) -> Result<(), SpaceError> {
        match sys::fs::shared::is_mount_point(&self.root) {
            Ok(false) => Ok(()),
            Ok(true) => Err(SpaceError::Mounted { root: self.root.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(SpaceError::Mounted { root: self.root.clone() })
            }
            Err(error) => Err(SpaceError::io("Looking at", &self.root)(error)),
        }
    }

    /// Fails if another user made the directory of the space: in a shared holotree every member can put one there.
    pub fn refuse_foreign(&self) -> Result<(), SpaceError> {
        match sys::fs::stat::foreign_owner(&self.root) {
            Ok(None) => Ok(()),
            Ok(Some(owner)) => Err(SpaceError::Foreign { root: self.root.clone(), owner }),
            Err(error) => Err(SpaceError::io("Looking at", &self.root)(error)),
        }
    }

    /// True if it exists as plain files of this user: the directory has entries, and nothing is mounted there.
    pub fn stands_as_files(&self) -> bool {
        let filled = || std::fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        self.refuse_mounted().is_ok()
            && self.refuse_foreign().is_ok()
            && self.live_holder().is_none()
            && filled()
    }

    /// Creates the base as RCC would.
    pub fn ensure_base(&self) -> Result<(), SpaceError> {
        let shared = self.home.is_shared() && self.base == self.home.holotree();
        sys::fs::shared::ensure_dir(&self.base, shared).map_err(SpaceError::io("Making", &self.base))
    }

    /// True if anything was ever written to the space while it was mounted.
    pub fn has_upper(&self) -> bool {
        self.state_dir.join(files::UPPER_NAMES).exists()
    }

    /// Fails if the state of a space would be inside the space itself, where it would be hidden, emptied or deleted with it.
    fn refuse_state_inside(&self) -> Result<(), SpaceError> {
        // The existing part of the path, with links resolved.
        let there = self.state_dir.ancestors().find_map(|above| above.canonicalize().ok());
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let is_inside =
            self.state_dir.starts_with(&self.root) || there.is_some_and(|there| there.starts_with(&root));
        if !is_inside {
            return Ok(());
        }
        let why = "it is inside of the space itself: set HOLOFS_HOME to another directory";
        let source = io::Error::new(io::ErrorKind::InvalidInput, why);
        Err(SpaceError::Io { doing: "Keeping state in", path: self.state_dir.path().to_owned(), source })
    }

    /// Creates our state directory of this space, 0700.
    pub fn ensure_state_dir(&self) -> Result<(), SpaceError> {
        self.state_dir.ensure().map(drop).map_err(SpaceError::io("Making", &self.state_dir))
    }

    /// `<base>/<label><suffix>`.
    pub fn sibling(&self, suffix: &str) -> PathBuf {
        self.base.join(format!("{}{suffix}", self.label))
    }

    fn wanted(&self, path: PathBuf) -> lock::LockRequest {
        lock::LockRequest {
            path,
            shared: self.home.is_shared(),
            pids_dir: self.home.pids_dir(),
            controller: self.controller.clone(),
            space: self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
