//! Fingerprints: the state of files in our own directories when their content was verified. A fingerprint is the inode number and the
//! change time, which no user can set. So a file that was modified is detected even if its modification time was restored.
//!
//! ```text
//! <directory>/seals   a line for each: name, inode, seconds, nanoseconds; the last one of a name counts
//! ```
//! A fingerprint only saves time: a file whose fingerprint is missing or does not match is verified by content or created again, and
//! then gets a new fingerprint. Fingerprints added by other processes are read when a fingerprint does not match. A program of the
//! same user that also writes a fingerprint is not detected: it has the same rights as its user (`--paranoid` trusts no fingerprint).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::fs::beneath::FileFacts;
use crate::sys::fs::place::Place;

/// The file in each directory.
pub const NAME: &str = "seals";
/// A longer file is discarded and a new one is started: ten times what the largest directory needs.
const MOST: u64 = 8 << 20;
/// A file of this many bytes is compacted when it is read, if most of its lines no longer count.
const LONG: usize = 16 << 10;
/// The number of fingerprints that are written at once.
const AT_ONCE: usize = 64;
/// From this size in bytes on, a file is worth a write of its own: verifying it again takes longer. A server may be killed at any time,
/// as that of an isolated run always is.
const LARGE: u64 = 1 << 20;

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    inode: u64,
    changed: (i64, u64),
}

/// The fingerprints of one directory. Its lock is held only to read or write the file of fingerprints.
#[derive(Debug)]
pub struct Fingerprints {
    dir: Place,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    fingerprints: HashMap<Box<str>, Fingerprint>,
    /// The length of the file when it was read.
    read: Option<u64>,
    /// Lines that are not written yet, and their number.
    pending: (String, usize),
}

impl Fingerprints {
    /// The fingerprints of `dir`. Reads nothing yet.
    pub fn new(dir: Place) -> Fingerprints {
        Fingerprints { dir, known: Mutex::default() }
    }

    /// True if the file `name` has not changed since it was verified.
    pub fn hold(&self, name: &str, facts: &FileFacts) -> bool {
        let (mut known, fingerprint) = (self.lock(), Fingerprint::of(facts));
        if known.read.is_none() {
            self.read(&mut known);
        }
        if known.fingerprints.get(name) == Some(&fingerprint) {
            return true;
        }
        if self.dir.below(NAME).size_hint().is_ok_and(|len| known.read != Some(len)) {
            self.read(&mut known);
        }
        known.fingerprints.get(name) == Some(&fingerprint)
    }

    /// Fingerprints the file `name`, whose content was verified.
    pub fn add(&self, name: &str, facts: &FileFacts) {
        let mut known = self.lock();
        let fingerprint = Fingerprint::of(facts);
        match known.fingerprints.get_mut(name) {
            Some(old) => *old = fingerprint,
            None => drop(known.fingerprints.insert(name.into(), fingerprint)),
        }
        let (text, count) = &mut known.pending;
        let Fingerprint { inode, changed } = fingerprint;
        // Writing to a string cannot fail.
        writeln!(text, "{name} {inode} {} {}", changed.0, changed.1).unwrap_or_default();
        *count += 1;
        if *count >= AT_ONCE || facts.size >= LARGE {
            self.write(&mut known);
        }
    }

