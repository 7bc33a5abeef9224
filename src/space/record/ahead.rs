//! Reading ahead: files of a directory to which another program still adds files are hashed, searched and compressed while it works.
//!
//! Nothing is written, and no result is trusted: that for a file is used only if the complete directory has exactly this file,
//! with the same inode, size, mode and times. The clock of a file system ticks slowly, so a file may be written twice at one time: it is
//! read only after it has stayed the same for [`SETTLED`]. What cannot be read is left to the recording itself, which reports it. The
//! blobs are kept in memory, which is bounded by [`MOST`]; those that the library has are not made.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::blob::{self, Library};
use super::content::{self, Digested, IN_MEMORY};
use super::error::RecordError;
use super::walk::{self, Content};
use crate::error::chain;
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store;
use crate::sys::fs::stat::Stat;

/// The maximum size of all files read ahead, in bytes.
const MOST: u64 = 256 << 20;
/// How long a file must have been the same: longer than the ticks of the clocks of file systems.
const SETTLED: Duration = Duration::from_millis(50);
/// The pause between two looks at a directory that has nothing to read.
const PAUSE: Duration = Duration::from_millis(20);

/// Files of one directory that are read ahead.
#[derive(Default)]
pub struct Ahead {
    contents: Vec<Content>,
    needle: Vec<u8>,
    /// By device and inode number.
    found: HashMap<(u64, u64), Early>,
}

/// The result for one file.
struct Early {
    stat: Stat,
    digested: Digested,
    /// The blob; none if the library had it.
    stored: Option<Vec<u8>>,
}

/// Files that may still be changing: when each was first seen in this state, by device and inode number.
type Seen = HashMap<(u64, u64), (Stat, Instant)>;

impl Ahead {
    /// The files that are in `dir` now.
    pub fn of(dir: &Path) -> Ahead {
        let mut left = MOST;
        let mut contents = match walk::walk(dir) {
            Ok(walked) => walked.contents,
            Err(error) => {
                log::debug!("Nothing is read ahead: {}", chain(&error));
                Vec::new()
            }
        };
        contents.retain(|content| {
            let fits = content.stat.size <= IN_MEMORY.min(left) && content.stat.id.is_some();
            left -= if fits { content.stat.size } else { 0 };
            fits
        });
        Ahead { contents, needle: needle(dir), found: HashMap::new() }
    }

    /// Reads the files of `dir` while they appear, until `stop` is set. One processor is left to the program that adds them.
    pub fn follow(&mut self, dir: &Path, home: &Home, stop: &AtomicBool) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = match rayon::ThreadPoolBuilder::new().num_threads((processors - 1).max(1)).build() {
            Ok(pool) => pool,
            Err(error) => return log::debug!("Nothing is read ahead: {error}"),
        };
        let mut seen = Seen::new();
        while !stop.load(Ordering::Relaxed) {
            let mut now = Ahead::of(dir);
            now.contents.retain(|content| is_settled(content, &mut seen) && !self.has(content));
            if now.contents.is_empty() {
                std::thread::sleep(PAUSE);
                continue;
            }
            pool.install(|| now.read(home, stop));
            self.found.extend(now.found);
        }
    }

    fn has(&self, content: &Content) -> bool {
        let known = content.stat.id.and_then(|id| self.found.get(&id));
        known.is_some_and(|early| early.stat == content.stat)
    }

    /// Reads them, until `interrupted` is set. Raw libraries gain nothing from it: their blobs are copies.
    pub fn read(&mut self, home: &Home, interrupted: &AtomicBool) {
        if !home.is_compressed() {
            return;
        }
        let library = store::Library::open(&home.library()).ok(); // there may be none yet
        let read = |content: &Content| {
            if interrupted.load(Ordering::Relaxed) {
                return None;
            }
            let (bytes, digested) = content::digested(content, &self.needle, Regime::Sha256).ok()?;
            let is_there = library.as_ref().is_some_and(|library| library.exists(&digested.digest));
            let encode = || blob::encoded(Regime::Sha256, &bytes).map(Cow::into_owned);
            let stored = if is_there { None } else { Some(encode().ok()?) };
            Some((content.stat.id?, Early { stat: content.stat.clone(), digested, stored }))
        };
        self.found = self.contents.par_iter().with_max_len(1).filter_map(read).collect();
    }

    /// What was found out about `content`, with its blob in the library; `None` if it was not read ahead or has changed since.
    pub(super) fn published(
        &self,
        content: &Content,
        library: &Library,
    ) -> Result<Option<Digested>, RecordError> {
        let known = content.stat.id.and_then(|id| self.found.get(&id));
        let is_as_stored = library.regime() == Regime::Sha256;
        let Some(early) = known.filter(|early| is_as_stored && early.stat == content.stat) else {
            return Ok(None);
        };
        let Digested { digest, rewrite } = &early.digested;
        library.publish_stored(digest, content.stat.size, |out| match &early.stored {
            Some(stored) => out.write_all(stored),
            // It is gone, or damaged.
            None => encode_again(content, digest, out),
        })?;
        Ok(Some(Digested { digest: *digest, rewrite: rewrite.clone() }))
    }
}

/// What a space's label will replace in the files of `dir`.
fn needle(dir: &Path) -> Vec<u8> {
    dir.file_name().unwrap_or_default().as_encoded_bytes().to_owned()
}

/// True if the file was seen in this state at least [`SETTLED`] ago.
fn is_settled(content: &Content, seen: &mut Seen) -> bool {
    let Some(id) = content.stat.id else { return false };
    match seen.get(&id) {
        Some((stat, since)) if *stat == content.stat => since.elapsed() >= SETTLED,
        _ => {
            seen.insert(id, (content.stat.clone(), Instant::now()));
            false
        }
    }
}

/// Writes the blob of a file that has this digest.
fn encode_again(content: &Content, digest: &Digest, out: &mut dyn Write) -> io::Result<()> {
    let (bytes, again) = content::digested(content, &[], Regime::Sha256).map_err(io::Error::other)?;
    match again.digest == *digest {
        true => out.write_all(&blob::encoded(Regime::Sha256, &bytes)?),
        false => Err(io::Error::other(format!("{} has changed", content.path.display()))),
    }
}
