//! Walks a finished tree: RCC's view of it, before any content is read.
//!
//! Like RCC, it follows links: a link to a directory becomes a directory with a link text, and what is below it is recorded as shadow;
//! a link to a file has the facts of that file. RCC drops some names. Where RCC would panic, or record what cannot be restored, this
//! walk returns an error that names the path.
//!
//! Entries that are one file (hard links, and everything found again below links, such as `lib64 -> lib`) share one [`Content`], so
//! that each is read once.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use super::error::RecordError;
use crate::rcc::catalog::{Dir, DirId, EntryKind, File, GoMode, MAX_DEPTH, MAX_ENTRIES};
use crate::sys::fs::name::OwnedName;
use crate::sys::fs::stat::{FileKind, Stat};

/// Names that RCC drops, and names with these extensions (from the last dot, including it).
const KILLED: [&[u8]; 7] = [b"__MACOSX", b"__pycache__", b".pyc", b".git", b".hg", b".svn", b".gitignore"];

/// The tree that was found; digests and relocations are still missing.
pub(super) struct Walked {
    /// The directories, parents before children.
    pub dirs: Vec<Dir>,
    /// The files to read.
    pub contents: Vec<Content>,
    /// The path of each directory, and its facts when it was listed.
    places: Vec<Visit>,
    known: HashMap<(u64, u64), usize>,
    entries: u64,
}

/// One file to read, for one or more entries.
pub(super) struct Content {
    /// A path to it.
    pub path: PathBuf,
    /// Its facts when it was found.
    pub stat: Stat,
    /// The entries with this content: directory, and position in it.
    pub entries: Vec<(DirId, usize)>,
}

struct Visit {
    path: PathBuf,
    stat: Stat,
    depth: usize,
}

/// Walks the directory at `root`.
pub(super) fn walk(root: &Path) -> Result<Walked, RecordError> {
    let mut walked = Walked {
        dirs: Vec::new(),
        contents: Vec::new(),
        places: Vec::new(),
        known: HashMap::new(),
        entries: 0,
    };
    let stat = stat(root).map_err(RecordError::io("Looking at", root))?;
    walked.add_dir(None, None, root.to_owned(), None, stat)?;
    // Directories that are added are listed in turn.
    let mut next = 0;
    while next < walked.dirs.len() {
        walked.list(DirId(next as u32))?;
        next += 1;
    }
    Ok(walked)
}

fn stat(path: &Path) -> std::io::Result<Stat> {
    fs::metadata(path).map(|meta| Stat::of(&meta))
}

/// True for names that RCC leaves out.
pub(super) fn is_killed(name: &[u8]) -> bool {
    let extension = name.iter().rposition(|&byte| byte == b'.').map(|dot| &name[dot..]);
    KILLED.contains(&name) || extension.is_some_and(|extension| KILLED.contains(&extension))
}

impl Walked {
    /// Fails if a directory has changed since it was listed.
    pub(super) fn check_unchanged(&self) -> Result<(), RecordError> {
        for place in &self.places {
            if !stat(&place.path).is_ok_and(|now| now == place.stat) {
                return Err(RecordError::Changed { path: place.path.clone() });
            }
        }
        Ok(())
    }

    /// Adds everything in the directory `id`.
    fn list(&mut self, id: DirId) -> Result<(), RecordError> {
        let path = self.places[id.index()].path.clone();
        let listing = || RecordError::io("Listing", &path);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(listing())? {
            let entry = entry.map_err(listing())?;
            if !is_killed(entry.file_name().as_encoded_bytes()) {
                entries.push(entry);
            }
        }
        entries.sort_by_key(DirEntry::file_name);
        self.entries += entries.len() as u64;
        if self.entries > MAX_ENTRIES {
            return Err(RecordError::TooLarge { path, what: "entries", limit: MAX_ENTRIES });
        }
        entries.iter().try_for_each(|entry| self.add(id, entry))
    }

