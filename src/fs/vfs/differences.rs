//! How a space differs from its catalog, path by path.

use std::collections::{BTreeMap, HashSet};

use crate::space::Differs;
use crate::store::index::{Ino, NodeKind};
use crate::sys::fs::name::{OwnedName, RelPath};

use super::{Attr, Kind, Vfs, VfsError, attr};

/// One path that differs from the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the space.
    pub path: RelPath,
    /// The current kind of the path; for a removed path, the previous one.
    pub kind: Kind,
    /// How it differs.
    pub what: Differs,
}

/// A directory to compare: in the space, and in the catalog if it exists there.
struct Pair {
    path: RelPath,
    now: Ino,
    then: Option<Ino>,
}

impl Vfs {
    /// Every path that differs from the catalog, sorted.
    pub fn differences(&self) -> Result<Vec<Difference>, VfsError> {
        let mut found = Vec::new();
        let mut left = vec![Pair { path: RelPath::root(), now: Ino::ROOT, then: Some(Ino::ROOT) }];
        while let Some(pair) = left.pop() {
            self.compare_entries(&pair, &mut found, &mut left)?;
        }
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    fn compare_entries(
        &self,
        dir: &Pair,
        found: &mut Vec<Difference>,
        left: &mut Vec<Pair>,
    ) -> Result<(), VfsError> {
        let mut then = self.catalog_entries(dir.then)?;
        for (name, now) in self.entries_now(dir.now)? {
            let before = then.remove(&name);
            let mut path = dir.path.clone();
            path.push(name);
            if let Some(what) = self.compare(&now, before.as_ref())? {
                found.push(Difference { path: path.clone(), kind: now.kind, what });
            }
            if now.kind == Kind::Dir {
                let then = before.filter(|before| before.kind == Kind::Dir).map(|before| before.ino);
                left.push(Pair { path, now: now.ino, then });
            }
        }
        found.extend(then.into_iter().map(|(name, before)| {
            let mut path = dir.path.clone();
            path.push(name);
            Difference { path, kind: before.kind, what: Differs::Removed }
        }));
        Ok(())
    }

    fn compare(&self, now: &Attr, before: Option<&Attr>) -> Result<Option<Differs>, VfsError> {
        let Some(before) = before else { return Ok(Some(Differs::Added)) };
        let same_content = now.kind == before.kind
            && match now.kind {
                Kind::Dir => true,
                Kind::Link => self.readlink(now.ino)? == self.readlink(before.ino)?,
                // Another catalog inode may have the same content; reporting a change then does no harm.
                _ => now.ino == before.ino && !self.written().is_some_and(|upper| upper.has_bytes(now.ino)),
            };
        let same_owner = (now.mode, now.uid, now.gid) == (before.mode, before.uid, before.gid);
        Ok(match (same_content, same_owner) {
            (false, _) => Some(Differs::Changed),
            (true, false) => Some(Differs::Mode),
            (true, true) => None,
        })
    }

    fn catalog_entries(&self, dir: Option<Ino>) -> Result<BTreeMap<OwnedName, Attr>, VfsError> {
        let children = dir.into_iter().flat_map(|dir| self.index.children(dir));
        children.map(|node| Ok((OwnedName::new(node.name)?, attr::catalog_attr(&node, &self.view)))).collect()
    }

    /// The current entries of a directory.
    pub fn entries_now(&self, dir: Ino) -> Result<Vec<(OwnedName, Attr)>, VfsError> {
        let mut names = Vec::new();
        self.list(dir, super::listing::AFTER_DOTS, false, &mut names)?;
        let named = names.into_iter().map(|(name, ..)| {
            let name = OwnedName::new(&name)?;
            let ino = self.child(dir, name.as_name()).ok_or(VfsError::NoEntry)?;
            Ok((name, self.getattr(ino)?))
        });
        named.collect()
    }

    /// Resets `path` and everything below it to the catalog's state; paths that the catalog does not have are removed. Only for a
    /// space without a server. This `Vfs` must not be used afterwards, because its state in memory is outdated.
    pub fn reset(&self, path: &RelPath) -> Result<(), VfsError> {
        let Some((name, parents)) = path.names().split_last() else { return Err(VfsError::NoEntry) };
        let (mut dir, mut then) = (Ino::ROOT, Some(Ino::ROOT));
        for parent in parents {
            dir = self.child(dir, parent.as_name()).ok_or(VfsError::NoEntry)?;
            then = then.and_then(|then| self.index.lookup(then, parent.as_name()));
        }
        let before = then.and_then(|then| self.index.lookup(then, name.as_name()));
        if before.is_some() && then != Some(dir) {
            return Err(VfsError::Invalid("The directory is not the catalog's any more: reset that one"));
        }
        let below = before.map(|ino| self.catalog_below(ino)).unwrap_or_default();
        self.refuse_elsewhere(path, &below)?;
        self.remove_all(dir, name)?;
        match before {
            Some(ino) => self.give_back(dir, name, ino, &below),
            None => Ok(()),
        }
    }

    /// The catalog's inodes at and below `ino`.
    fn catalog_below(&self, ino: Ino) -> Vec<Ino> {
        let (mut found, mut next) = (vec![ino], 0);
        while let Some(&dir) = found.get(next) {
            found.extend(self.index.child_range(dir).map(Ino));
            next += 1;
        }
        found
    }

    /// Fails if one of `inos` was moved out of `path`: it cannot be in both places.
    fn refuse_elsewhere(&self, path: &RelPath, inos: &[Ino]) -> Result<(), VfsError> {
        let inos: HashSet<Ino> = inos.iter().copied().collect();
        let mut left = vec![(RelPath::root(), Ino::ROOT)];
        while let Some((dir_path, dir)) = left.pop() {
            for (name, attr) in self.entries_now(dir)? {
                let mut below = dir_path.clone();
                below.push(name);
                if below == *path {
                    continue;
                }
                if inos.contains(&attr.ino) {
                    return Err(VfsError::Invalid(
                        "Something of it was moved or linked elsewhere: remove that first",
                    ));
                }
                if attr.kind == Kind::Dir {
                    left.push((below, attr.ino));
                }
            }
        }
        Ok(())
    }

    fn remove_all(&self, dir: Ino, name: &OwnedName) -> Result<(), VfsError> {
        let Some(ino) = self.child(dir, name.as_name()) else { return Ok(()) };
        let (mut dirs, mut next) = (vec![(dir, name.clone(), ino)], 0);
        if self.getattr(ino)?.kind != Kind::Dir {
            return self.unlink(dir, name.as_bytes());
        }
        while let Some(&(_, _, dir)) = dirs.get(next) {
            for (name, attr) in self.entries_now(dir)? {
                match attr.kind {
                    Kind::Dir => dirs.push((dir, name, attr.ino)),
                    _ => self.unlink(dir, name.as_bytes())?,
                }
            }
            next += 1;
        }
        dirs.iter().rev().try_for_each(|(dir, name, _)| self.rmdir(*dir, name.as_bytes()))
    }

    /// Resets a name to the catalog's entry, and drops all changes of the inodes below it.
    fn give_back(&self, dir: Ino, name: &OwnedName, ino: Ino, below: &[Ino]) -> Result<(), VfsError> {
        let mut change = self.change(&[dir])?; // no other thread uses it
        for &ino in below {
            if let Some(mut inode) = change.tx.inode(ino) {
                inode.nlink = 0; // without names, its row is removed
                change.tx.put(ino, inode);
            }
            change.tx.clear(ino);
        }
        let is_dir = matches!(self.node(ino)?.kind, NodeKind::Dir { .. });
        change.tx.unlink(dir, name.as_name(), false);
        change.touch(dir, i32::from(is_dir))?;
        change.commit(None)
    }
}
