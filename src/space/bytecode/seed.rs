//! Copies shared bytecode to where a run reads it, and reports what that run had to compile itself.
//!
//! It runs concurrently with the command, in the order of first use: a file takes some ten microseconds, Python about a millisecond
//! for each module, so it stays ahead; if it does not, Python compiles, which is slower but never wrong. A file is published whole and
//! never replaces another.

use std::collections::{HashMap, HashSet};
use std::fs::{self, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::store::index::Index;
use crate::sys::fs::dir;
use crate::sys::fs::place::Place;

use super::Prefix;
use super::names::CacheName;
use super::pack::{Pack, Piece};

/// The maximum number of bytes to copy of what was compiled in advance, while the imports are not known.
pub const AHEAD_BYTES: u64 = 64 << 20;
/// Marks a directory as filled from the packs that it describes, a line for each. Python uses no such name.
const SEEDED: &str = ".seeded";
/// The flags of an unchecked hash-based `.pyc`, which Python does not compare with its source.
const UNCHECKED: [u8; 4] = [0b01, 0, 0, 0];
/// More files than any program imports: if there are more, they were compiled in bulk, not imported.
const MOST_IMPORTED: usize = 20_000;

/// False if [`seed`] would find at once that there is nothing to copy.
pub fn may_seed(prefix: &Prefix, pack: &Place) -> bool {
    let state = dir::file_state(pack).map(|state| state.text);
    state.is_ok_and(|state| !is_seeded(prefix, &state))
}

/// True if `prefix` was filled from the pack in this state. Programs write there too: the mark may be anything.
fn is_seeded(prefix: &Prefix, state: &str) -> bool {
    super::read_text(&prefix.tree.join(SEEDED)).is_ok_and(|text| text.lines().any(|line| line == state))
}

/// Notes that `prefix` was filled from the pack in this state, and keeps the note about one other.
fn mark(prefix: &Prefix, state: &str) -> io::Result<()> {
    let mark = prefix.tree.join(SEEDED);
    let text = super::read_text(&mark).unwrap_or_default();
    let other = text.lines().rfind(|line| *line != state).map(|line| format!("{line}\n"));
    dir::publish(&mark, format!("{}{state}", other.unwrap_or_default()).as_bytes())
}

/// Fills `prefix` from `pack` until `stop` is set. Returns the number of files copied.
pub fn seed(prefix: &Prefix, pack: &Place, index: &Index, stop: &AtomicBool) -> io::Result<u64> {
    let state = match dir::file_state(pack) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        state => state?.text,
    };
    if is_seeded(prefix, &state) {
        return Ok(0);
    }
    let Some(mut pack) = Pack::open(pack, index.id())? else { return Ok(0) };
    let any_imported = pack.any_imported();
    let (mut copied, mut left, mut made) = (0, AHEAD_BYTES, HashSet::new());
    pack.for_each(|piece, bytes| {
        if stop.load(Ordering::Relaxed) || (any_imported && !piece.imported) {
            return Ok(false);
        }
        let Some(bytes) = bytes.filter(|_| is_offered(piece, index, any_imported)) else { return Ok(true) };
        left = left.saturating_sub(if piece.imported { 0 } else { piece.size });
        copied += u64::from(copy(prefix, piece, bytes, &mut made)?);
        Ok(left > 0)
    })?;
    if !stop.load(Ordering::Relaxed) {
        mark(prefix, &state)?;
    }
    Ok(copied)
}

/// Only bytecode of a file that this catalog has in all its spaces. Tests are compiled in advance, but rarely imported.
fn is_offered(piece: &Piece, index: &Index, any_imported: bool) -> bool {
    let is_test = |name: &str| matches!(name, "test" | "tests" | "idlelib" | "lib2to3" | "ensurepip");
    let wanted = any_imported || !piece.path.split('/').any(is_test);
    wanted && CacheName::parse(&piece.path).is_some_and(|name| name.is_shared_by(index))
}

/// Puts one `.pyc` where Python looks for it, unless there is one. Its access time shows later whether it was used.
fn copy(prefix: &Prefix, piece: &Piece, bytes: &[u8], made: &mut HashSet<PathBuf>) -> io::Result<bool> {
    let path = prefix.tree.join(&piece.path);
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(&prefix.tree);
    if made.insert(parent.to_owned()) {
        dir::ensure_private(parent)?;
    }
    let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(&prefix.tree)?;
    if prefix.frozen {
        file.write_all(&bytes[..4])?;
        file.write_all(&UNCHECKED)?;
        file.write_all(&bytes[8..])?;
    } else {
        file.write_all(bytes)?;
    }
    file.as_file().set_times(FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH))?;
    match file.persist_noclobber(&path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        outcome => Ok(outcome.is_ok()),
    }
}

/// The imports of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Modules in no pack: compiled by the program, in this order.
    pub compiled: Vec<CacheName>,
    /// Paths that are in the pack only because everything was compiled in advance.
    pub confirmed: Vec<String>,
}

/// What was imported from `prefix` and is not marked as imported in one of `packs`. Only names are examined.
pub fn imported(prefix: &Prefix, packs: &[Place], index: &Index) -> io::Result<Imported> {
    let paths = files(&prefix.tree)?;
    if paths.is_empty() {
        return Ok(Imported::default());
    }
    let mut known: HashMap<String, bool> = HashMap::new();
    for pack in packs {
        let pieces = Pack::open(pack, index.id())?.map(|pack| pack.pieces).unwrap_or_default();
        for piece in pieces {
            *known.entry(piece.path).or_default() |= piece.imported;
        }
    }
    let (mut compiled, mut confirmed) = (Vec::new(), Vec::new());
    for path in paths {
        let known = known.get(&path);
        let name = CacheName::parse(&path).filter(|name| known != Some(&true) && name.is_shared_by(index));
        let (Some(name), Ok(meta)) = (name, fs::symlink_metadata(prefix.tree.join(&path))) else { continue };
        let time = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if known.is_none() {
            compiled.push((time, name));
        } else if meta.accessed().is_ok_and(|time| time > SystemTime::UNIX_EPOCH) {
            confirmed.push((time, path));
        }
    }
    compiled.sort();
    confirmed.sort();
    let compiled = compiled.into_iter().map(|(_, name)| name).collect();
    Ok(Imported { compiled, confirmed: confirmed.into_iter().map(|(_, path)| path).collect() })
}

/// The `.pyc` files below `tree`, by their paths with `/`; links are not followed.
fn files(tree: &Path) -> io::Result<Vec<String>> {
    let (mut found, mut dirs) = (Vec::new(), vec![(tree.to_owned(), String::new())]);
    while let Some((dir, prefix)) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() && name.ends_with(".pyc") && found.len() < MOST_IMPORTED {
                found.push(format!("{prefix}{name}"));
            }
        }
    }
    Ok(found)
}
