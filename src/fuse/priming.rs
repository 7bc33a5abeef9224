//! Priming: walking a profile through the mount itself, ahead of the program, so that its look-ups and reads hit the
//! kernel's caches.
//!
//! The [`Recorder`] notes what programs ask for; requests of the primer are not noted, nor repeated if a program was faster:
//! so the primer stops by itself where the program is ahead. It runs at the lowest priority and reads one chunk at a time,
//! so that no program ever waits for more than that.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::name::Name;
use crate::sys::daemon;
use crate::tree::{Index, Ino};

use super::profile::{CHUNK, Item, Profile};

/// Notes what is asked for first.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The thread that primes; 0 if none does.
    primer: AtomicU32,
    /// Inodes up to this are the catalog's; 0: nothing is noted.
    inodes: AtomicU64,
    seen: Mutex<Profile>,
    primed: AtomicU64,
}

impl Recorder {
    /// From now on notes what is asked of the catalog's inodes, `1..=inodes`.
    pub fn note(&self, inodes: u64) {
        self.inodes.store(inodes, Ordering::Relaxed);
    }

    /// Somebody reads.
    pub fn read(&self, pid: u32, ino: Ino, offset: u64, size: u32) {
        if size == 0 || !self.is_noted(pid, ino) {
            return;
        }
        let last = (offset + u64::from(size) - 1) / CHUNK;
        let mut seen = self.lock();
        (offset / CHUNK..=last).for_each(|chunk| seen.add(Item::Read { ino, chunk }));
    }

    /// Somebody looked for a name that is not there.
    pub fn missed(&self, pid: u32, dir: Ino, name: &[u8]) {
        if self.is_noted(pid, dir) {
            self.lock().add(Item::Miss { dir, name: name.into() });
        }
    }

    /// What was asked for so far.
    pub fn profile(&self) -> Profile {
        self.lock().clone()
    }

    /// How many items were primed.
    pub fn primed(&self) -> u64 {
        self.primed.load(Ordering::Relaxed)
    }

    /// Walks `profile` through the mount at `root`, until `stop` is set. Meant for a thread of its own.
    pub fn prime(&self, profile: &Profile, index: &Index, root: &Path, stop: &AtomicBool) {
        self.primer.store(daemon::thread_id(), Ordering::Relaxed);
        let mut open = None;
        let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or(1 << 17)];
        for item in profile.items() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if self.lock().contains(item) {
                continue;
            }
            match prime_item(item, index, root, &mut open, &mut buffer) {
                Ok(()) => self.primed.fetch_add(1, Ordering::Relaxed),
                // Somebody removed it, or it is damaged: who reads it will be told.
                Err(error) => {
                    log::debug!("Cannot prime {item:?}: {error}");
                    continue;
                }
            };
        }
        self.primer.store(0, Ordering::Relaxed);
    }

    fn is_noted(&self, pid: u32, ino: Ino) -> bool {
        ino.0 <= self.inodes.load(Ordering::Relaxed) && pid != self.primer.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Profile> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for one item; the file of the last one stays open in `open`.
fn prime_item(
    item: &Item,
    index: &Index,
    root: &Path,
    open: &mut Option<(Ino, File)>,
    buffer: &mut [u8],
) -> io::Result<()> {
    let place = |ino| index.path_of(ino).map(|path| root.join(path.to_path())).ok_or(io::ErrorKind::NotFound);
    match item {
        Item::Miss { dir, name } => {
            let name = Name::new(name).map_err(io::Error::other)?;
            match std::fs::symlink_metadata(place(*dir)?.join(name.as_os_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        }
        Item::Read { ino, chunk } => {
            if open.as_ref().is_none_or(|(now, _)| now != ino) {
                *open = Some((*ino, File::open(place(*ino)?)?));
            }
            let Some((_, file)) = open else { return Ok(()) };
            file.read_at(buffer, chunk * CHUNK).map(drop)
        }
    }
}