    /// Drops the fingerprints of removed files, if there are many.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut known = self.lock();
        self.write(&mut known);
        let Ok(text) = self.dir.below(NAME).read(MOST) else { return Ok(()) };
        let Some(kept) = compacted(&String::from_utf8_lossy(&text), is_there) else { return Ok(()) };
        known.read = None;
        match kept.is_empty() {
            true => self.dir.below(NAME).remove_file().map(drop),
            false => self.dir.below(NAME).publish(kept.as_bytes()),
        }
    }

    /// Reads the file; fingerprints not written yet take precedence. An unreadable file counts as empty.
    fn read(&self, known: &mut Known) {
        let text = self.dir.below(NAME).read(MOST);
        if text.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            let gone = self.dir.below(NAME).remove();
            log::debug!("The fingerprints of {} are started again: {gone:?}", self.dir.display());
        }
        let text = text.unwrap_or_default();
        let mut text = String::from_utf8_lossy(&text);
        // Each hard link adds a line. What another process adds meanwhile is lost, and its file verified again.
        if text.len() >= LONG
            && let Some(kept) = compacted(&text, |_| true)
        {
            let done = self.dir.below(NAME).publish(kept.as_bytes());
            log::debug!("The fingerprints of {} are compacted: {done:?}", self.dir.display());
            text = kept.into();
        }
        known.read = Some(text.len() as u64);
        let lines = text.lines().chain(known.pending.0.lines());
        known.fingerprints = lines.filter_map(Fingerprint::parse).collect();
    }

    /// Lost fingerprints only cost time.
    fn write(&self, known: &mut Known) {
        let (text, count) = std::mem::take(&mut known.pending);
        if count == 0 {
            return;
        }
        let append = |dir: &crate::sys::fs::owned::OwnedDir, name: &OsStr| {
            dir.open_to_append(name)?.write_all(text.as_bytes())
        };
        if let Err(error) = self.dir.below(NAME).open_dir_of(append) {
            log::debug!("Cannot keep the fingerprints of {}: {error}", self.dir.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // After a panic the data is at worst incomplete.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last line of each name for which `is_there` is true; `None` if these are more than half of `text`.
fn compacted(text: &str, is_there: impl Fn(&str) -> bool) -> Option<String> {
    let mut seen = HashSet::new();
    let named = text.lines().rev().filter_map(|line| Some((line.split(' ').next()?, line)));
    let kept: String = named
        .filter(|(name, _)| is_there(name) && seen.insert(*name))
        .flat_map(|(_, line)| [line, "\n"])
        .collect();
    (kept.len() <= text.len() / 2).then_some(kept)
}

impl Drop for Fingerprints {
    fn drop(&mut self) {
        let mut known = self.lock();
        self.write(&mut known);
    }
}

impl Fingerprint {
    fn of(facts: &FileFacts) -> Fingerprint {
        Fingerprint { inode: facts.id.1, changed: facts.changed }
    }

    /// Parses a line; `None` for a truncated one.
    fn parse(line: &str) -> Option<(Box<str>, Fingerprint)> {
        let mut fields = line.split(' ');
        let (name, inode) = (fields.next()?, fields.next()?.parse().ok()?);
        let changed = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        fields.next().is_none().then(|| (name.into(), Fingerprint { inode, changed }))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::sys::fs::beneath::facts_of_file;
    use std::fs::{self, File};

    #[test]
    fn a_seal_holds_until_the_file_changes_whatever_time_it_is_given() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("one"), "right").unwrap();
        let facts = || facts_of_file(&File::open(temp.path().join("one")).unwrap()).unwrap();
        let open = || Fingerprints::new(Place::top(temp.path()));
        let (writer, reader) = (open(), open());
        assert!(!reader.hold("one", &facts()));
        writer.add("one", &facts());
        drop(writer);
        assert!(reader.hold("one", &facts()), "what another process has verified meanwhile");
        assert!(open().hold("one", &facts()));
        assert!(!open().hold("two", &facts()));
        let was = fs::metadata(temp.path().join("one")).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20)); // the clock of change times is coarse
        fs::write(temp.path().join("one"), "wrong").unwrap();
        File::options().write(true).open(temp.path().join("one")).unwrap().set_modified(was).unwrap();
        assert!(!open().hold("one", &facts()));
    }

    #[test]
    fn fingerprint_of_a_large_file_is_there_though_its_process_is_killed() {
        let temp = tempfile::tempdir().unwrap();
        let facts = |size| {
            let file = File::create(temp.path().join("one")).unwrap();
            file.set_len(size).unwrap();
            facts_of_file(&file).unwrap()
        };
        let killed = Fingerprints::new(Place::top(temp.path()));
        let (small, large) = (facts(LARGE - 1), facts(LARGE));
        let is_there = |facts| {
            killed.add("one", facts);
            Fingerprints::new(Place::top(temp.path())).hold("one", facts)
        };
        assert!(!is_there(&small));
        assert!(is_there(&large));
        std::mem::forget(killed);
    }

    #[test]
    fn a_file_in_which_most_lines_no_longer_count_is_compacted() {
        let temp = tempfile::tempdir().unwrap();
        let named = |name: &str| {
            fs::write(temp.path().join(name), "").unwrap();
            facts_of_file(&File::open(temp.path().join(name)).unwrap()).unwrap()
        };
        let (one, two) = (named("one"), named("two"));
        let seals = temp.path().join(NAME);
        let old = "one 1 2 3\n".repeat(LONG / 10 + 1);
        fs::write(&seals, &old).unwrap();
        let writer = Fingerprints::new(Place::top(temp.path()));
        writer.add("two", &two);
        writer.add("one", &one);
        drop(writer);
        assert!(fs::metadata(&seals).unwrap().len() > old.len() as u64, "nothing was read yet");
        let reader = Fingerprints::new(Place::top(temp.path()));
        assert!(reader.hold("one", &one) && reader.hold("two", &two));
        assert_eq!(fs::read_to_string(&seals).unwrap().lines().count(), 2);
        assert!(reader.hold("one", &one), "its own compacting is no change");
        let short = "one 1 2 3\n".repeat(10);
        fs::write(&seals, &short).unwrap();
        assert!(!Fingerprints::new(Place::top(temp.path())).hold("one", &one));
        assert_eq!(fs::read_to_string(&seals).unwrap(), short, "a short file is left");
    }

    #[test]
    fn lines_that_make_no_sense_are_no_seals() {
        for line in ["", "x", "x 1", "x 1 2", "x 1 2 y", "x -1 2 3", "x 1 2 3 4", "x  1 2 3"] {
            assert_eq!(Fingerprint::parse(line), None, "{line:?}");
        }
        assert_eq!(
            Fingerprint::parse("x 1 -2 3"),
            Some(("x".into(), Fingerprint { inode: 1, changed: (-2, 3) }))
        );
    }

    #[test]
    fn a_file_of_seals_that_is_too_long_begins_again() {
        let temp = tempfile::tempdir().unwrap();
        File::create(temp.path().join(NAME)).unwrap().set_len(MOST + 1).unwrap();
        let facts = facts_of_file(&File::open(temp.path()).unwrap()).unwrap();
        let fingerprints = Fingerprints::new(Place::top(temp.path()));
        assert!(!fingerprints.hold("one", &facts));
        fingerprints.add("one", &facts);
        drop(fingerprints);
        assert!(fs::metadata(temp.path().join(NAME)).unwrap().len() < 100);
    }
}