    fn add(&mut self, parent: DirId, entry: &DirEntry) -> Result<(), RecordError> {
        let path = entry.path();
        let name = name(entry)?;
        let symlink = link_text(entry)?;
        let stat = match (stat(&path), &symlink) {
            (Ok(stat), _) => stat,
            (Err(source), Some(text)) => {
                return Err(RecordError::Dangling { path, target: PathBuf::from(&**text), source });
            }
            (Err(source), None) => return Err(RecordError::Io { doing: "Looking at", path, source }),
        };
        match stat.kind {
            FileKind::Directory => {
                let id = self.add_dir(Some(name), Some(parent), path, symlink, stat)?;
                self.dirs[parent.index()].subdirs.push(id);
                Ok(())
            }
            FileKind::File => self.add_file(parent, name, path, symlink, stat),
            FileKind::Other(kind) => Err(RecordError::NotAFile { path, kind }),
        }
    }

    fn add_dir(
        &mut self,
        name: Option<OwnedName>,
        parent: Option<DirId>,
        path: PathBuf,
        symlink: Option<Box<str>>,
        stat: Stat,
    ) -> Result<DirId, RecordError> {
        let above = parent.map(|parent| (&self.dirs[parent.index()], &self.places[parent.index()]));
        let depth = above.map_or(0, |(_, place)| place.depth + 1);
        let shadow = above.is_some_and(|(dir, _)| dir.shadow || dir.symlink.is_some());
        if depth > MAX_DEPTH {
            return Err(RecordError::TooLarge { path, what: "levels", limit: MAX_DEPTH as u64 });
        }
        if (shadow || symlink.is_some()) && self.is_above(parent, &stat) {
            return Err(RecordError::Loop { path });
        }
        let mode = GoMode::from_unix(EntryKind::Directory, stat.permissions);
        let (subdirs, files) = (Vec::new(), Vec::new());
        self.dirs.push(Dir { name, parent, symlink, mode, shadow, subdirs, files });
        self.places.push(Visit { path, stat, depth });
        Ok(DirId(self.dirs.len() as u32 - 1))
    }

    /// True if `parent` or one of its ancestors is the directory with the facts `stat`.
    fn is_above(&self, parent: Option<DirId>, stat: &Stat) -> bool {
        let up = |id: &DirId| self.dirs[id.index()].parent;
        std::iter::successors(parent, up).any(|id| {
            let above = &self.places[id.index()].stat;
            above.id.is_some() && above.id == stat.id
        })
    }

    fn add_file(
        &mut self,
        parent: DirId,
        name: OwnedName,
        path: PathBuf,
        symlink: Option<Box<str>>,
        stat: Stat,
    ) -> Result<(), RecordError> {
        let files = &mut self.dirs[parent.index()].files;
        let entry = (parent, files.len());
        let mode = GoMode::from_unix(EntryKind::File, stat.permissions);
        files.push(File { name, symlink, size: stat.size, mode, digest: None, rewrite: Vec::new() });
        let next = self.contents.len();
        let place = stat.id.map_or(next, |id| *self.known.entry(id).or_insert(next));
        match self.contents.get_mut(place) {
            Some(content) if content.stat == stat => content.entries.push(entry),
            Some(_) => return Err(RecordError::Changed { path }),
            None => self.contents.push(Content { path, stat, entries: vec![entry] }),
        }
        Ok(())
    }
}

fn name(entry: &DirEntry) -> Result<OwnedName, RecordError> {
    let name = entry.file_name();
    let text = name.to_str().ok_or_else(|| RecordError::NotUtf8 { path: entry.path() })?;
    OwnedName::new(text.as_bytes())
        .map_err(|bad| RecordError::io("Looking at", entry.path())(std::io::Error::other(bad)))
}

/// The text of a link; None for anything else.
fn link_text(entry: &DirEntry) -> Result<Option<Box<str>>, RecordError> {
    let path = entry.path();
    if !entry.file_type().map_err(RecordError::io("Looking at", &path))?.is_symlink() {
        return Ok(None);
    }
    let text = fs::read_link(&path).map_err(RecordError::io("Reading the link", &path))?;
    let text = text.to_str().ok_or(RecordError::NotUtf8 { path })?;
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rcc_drops_names_and_last_extensions() {
        for name in
            ["__pycache__", "x.pyc", ".pyc", "repo.git", ".git", ".gitignore", "a.gitignore", "x.y.svn"]
        {
            assert!(is_killed(name.as_bytes()), "{name}");
        }
        for name in ["x.pyo", "pyc", "git", "x.PYC", "a.__pycache__", "x.pyc.txt", ".github", "x."] {
            assert!(!is_killed(name.as_bytes()), "{name}");
        }
    }
}
