//! Carries out a plan, in parallel: removes, makes, replaces, looks at contents.
//!
//! A new tree, be it the whole space or one directory of it, is built under a name of its own and renamed once. All work is
//! relative to directory descriptors: each directory is opened from its parent without following links.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rayon::Scope;

use super::place::Placer;
use super::plan::DirPlan;
use crate::digest::Hasher;
use crate::name::{Name, OwnedName};
use crate::observe::Counter;
use crate::relocate::Relocation;
use crate::sys::at::TreeDir;
use crate::tree::{FileNode, Ino, NodeKind};

/// Entries that one task places: large enough that a task costs nothing beside it.
const BATCH: usize = 32;

impl Placer<'_> {
    /// Makes all that is below the directory `ino` in `dir`, which is new and empty.
    pub fn populate(&self, dir: TreeDir, ino: Ino) {
        rayon::scope(|scope| self.fill_dir(scope, dir, ino));
    }

    fn fill_dir<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, ino: Ino) {
        let dir = Arc::new(dir);
        let mut batch = Vec::new();
        for child in self.rules.index.children(ino) {
            match child.kind {
                NodeKind::Dir { .. } => {
                    let parent = Arc::clone(&dir);
                    scope.spawn(move |scope| self.make_dir(scope, &parent, child.ino));
                }
                NodeKind::File(_) | NodeKind::Link { .. } => batch.push(child.ino),
            }
            if batch.len() == BATCH {
                let (dir, batch) = (Arc::clone(&dir), std::mem::take(&mut batch));
                scope.spawn(move |_| batch.iter().for_each(|&ino| self.place_new(&dir, ino)));
            }
        }
        batch.iter().for_each(|&ino| self.place_new(&dir, ino));
    }

    fn make_dir<'s>(&'s self, scope: &Scope<'s>, parent: &TreeDir, ino: Ino) {
        if self.errors.is_stopped() {
            return;
        }
        match self.name(ino).and_then(|name| parent.make_dir(name.as_name())) {
            Ok(dir) => {
                self.observer.count(Counter::Directories, 1);
                self.fill_dir(scope, dir, ino);
            }
            Err(error) => self.report_io(ino, "Making the directory", error),
        }
    }

    /// Brings the directories of a space that is there into order.
    pub fn repair(&self, root: &TreeDir, dirs: Vec<(Ino, DirPlan)>) {
        rayon::scope(|scope| {
            for (ino, plan) in dirs {
                scope.spawn(move |scope| self.repair_dir(scope, root, ino, &plan));
            }
        });
    }

    fn repair_dir<'s>(&'s self, scope: &Scope<'s>, root: &TreeDir, ino: Ino, plan: &DirPlan) {
        if self.errors.is_stopped() {
            return;
        }
        let dir = match self.open_from(root, ino) {
            Ok(dir) => Arc::new(dir),
            Err(error) => return self.report_io(ino, "Opening the directory", error),
        };
        for name in &plan.remove {
            match dir.remove(name.as_name()) {
                Ok(removed) => self.observer.count(Counter::Removed, removed.into()),
                Err(error) => self.report_io(ino, "Removing what the catalog does not know from it", error),
            }
        }
        for &child in &plan.make {
            let dir = Arc::clone(&dir);
            scope.spawn(move |_| self.make_tree(&dir, child));
        }
        for batch in plan.place.chunks(BATCH) {
            let (dir, batch) = (Arc::clone(&dir), batch.to_vec());
            scope.spawn(move |_| batch.iter().for_each(|&ino| self.replace(&dir, ino)));
        }
        for batch in plan.verify.chunks(BATCH) {
            let (dir, batch) = (Arc::clone(&dir), batch.to_vec());
            scope.spawn(move |_| batch.iter().for_each(|&ino| self.verify(&dir, ino)));
        }
    }

    /// Builds a directory beside its place and renames it there.
    fn make_tree(&self, parent: &TreeDir, ino: Ino) {
        let built = self.name(ino).and_then(|name| {
            let part = self.names.next()?;
            let dir = parent.make_dir(part.as_name())?;
            self.observer.count(Counter::Directories, 1);
            self.populate(dir, ino);
            parent.rename_new(part.as_name(), name.as_name())
        });
        if let Err(error) = built {
            self.report_io(ino, "Making the directory", error);
        }
    }

    /// Reads a file that seems right, and replaces it if it is not.
    fn verify(&self, dir: &TreeDir, ino: Ino) {
        let Some(node) = self.rules.index.node(ino) else { return };
        let (NodeKind::File(file), Ok(name)) = (node.kind, Name::new(node.name)) else { return };
        match dir.open_file(name).and_then(|found| self.is_content(&found, &file)) {
            Ok(true) => {
                self.observer.count(Counter::Kept, 1);
                self.observer.advance(1);
            }
            // What cannot be read is replaced as well.
            Ok(false) | Err(_) => self.replace(dir, ino),
        }
    }

    /// True if a placed file has the catalog's content with this space's label in it.
    fn is_content(&self, found: &File, file: &FileNode<'_>) -> io::Result<bool> {
        let Relocation { identity, label } = self.relocation;
        let back = Relocation { identity: label, label: identity };
        let offsets = || file.rewrite.iter();
        if back.check(|buffer, offset| found.read_at(buffer, offset), offsets()).is_err() {
            return Ok(false);
        }
        let mut hasher = Hasher::new(file.digest.regime());
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        loop {
            let count = found.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(hasher.finish() == file.digest);
            }
            let range = at.saturating_sub(label.len() as u64)..at + count as u64;
            back.patch(&mut buffer[..count], at, file.rewrite.in_range(range));
            hasher.update(&buffer[..count]);
            at += count as u64;
        }
    }

    /// Opens the directory `ino`, one name after the other from the root.
    fn open_from(&self, root: &TreeDir, ino: Ino) -> io::Result<TreeDir> {
        let path = self.rules.index.path_of(ino).ok_or(io::ErrorKind::NotFound)?;
        let mut dir = root.reopen()?;
        for name in path.names() {
            dir = dir.open_dir(name.as_name())?;
        }
        Ok(dir)
    }

    fn name(&self, ino: Ino) -> io::Result<OwnedName> {
        let node = self.rules.index.node(ino).ok_or(io::ErrorKind::NotFound)?;
        OwnedName::new(node.name).map_err(io::Error::other)
    }
}
