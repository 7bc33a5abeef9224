//! Priming: walks a profile through the mount itself, ahead of the program, so that its lookups and reads hit the kernel's caches.
//!
//! The [`Recorder`] records the requests of programs. The primer's own requests are not recorded. It skips what a program has
//! requested already, so it does nothing where the program is ahead. It runs at the lowest priority and reads one chunk at a
//! time, so that no program waits for more than one chunk.
//!
//! The primer is a separate process, because the server must not wait for itself: if it were killed, the waiting thread could not
//! end. The primer gets a few items at a time through a pipe, and answers each batch with a byte ([`prime`]). If possible, it reads
//! through a view that does not keep the mount busy; so the server must end it with the mount.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::index::{Index, Ino};

use super::profile::{CHUNK, Item, Profile};

/// How many items the primer gets at once: it can stop, or skip what a program has read, only between batches.
const AT_ONCE: usize = 16;
/// Terminates a request; an empty request ends a batch.
const END: u8 = 0;

/// The priming process, as seen by the server.
pub struct Primer<Requests, Answers> {
    /// Its process id, as in the kernel's requests.
    pub pid: u32,
    /// The pipe for requests.
    pub requests: Requests,
    /// The pipe for answers.
    pub answers: Answers,
}

/// Records what is requested first.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The process id of the primer; 0 if there was none.
    primer: AtomicU32,
    /// Inodes up to this are the catalog's; 0: nothing is recorded.
    inodes: AtomicU64,
    seen: Mutex<Profile>,
    primed: AtomicU64,
}

impl Recorder {
    /// Starts recording requests for the catalog's inodes, `1..=inodes`.
    pub fn note(&self, inodes: u64) {
        self.inodes.store(inodes, Ordering::Relaxed);
    }

    /// Records a read.
    pub fn read(&self, pid: u32, ino: Ino, offset: u64, size: u32) {
        if size == 0 || !self.is_noted(pid, ino) {
            return;
        }
        let last = (offset + u64::from(size) - 1) / CHUNK;
        let mut seen = self.lock();
        (offset / CHUNK..=last).for_each(|chunk| seen.add(Item::Read { ino, chunk }));
    }

    /// Records a lookup of a missing name.
    pub fn missed(&self, pid: u32, dir: Ino, name: &[u8]) {
        if self.is_noted(pid, dir) {
            self.lock().add(Item::Miss { dir, name: name.into() });
        }
    }

    /// The requests recorded so far.
    pub fn profile(&self) -> Profile {
        self.lock().clone()
    }

    /// How many items were primed.
    pub fn primed(&self) -> u64 {
        self.primed.load(Ordering::Relaxed)
    }

    /// Makes `primer`, a process running [`prime`], walk `profile` through the mount at `root`, until `stop` is set.
    pub fn guide(
        &self,
        profile: &Profile,
        index: &Index,
        root: &Path,
        stop: &AtomicBool,
        primer: Primer<impl Write, impl Read>,
    ) -> io::Result<()> {
        let Primer { pid, mut requests, mut answers } = primer;
        self.primer.store(pid, Ordering::Relaxed);
        let mut text = [root.as_os_str().as_bytes(), &[END]].concat();
        requests.write_all(&text)?;
        for items in profile.items().chunks(AT_ONCE) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            text.clear();
            let asked = {
                let seen = self.lock();
                let wanted = items.iter().filter(|item| !seen.contains(item));
                wanted.filter_map(|item| request(item, index, &mut text)).count()
            };
            text.push(END);
            requests.write_all(&text)?;
            answers.read_exact(&mut [0])?;
            self.primed.fetch_add(asked as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// True for the priming process.
    pub fn is_primer(&self, pid: u32) -> bool {
        pid != 0 && pid == self.primer.load(Ordering::Relaxed)
    }

    fn is_noted(&self, pid: u32, ino: Ino) -> bool {
        ino.0 <= self.inodes.load(Ordering::Relaxed) && pid != self.primer.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Profile> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the request for `item`: a chunk's number or `m`, a blank, the path below the root, NUL.
fn request(item: &Item, index: &Index, text: &mut Vec<u8>) -> Option<()> {
    let (ino, what, name) = match item {
        Item::Miss { dir, name } => (*dir, "m".to_owned(), Some(name)),
        Item::Read { ino, chunk } => (*ino, chunk.to_string(), None),
    };
    let path = index.path_of(ino)?.to_path();
    let parts = [what.as_bytes(), b" ", path.as_os_str().as_bytes()];
    parts.into_iter().for_each(|part| text.extend_from_slice(part));
    if let Some(name) = name {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    text.push(END);
    Some(())
}

/// The primer's side: performs the `requests` below the root, which is the first of them, through `view`, and writes a byte to
/// `answers` after each empty one. Ends with `requests`, or with the mount.
pub fn prime(
    requests: impl Read,
    mut answers: impl Write,
    view: impl FnOnce(&Path) -> PathBuf,
) -> io::Result<()> {
    let mut open = None;
    let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or(1 << 17)];
    let mut requests = BufReader::new(requests).split(END);
    let Some(root) = requests.next().transpose()? else { return Ok(()) };
    let root = view(Path::new(OsStr::from_bytes(&root)));
    for request in requests {
        let request = request?;
        if request.is_empty() {
            // Without a view, an open file keeps the mount busy.
            open = None;
            answers.write_all(&[END])?;
            answers.flush()?;
        // The file was removed or is damaged; a program that reads it gets the error.
        } else if let Err(error) = ask(&root, &request, &mut open, &mut buffer) {
            log::debug!("Cannot prime {}: {error}", String::from_utf8_lossy(&request));
        }
    }
    Ok(())
}

/// Performs one request; the file of the last one stays open in `open`.
fn ask(root: &Path, request: &[u8], open: &mut Option<(PathBuf, File)>, buffer: &mut [u8]) -> io::Result<()> {
    let blank = request.iter().position(|&byte| byte == b' ').ok_or(io::ErrorKind::InvalidData)?;
    let path = &root.join(OsStr::from_bytes(&request[blank + 1..]));
    let Some(chunk) = std::str::from_utf8(&request[..blank]).ok().and_then(|chunk| chunk.parse::<u64>().ok())
    else {
        return std::fs::symlink_metadata(path).map(drop);
    };
    if open.as_ref().is_none_or(|(now, _)| now != path) {
        *open = Some((path.to_owned(), File::open(path)?));
    }
    match open {
        Some((_, file)) => file.read_at(buffer, chunk.saturating_mul(CHUNK)).map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn the_primer_answers_each_batch_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let root = dir.path().display();
        let requests = format!("{root}\00 file\01 file\0m gone\0\00 gone\0nonsense\0\0");
        let mut answers = Vec::new();
        prime(requests.as_bytes(), &mut answers, Path::to_owned).unwrap();
        assert_eq!(answers, [END, END]);
    }
}
