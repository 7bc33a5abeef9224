//! Reading ahead: files of a directory are recorded while another program still adds files to it.
//!
//! A result is used only if the complete directory has exactly this file, with the same inode, size, mode and times. The clock of a
//! file system ticks slowly, so a file may be written twice at one time: it is read only after it has stayed the same for [`SETTLED`].
//! What cannot be read is left to the recording itself, which reports it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::blob::Library;
use super::content::{Digested, IN_MEMORY, read_whole};
use super::ready::Ready;
use super::walk::{Content, is_killed};
use crate::error::chain;
use crate::sys::fs::stat::{FileKind, Stat};
use crate::sys::process::this_process;

/// How long a file must have been the same: longer than the ticks of the clocks of file systems.
const SETTLED: Duration = Duration::from_millis(50);
/// The pause between two looks at a directory that has nothing to read.
const PAUSE: Duration = Duration::from_millis(10);

/// Files of one directory that were read ahead, by device and inode number.
#[derive(Default)]
pub(super) struct Ahead(HashMap<(u64, u64), (Stat, Digested)>);

impl Ahead {
    /// Reads the files of `dir` while they appear, until `stop` is set, and publishes their blobs. One processor is left to the program
    /// that adds them.
    pub fn follow(&mut self, dir: &Path, library: &Library, ready: Option<&Ready>, stop: &AtomicBool) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = rayon::ThreadPoolBuilder::new().num_threads((processors - 1).max(1));
        // The program that adds them comes first.
        let pool = match pool.start_handler(|_| this_process::lower_thread_priority()).build() {
            Ok(pool) => pool,
            Err(error) => return log::debug!("Nothing is read ahead: {error}"),
        };
        this_process::lower_thread_priority();
        let needle = dir.file_name().unwrap_or_default().as_encoded_bytes();
        let mut growing = Growing::new(dir);
        while !stop.load(Ordering::Relaxed) {
            let files = growing.settled_files();
            if files.is_empty() {
                std::thread::sleep(PAUSE);
                continue;
            }
            let read = |content: Content| {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                let digested = read_whole(&content, needle, library, ready);
                let digested = digested.inspect_err(|error| log::debug!("Not read ahead: {}", chain(error)));
                Some((content.stat.id?, (content.stat, digested.ok()?)))
            };
            let found: Vec<_> =
                pool.install(|| files.into_par_iter().with_max_len(1).filter_map(read).collect());
            self.0.extend(found);
        }
    }

    /// What was found out about `content`; `None` if it was not read ahead or has changed since.
    pub fn get(&self, content: &Content) -> Option<&Digested> {
        let (stat, digested) = self.0.get(&content.stat.id?)?;
        (*stat == content.stat).then_some(digested)
    }
}

/// A tree to which a program adds files.
struct Growing {
    dirs: Vec<Listed>,
    /// Files that may still be changing.
    waiting: Vec<Waiting>,
}

/// A directory.
struct Listed {
    path: PathBuf,
    state: Since,
    /// Nothing was added since it was listed.
    is_complete: bool,
    names: HashSet<OsString>,
}

/// A file.
struct Waiting {
    path: PathBuf,
    state: Since,
}

/// The facts of a file, and when they were first seen.
struct Since(Option<(Stat, Instant)>);

impl Since {
    /// Looks again; true if the facts are at least [`SETTLED`] old.
    fn is_settled(&mut self, path: &Path) -> bool {
        let now = fs::symlink_metadata(path).ok().map(|meta| Stat::of(&meta));
        match (&self.0, now) {
            (Some((before, since)), Some(now)) if *before == now => since.elapsed() >= SETTLED,
            (_, now) => {
                self.0 = now.map(|now| (now, Instant::now()));
                false
            }
        }
    }
}

impl Growing {
    fn new(dir: &Path) -> Growing {
        Growing { dirs: vec![Listed::new(dir.to_owned())], waiting: Vec::new() }
    }

    /// The files that were not returned before and do not change any more, the largest first.
    fn settled_files(&mut self) -> Vec<Content> {
        let mut next = 0;
        while let Some(dir) = self.dirs.get_mut(next) {
            let (below, files) = dir.added();
            self.dirs.extend(below.into_iter().map(Listed::new));
            self.waiting.extend(files.into_iter().map(|path| Waiting { path, state: Since(None) }));
            next += 1;
        }
        let mut settled = Vec::new();
        self.waiting.retain_mut(|file| {
            let is_settled = file.state.is_settled(&file.path);
            match &file.state.0 {
                Some((stat, _)) if is_settled => {
                    let is_known = stat.kind == FileKind::File && stat.id.is_some();
                    let is_readable = is_known && stat.size <= IN_MEMORY;
                    let content =
                        || Content { path: file.path.clone(), stat: stat.clone(), entries: Vec::new() };
                    settled.extend(is_readable.then(content));
                    false
                }
                // It was removed.
                None => false,
                Some(_) => true,
            }
        });
        settled.sort_by_key(|content| Reverse(content.stat.size));
        settled
    }
}

impl Listed {
    fn new(path: PathBuf) -> Listed {
        Listed { path, state: Since(None), is_complete: false, names: HashSet::new() }
    }

    /// The directories and files that were added since the last call.
    fn added(&mut self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut dirs, mut files) = (Vec::new(), Vec::new());
        let is_settled = self.state.is_settled(&self.path);
        if !(is_settled && self.is_complete) {
            for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if is_killed(name.as_encoded_bytes()) || self.names.contains(&name) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                    Ok(kind) if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
                self.names.insert(name);
            }
            self.is_complete = is_settled;
        }
        (dirs, files)
    }
}
