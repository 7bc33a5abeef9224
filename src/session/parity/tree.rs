//! A directory tree as a value: everything that a restore by RCC determines.
//!
//! Times of directories and links, owners, and modes of links are not determined, so they are left out.

use std::collections::BTreeMap;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::session::error::{SessionError, Tried as _};
use crate::sys::fs::stat;

/// The size of a read in bytes.
const PIECE: usize = 256 << 10;

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir {
        /// Permissions.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permissions.
        mode: u32,
        /// Size in bytes.
        size: u64,
        /// Modification time in seconds.
        modified: i64,
        /// Digest of the content.
        sha256: [u8; 32],
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: PathBuf,
    },
    /// A device, a socket or a FIFO.
    Other,
}

/// All entries by their path relative to the root.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads every file below `root` with several threads; keeps the permission bits in `mask`.
pub fn read(root: &Path, mask: u32) -> Result<Tree, SessionError> {
    let mut paths = Vec::new();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let listed = level.par_iter().map(|dir| list(dir)).collect::<Result<Vec<_>, SessionError>>()?;
        let found = || listed.iter().flatten();
        level = found().filter(|(_, kind)| kind.is_dir()).map(|(path, _)| path.clone()).collect();
        paths.extend(listed.into_iter().flatten());
    }
    let of = |buffer: &mut Vec<u8>, (path, kind): (PathBuf, FileType)| {
        let entry = if kind.is_file() { file(&path, mask, buffer) } else { entry(&path, mask) };
        let entry = entry.tried_with(|| format!("Cannot read {}", path.display()))?;
        let below = path.strip_prefix(root).unwrap_or(&path).to_owned();
        Ok((below, entry))
    };
    paths.into_par_iter().map_init(|| vec![0; PIECE], of).collect()
}

/// The entries of a directory with their types.
fn list(dir: &Path) -> Result<Vec<(PathBuf, FileType)>, SessionError> {
    let entries = fs::read_dir(dir).and_then(|entries| {
        let of = |entry: fs::DirEntry| Ok((entry.path(), entry.file_type()?));
        entries.map(|entry| entry.and_then(of)).collect::<io::Result<Vec<_>>>()
    });
    entries.tried_with(|| format!("Cannot list {}", dir.display()))
}

/// An entry that was not listed as a file.
fn entry(path: &Path, mask: u32) -> io::Result<Entry> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    Ok(if kind.is_dir() {
        Entry::Dir { mode: meta.permissions().mode() & mask }
    } else if kind.is_symlink() {
        Entry::Link { target: fs::read_link(path)? }
    } else {
        Entry::Other
    })
}

/// A file. Its path is looked up only once: on a mount of many small files, that takes longer than reading them.
fn file(path: &Path, mask: u32, buffer: &mut [u8]) -> io::Result<Entry> {
    let mut file = stat::open_unfollowed(path)?;
    let meta = file.metadata()?;
    let (mode, size, modified) = (meta.permissions().mode() & mask, meta.len(), meta.mtime());
    Ok(Entry::File { mode, size, modified, sha256: sha256(&mut file, size, buffer)? })
}

/// Hashes all of a file. A short read that ends at `size` met the end, so no other read is needed.
fn sha256(file: &mut File, size: u64, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
    let (mut hash, mut total) = (Sha256::new(), 0);
    loop {
        let count = match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hash.update(&buffer[..count]);
        total += count as u64;
        if count == 0 || (count < buffer.len() && total == size) {
            return Ok(hash.finalize().into());
        }
    }
}

/// The differences of `other` from `reference`, path by path; empty if they are equal.
pub fn differences(reference: &Tree, other: &Tree) -> Vec<String> {
    let mut paths: Vec<&PathBuf> = reference.keys().chain(other.keys()).collect();
    paths.sort();
    paths.dedup();
    let differs = |path: &&PathBuf| reference.get(*path) != other.get(*path);
    paths.into_iter().filter(differs).map(|path| line(path, reference.get(path), other.get(path))).collect()
}

fn line(path: &Path, reference: Option<&Entry>, other: Option<&Entry>) -> String {
    let path = path.display();
    match (reference, other) {
        (None, _) => format!("{path}: only there"),
        (_, None) => format!("{path}: missing"),
        (Some(Entry::Link { target: ours }), Some(Entry::Link { target: theirs })) => {
            format!("{path}: leads to {} instead of {}", theirs.display(), ours.display())
        }
        (Some(Entry::Dir { mode: ours }), Some(Entry::Dir { mode: theirs })) => {
            format!("{path}: mode {theirs:o} instead of {ours:o}")
        }
        (
            Some(Entry::File { mode: ours, size: own, modified: then, .. }),
            Some(Entry::File { mode: theirs, size, modified, .. }),
        ) => {
            let what = if ours != theirs {
                format!("mode {theirs:o} instead of {ours:o}")
            } else if own != size {
                format!("{size} bytes instead of {own}")
            } else if then != modified {
                format!("modified at {modified} instead of {then}")
            } else {
                "other bytes".to_owned()
            };
            format!("{path}: {what}")
        }
        _ => format!("{path}: of another type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_compare_finds_every_kind_of_difference() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let root = dir.path().join(name);
            fs::create_dir_all(root.join("d")).unwrap();
            for (file, text) in
                [("same", "x"), ("bytes", "x"), ("size", "x"), ("mode", "x"), ("time", "x"), ("kind", "x")]
            {
                fs::write(root.join("d").join(file), text).unwrap();
            }
            std::os::unix::fs::symlink("same", root.join("d/link")).unwrap();
            root
        };
        let (one, two) = (make("one"), make("two"));
        let at = |name: &str| two.join("d").join(name);
        let old = fs::metadata(one.join("d/bytes")).unwrap().modified().unwrap();
        let set = |path: PathBuf, time| {
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap()
        };
        for name in ["same", "bytes", "size", "mode"] {
            set(one.join("d").join(name), old);
        }
        fs::write(at("bytes"), "y").unwrap();
        fs::write(at("size"), "xx").unwrap();
        fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        for name in ["same", "bytes", "size", "mode"] {
            set(at(name), old);
        }
        set(one.join("d/time"), std::time::UNIX_EPOCH + std::time::Duration::from_secs(7));
        set(at("time"), std::time::UNIX_EPOCH + std::time::Duration::from_secs(8));
        fs::remove_file(at("kind")).unwrap();
        fs::create_dir(at("kind")).unwrap();
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("bytes", at("link")).unwrap();
        fs::write(at("more"), "").unwrap();
        fs::set_permissions(one.join("d/mode"), fs::Permissions::from_mode(0o644)).unwrap();
        let (reference, other) = (read(&one, 0o7777).unwrap(), read(&two, 0o7777).unwrap());
        assert_eq!(
            differences(&reference, &other),
            [
                "d/bytes: other bytes",
                "d/kind: of another type",
                "d/link: leads to bytes instead of same",
                "d/mode: mode 600 instead of 644",
                "d/more: only there",
                "d/size: 2 bytes instead of 1",
                "d/time: modified at 8 instead of 7",
            ]
        );
        assert_eq!(differences(&other, &reference)[4], "d/more: missing");
        assert_eq!(differences(&reference, &reference), [""; 0]);
    }
}
