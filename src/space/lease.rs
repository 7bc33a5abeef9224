//! Leases: every user of a space holds one, and the kernel releases it with its process.
//!
//! `<state>/leases/<pid>-<start>` is locked with flock and describes its holder. One that is not locked was left by a process that
//! has ended, and is removed at the next check. Taking leases, and deciding by them, is done under the start lock.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;

use serde::{Deserialize, Serialize};

use super::{Space, files};
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;
use crate::sys::mount::namespace;
use crate::sys::process::Process;

/// The maximum length of a line.
const MOST: u64 = 4096;
/// The maximum length of a command shown.
const COMMAND: usize = 200;

/// A user of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// What it runs.
    pub command: String,
    /// Its mount namespace.
    pub namespace: Option<u64>,
    /// The id of the requested catalog.
    #[serde(default)]
    pub catalog: Option<String>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.process, self.command)
    }
}

/// The right to use the space at its location; it ends when dropped.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    _file: File,
}

impl Lease {
    /// Takes a lease for this process, which runs `command` in a tree of the catalog with the id `catalog`.
    pub fn take(space: &Space, command: &str, catalog: &str) -> io::Result<Lease> {
        let process = Process::current();
        let name = format!("{}-{}", process.pid, process.start_time.unwrap_or_default());
        let place = space.state_dir.below(files::LEASES).below(name);
        let command: String = command.chars().filter(|c| !c.is_control()).take(COMMAND).collect();
        let user =
            User { process, command, namespace: namespace::current(), catalog: Some(catalog.to_owned()) };
        let mut file = lock::open_own(&place)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("this process already has a lease"),
            TryLockError::Error(error) => error,
        })?;
        let text = serde_json::to_vec(&user).map_err(io::Error::other)?;
        lock::sign(&mut file, &place, &text)?;
        Ok(Lease { place, _file: file })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.place.remove_file() {
            log::debug!("{} stays, released: {error}", self.place.display());
        }
    }
}

/// The users of the space whose state is at `state_dir`; leases of processes that are gone are removed.
pub fn users(state_dir: &Place) -> Vec<User> {
    all(state_dir).iter().filter_map(|place| user(place, true)).collect()
}

/// As [`users`], without removing anything.
pub fn seen(state_dir: &Place) -> Vec<User> {
    all(state_dir).iter().filter_map(|place| user(place, false)).collect()
}

fn all(state_dir: &Place) -> Vec<Place> {
    state_dir.below(files::LEASES).entries().unwrap_or_default()
}

fn user(place: &Place, removes: bool) -> Option<User> {
    let file = place.open_file().ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => serde_json::from_slice(&place.read(MOST).ok()?).ok(),
        Err(TryLockError::Error(error)) => {
            log::debug!("Cannot check {}: {error}", place.display());
            None
        }
        Ok(()) => {
            if removes && let Err(error) = place.remove_file() {
                log::debug!("{} stays, released: {error}", place.display());
            }
            None
        }
    }
}

/// True if any of `users` requested another catalog than the one with the id `wanted`.
pub fn is_other(users: &[User], wanted: &str) -> bool {
    users.iter().any(|user| user.catalog.as_deref().is_some_and(|catalog| catalog != wanted))
}

/// The users in one line.
pub fn described(users: &[User]) -> String {
    users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
