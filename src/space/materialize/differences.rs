//! How a materialized space differs from its catalog, path by path.
//!
//! Every file was laid out with mother time, and writing to one changes its time: so only files with another time are read,
//! unless reading all is requested. Owners and directory modes are not compared, because materialize does not change them.

use std::io;

use super::content_check::is_content;
use crate::space::{Differs, Space};
use crate::store::MOTHER_TIME;
use crate::store::index::{FileNode, Index, Ino, Node, NodeKind};
use crate::store::relocate::Relocation;
use crate::sys::fs::at::{DirEntry, DirEntryKind, TreeDir, mode_on_disk, target_on_disk};
use crate::sys::fs::name::{Name, OwnedName, RelPath};

/// A path that differs from the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Below the space.
    pub path: RelPath,
    /// It is a directory, or was one if it was removed.
    pub is_dir: bool,
    /// How it differs.
    pub what: Differs,
}

/// Setuid and setgid, which even root applies only on request.
const DROPPED: u16 = 0o6000;

/// All paths of `space`, materialized from the catalog of `index`, that differ from the catalog, sorted. With `reads`, the content of
/// every file is read.
pub fn differences(index: &Index, space: &Space, reads: bool) -> io::Result<Vec<Difference>> {
    let mut compare = Compare::new(index, space, reads);
    compare.walk(space, false)?;
    compare.found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(compare.found)
}

/// True if anything in `space` differs from the catalog of `index`.
pub fn is_changed(index: &Index, space: &Space) -> io::Result<bool> {
    let mut compare = Compare::new(index, space, false);
    compare.walk(space, true)?;
    Ok(!compare.found.is_empty())
}

struct Compare<'a> {
    index: &'a Index,
    relocation: Relocation<'a>,
    reads: bool,
    found: Vec<Difference>,
    /// Directories still to be examined: the path, and the catalog's directory there.
    left: Vec<(RelPath, Option<Ino>)>,
}

impl<'a> Compare<'a> {
    fn new(index: &'a Index, space: &'a Space, reads: bool) -> Compare<'a> {
        let relocation = Relocation { identity: index.identity(), label: space.label.as_bytes() };
        let left = vec![(RelPath::root(), Some(Ino::ROOT))];
        Compare { index, relocation, reads, found: Vec::new(), left }
    }

    fn walk(&mut self, space: &Space, until_first: bool) -> io::Result<()> {
        let root = TreeDir::open(&space.base)?.open_dir(space.label.as_name())?;
        while let Some((path, then)) = self.left.pop() {
            // From the root each time: a tree can be deeper than the limit of descriptors.
            let mut dir = root.reopen()?;
            for name in path.names() {
                dir = dir.open_dir(name.as_name())?;
            }
            self.directory(&dir, &path, then)?;
            if until_first && !self.found.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn directory(&mut self, dir: &TreeDir, path: &RelPath, then: Option<Ino>) -> io::Result<()> {
        let index = self.index;
        let mut met = std::collections::BTreeSet::new();
        for entry in dir.entries()? {
            let known = then.and_then(|then| index.lookup(then, entry.name.as_name()));
            let node = known.and_then(|ino| index.node(ino));
            met.extend(known);
            let below = joined(path, &entry.name);
            let is_dir = entry.kind == DirEntryKind::Dir;
            if let Some(what) = self.compare(dir, &entry, node.as_ref())? {
                self.found.push(Difference { path: below.clone(), is_dir, what });
            }
            if is_dir {
                let then = node.filter(|node| matches!(node.kind, NodeKind::Dir { .. })).map(|node| node.ino);
                self.left.push((below, then));
            }
        }
        for node in then.into_iter().flat_map(|then| index.children(then)) {
            if met.contains(&node.ino) {
                continue;
            }
            let name = OwnedName::new(node.name).map_err(io::Error::other)?;
            let is_dir = matches!(node.kind, NodeKind::Dir { .. });
            self.found.push(Difference { path: joined(path, &name), is_dir, what: Differs::Removed });
        }
        Ok(())
    }

    fn compare(
        &self,
        dir: &TreeDir,
        found: &DirEntry,
        node: Option<&Node<'_>>,
    ) -> io::Result<Option<Differs>> {
        let Some(node) = node else { return Ok(Some(Differs::Added)) };
        Ok(match (&node.kind, &found.kind) {
            (NodeKind::Dir { .. }, DirEntryKind::Dir) => None,
            (NodeKind::Link { target }, DirEntryKind::Link(text)) if *target_on_disk(target) == **text => {
                None
            }
            (NodeKind::File(file), &DirEntryKind::File { size, mode }) => {
                let modes = [node.mode, node.mode & !DROPPED].map(mode_on_disk);
                match size == file.size && self.is_same(dir, found.name.as_name(), file)? {
                    false => Some(Differs::Changed),
                    true if modes.contains(&mode) => None,
                    true => Some(Differs::Mode),
                }
            }
            _ => Some(Differs::Changed),
        })
    }

    /// True if the content of the file is the catalog's.
    fn is_same(&self, dir: &TreeDir, name: Name<'_>, file: &FileNode<'_>) -> io::Result<bool> {
        if !self.reads && dir.facts(name)?.mtime == (MOTHER_TIME, 0) {
            return Ok(true);
        }
        match dir.open_file(name).and_then(|opened| is_content(&opened, file, &self.relocation)) {
            // It was laid out with the catalog's permissions, so it was changed since.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            same => same,
        }
    }
}

fn joined(dir: &RelPath, name: &OwnedName) -> RelPath {
    let mut path = dir.clone();
    path.push(name.clone());
    path
}
