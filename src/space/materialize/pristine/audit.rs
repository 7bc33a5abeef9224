//! Checks every entry of a pristine tree for changes.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;

use super::{Pristine, TreeKind};
use crate::store::index::{FileNode, Index, Ino, Node, NodeKind};
use crate::store::{NameOf, RawStore, Store, Wanted};
use crate::sys::fs::at::{DirEntryKind, TreeDir};
use crate::sys::fs::name::{Name, OwnedName};

/// An entry that was changed.
#[derive(Debug, Clone)]
pub(in crate::space::materialize) struct Trouble {
    /// The entry; for an unknown entry, its directory.
    pub ino: Ino,
    /// Its path below the root.
    pub path: String,
}

/// Every changed entry, sorted by path.
pub(in crate::space::materialize) fn audit(
    pristine: &Pristine,
    index: &Index,
    content: &Store,
) -> Vec<Trouble> {
    if pristine.kind() == TreeKind::Subvolume {
        return changed_in_subvolume(pristine, index);
    }
    let is_intact = |node: &Node<'_>, file: &FileNode<'_>, dir: &TreeDir, name: Name<'_>| {
        let at = NameOf::Link(dir, name);
        let is_verified = |raw: &RawStore| raw.is_verified(&Wanted::of(file, node.mode), at);
        !pristine.has(node.ino) || content.raw().is_none_or(is_verified)
    };
    let mut found = visit(index, &pristine.root, &is_intact);
    found.retain(|trouble| pristine.has(trouble.ino));
    found
}

/// Every changed entry of a subvolume, sorted by path.
pub(super) fn changed_in_subvolume(pristine: &Pristine, index: &Index) -> Vec<Trouble> {
    visit(index, &pristine.root, &|node, file, dir, name| {
        dir.facts(name).is_ok_and(|facts| pristine.is_intact(node.ino, file, &facts))
    })
}

/// Given a file of the catalog, and the directory and name where it should be.
type Check<'a> = dyn Fn(&Node<'_>, &FileNode<'_>, &TreeDir, Name<'_>) -> bool + Sync + 'a;

/// Calls `check` for every file that the catalog has there. Returns entries that fail it, are missing, are of another kind or not in
/// the catalog.
pub(in crate::space::materialize) fn visit(index: &Index, root: &TreeDir, check: &Check<'_>) -> Vec<Trouble> {
    let visit = Visit { index, check, troubles: Mutex::default() };
    match root.reopen() {
        Ok(root) => rayon::scope(|scope| visit.dir(scope, root, Ino::ROOT)),
        Err(_) => visit.push(Ino::ROOT),
    }
    let mut troubles = visit.troubles.into_inner().unwrap_or_else(PoisonError::into_inner);
    troubles.sort_by(|one, other| one.path.cmp(&other.path));
    troubles
}

struct Visit<'a> {
    index: &'a Index,
    check: &'a Check<'a>,
    troubles: Mutex<Vec<Trouble>>,
}

impl Visit<'_> {
    fn push(&self, ino: Ino) {
        let path = self.index.path_of(ino).map(|path| path.to_string()).unwrap_or_default();
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Trouble { ino, path });
    }

    fn dir<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, ino: Ino) {
        let Ok(names) = dir.entry_names() else { return self.push(ino) };
        if names.iter().any(|name: &OwnedName| self.index.lookup(ino, name.as_name()).is_none()) {
            self.push(ino);
        }
        let dir = Arc::new(dir);
        for child in self.index.children(ino) {
            let Ok(name) = Name::new(child.name) else { continue };
            match child.kind {
                NodeKind::Dir { .. } => {
                    let parent = Arc::clone(&dir);
                    scope.spawn(move |scope| match parent.open_dir(name) {
                        Ok(inner) => self.dir(scope, inner, child.ino),
                        Err(_) => self.push(child.ino),
                    });
                }
                NodeKind::File(file) => {
                    if !(self.check)(&child, &file, &dir, name) {
                        self.push(child.ino);
                    }
                }
                NodeKind::Link { target } => {
                    let found = dir.find(name);
                    if !matches!(found, Ok(Some(DirEntryKind::Link(text))) if *text == *target) {
                        self.push(child.ino);
                    }
                }
            }
        }
    }
}
