//! Each user's resources: requests in progress, and live mounts in any namespace.
//!
//! The kernel keeps the count of mounts, so it cannot be wrong: an epoll set watches the device of each mount that this helper made, but
//! does not keep it open. When the last process closes the device, the mount is dead, and the kernel removes the device from the set.
//! Mounts in the helper's own namespace are counted by the kernel's table, which also has mounts of HoloFS made by other programs.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll;

use crate::namespace::{NamespaceId, Table, Thread};
use crate::{Outcome, failed};

/// The maximum number of connections per user: more are refused, so that one user cannot keep out the others.
pub const MOST_PER_USER: usize = 4;
/// The maximum number of requests served at a time; more wait.
const MOST_AT_WORK: usize = 128;

/// All users' accounts.
pub struct Accounts {
    users: Mutex<HashMap<u32, User>>,
    at_work: Mutex<usize>,
    devices: OwnedFd,
}

#[derive(Default)]
struct User {
    connections: usize,
    /// Held while mounts are counted and one is added.
    turn: Arc<Mutex<()>>,
}

/// A connection slot of a user, released on drop.
pub struct Place(Arc<Accounts>, u32);

/// A slot for a request in progress, released on drop.
pub struct Work(Arc<Accounts>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// Accounts without any entries.
    pub fn new() -> Outcome<Arc<Accounts>> {
        let devices = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("watch devices"))?;
        Ok(Arc::new(Accounts { users: Mutex::default(), at_work: Mutex::default(), devices }))
    }

    /// A slot for another connection of a user.
    pub fn place(self: &Arc<Accounts>, uid: u32) -> Option<Place> {
        let mut users = lock(&self.users);
        let user = users.entry(uid).or_default();
        (user.connections < MOST_PER_USER).then(|| {
            user.connections += 1;
            Place(Arc::clone(self), uid)
        })
    }

    /// A slot for a request.
    pub fn work(self: &Arc<Accounts>) -> Option<Work> {
        let mut at_work = lock(&self.at_work);
        (*at_work < MOST_AT_WORK).then(|| {
            *at_work += 1;
            Work(Arc::clone(self))
        })
    }

    /// Serializes the counting and adding of a user's mounts.
    pub fn turn(&self, uid: u32) -> Arc<Mutex<()>> {
        Arc::clone(&lock(&self.users).entry(uid).or_default().turn)
    }

    /// Watches the device of a new mount until no process has it open any more.
    pub fn add(&self, device: impl AsFd, uid: u32, namespace: NamespaceId) -> Outcome<()> {
        let data = epoll::EventData::new_u64(label(uid, namespace));
        epoll::add(&self.devices, device, data, epoll::EventFlags::empty())
            .map_err(failed("watch the device"))
    }

    /// The number of a user's mounts: those in this thread's namespace, from its table, and live ones in others.
    pub fn mounts(&self, thread: &Thread, table: &Table, uid: u32) -> Outcome<usize> {
        let here = table.ours().filter(|mount| mount.uid == uid).count();
        let own = label(uid, thread.namespace()?);
        let name = format!("fdinfo/{}", self.devices.as_raw_fd());
        let watched = thread.text(&name, "count mounts")?;
        let elsewhere = labels(&watched).filter(|&label| user_of(label) == uid && label != own).count();
        Ok(here + elsewhere)
    }
}

/// The data stored with a device: the user, and the number of the namespace, which has 32 bits.
fn label(uid: u32, namespace: NamespaceId) -> u64 {
    u64::from(uid) << 32 | namespace.0 & 0xffff_ffff
}

fn user_of(label: u64) -> u32 {
    u32::try_from(label >> 32).unwrap_or(u32::MAX)
}

/// The data stored with each device of an epoll set, from its fdinfo.
fn labels(fdinfo: &str) -> impl Iterator<Item = u64> {
    let data = |line: &str| {
        let rest = line.strip_prefix("tfd:")?.split_once("data:")?.1;
        u64::from_str_radix(rest.split_ascii_whitespace().next()?, 16).ok()
    };
    fdinfo.lines().filter_map(data)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = lock(&self.0.users);
        let Some(user) = users.get_mut(&self.1) else { return };
        user.connections -= 1;
        if user.connections == 0 {
            users.remove(&self.1);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        *lock(&self.0.at_work) -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn a_user_has_four_places_and_gets_them_back() {
        let accounts = Accounts::new().unwrap();
        let mut places: Vec<Place> = (0..MOST_PER_USER).map(|_| accounts.place(1000).unwrap()).collect();
        assert!(accounts.place(1000).is_none() && accounts.place(1001).is_some());
        places.pop();
        places.push(accounts.place(1000).unwrap());
        drop(places);
        assert!(lock(&accounts.users).is_empty());
    }

    #[test]
    fn a_device_counts_until_its_last_owner_closes_it() {
        let accounts = Accounts::new().unwrap();
        let count = |uid| accounts.mounts(&Thread::current().unwrap(), &Table::default(), uid).unwrap();
        // Each count runs on a separate thread, as requests do.
        let count = |uid| std::thread::scope(|scope| scope.spawn(|| count(uid)).join().unwrap());
        let (elsewhere, here) = (NamespaceId(7), Thread::current().unwrap().namespace().unwrap());
        let pipes: Vec<_> = (0..3).map(|_| std::io::pipe().unwrap()).collect();
        accounts.add(&pipes[0].0, 1000, elsewhere).unwrap();
        accounts.add(&pipes[1].0, 1000, here).unwrap();
        accounts.add(&pipes[2].0, 1001, elsewhere).unwrap();
        assert_eq!((count(1000), count(1001), count(7)), (1, 1, 0));
        let kept = pipes[0].0.try_clone().unwrap();
        drop(pipes);
        assert_eq!((count(1000), count(1001)), (1, 0));
        drop(kept);
        assert_eq!(count(1000), 0);
    }

    #[test]
    fn what_the_kernel_prints_of_an_epoll_set_is_understood() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\ntfd:        8 events: 80000018 data:      3e8f0000001  pos:0 ino:54 sdev:f\ntfd: what\n";
        assert_eq!(labels(text).collect::<Vec<_>>(), [0x3e8_f000_0001]);
    }
}
