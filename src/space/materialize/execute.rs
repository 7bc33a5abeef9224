//! Executes a plan, in parallel: removes, creates, replaces, and verifies content.
//!
//! A new tree, be it the whole space or one directory of it, is built under a temporary name and renamed once. All work is relative to
//! directory descriptors: each directory is opened from its parent without following links.

use std::io;
use std::sync::Arc;

use rayon::Scope;

use super::content_check::is_content;
use super::place::{Placer, may_be_own};
use super::plan::DirPlan;
use super::trash::Trash;
use crate::store::index::{Ino, Node, NodeKind};
use crate::store::observe::Counter;
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::{Name, OwnedName};

/// Entries that one task places: enough to make the cost of a task negligible.
const BATCH: usize = 32;
/// A task is also large enough with this many bytes, so that large files are spread over all threads.
const BATCH_BYTES: u64 = 1 << 20;
/// On Windows, a link is created either as one to a file or as one to a directory, depending on its target at that time. So all
/// directories of a new tree are created first, and a repair places links after everything else that it creates.
const LINKS_LAST: bool = cfg!(windows);

impl Placer<'_> {
    /// Creates everything below the directory `ino` in `dir`, which is new and empty.
    pub fn populate(&self, dir: TreeDir, ino: Ino) {
        let from = self.pristine_dir(ino);
        let again = LINKS_LAST.then(|| dir.reopen());
        rayon::scope(|scope| self.fill_dir(scope, dir, from, ino));
        match again {
            Some(Ok(dir)) => self.place_links(&dir, ino),
            Some(Err(error)) => self.report_io(ino, "Opening the directory", error),
            None => {}
        }
    }

    /// Creates the links in the directory `ino` and below, where all directories exist already.
    fn place_links(&self, dir: &TreeDir, ino: Ino) {
        for child in self.rules.index.children(ino) {
            match child.kind {
                NodeKind::Link { .. } => self.place_new(dir, None, child.ino),
                NodeKind::Dir { .. } if !self.errors.is_stopped() => {
                    match self.name(child.ino).and_then(|name| dir.open_dir(name.as_name())) {
                        Ok(inner) => self.place_links(&inner, child.ino),
                        Err(error) => self.report_io(child.ino, "Opening the directory", error),
                    }
                }
                NodeKind::Dir { .. } | NodeKind::File(_) => {}
            }
        }
    }

    /// The pristine tree's directory `ino`.
    fn pristine_dir(&self, ino: Ino) -> Option<TreeDir> {
        let root = &self.pristine?.root;
        self.open_from(root, ino).ok()
    }

    fn fill_dir<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, from: Option<TreeDir>, ino: Ino) {
        let dir = Arc::new((dir, from));
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for child in self.rules.index.children(ino) {
            match child.kind {
                NodeKind::Dir { .. } => {
                    let parent = Arc::clone(&dir);
                    scope.spawn(move |scope| self.make_dir(scope, &parent, child.ino));
                }
                NodeKind::File(file) => {
                    batch.push(child.ino);
                    bytes += file.size;
                }
                NodeKind::Link { .. } if LINKS_LAST => {}
                NodeKind::Link { .. } => batch.push(child.ino),
            }
            if batch.len() == BATCH || bytes >= BATCH_BYTES {
                bytes = 0;
                let (dir, batch) = (Arc::clone(&dir), std::mem::take(&mut batch));
                scope.spawn(move |_| {
                    batch.iter().for_each(|&ino| self.place_new(&dir.0, dir.1.as_ref(), ino))
                });
            }
        }
        batch.iter().for_each(|&ino| self.place_new(&dir.0, dir.1.as_ref(), ino));
    }

    fn make_dir<'s>(&'s self, scope: &Scope<'s>, parent: &(TreeDir, Option<TreeDir>), ino: Ino) {
        if self.errors.is_stopped() {
            return;
        }
        let made = self.name(ino).and_then(|name| {
            let from = parent.1.as_ref().and_then(|from| from.open_dir(name.as_name()).ok());
            Ok((parent.0.make_dir(name.as_name())?, from))
        });
        match made {
            Ok((dir, from)) => {
                self.observer.count(Counter::Directories, 1);
                self.fill_dir(scope, dir, from, ino);
            }
            Err(error) => self.report_io(ino, "Creating the directory", error),
        }
    }

    /// Applies to a snapshot of the pristine tree what differs between spaces: labels, and mode bits that no pristine file has.
    pub fn patch(&self, root: &TreeDir) {
        use rayon::prelude::*;
        self.rules.index.nodes().for_each(|node| self.count_snapshotted(&node));
        self.by_dir(|node| self.is_own(node)).par_iter().for_each(|(parent, own)| {
            let path = self.rules.index.path_of(*parent).unwrap_or_default().to_path();
            for &ino in own {
                // A file that cannot be patched is created again, which also reports any problem.
                if !self.patch_file(root, &path, ino) {
                    match self.open_from(root, *parent) {
                        Ok(dir) => self.replace(&dir, None, ino),
                        Err(error) => self.report_io(*parent, "Opening the directory", error),
                    }
                }
            }
        });
    }

    /// Creates the whole catalog in `root`, which is new and empty, in the order that suits [`Placer::patch`]: all directories, then
    /// all files that a space may have to modify, then the rest. btrfs orders its metadata of files by inode number, assigned at
    /// creation: so the files that a patch writes to are adjacent, in few of the blocks that a snapshot shares. Each such block is
    /// copied at the first write to it, and everything in it gets one more reference.
    pub fn populate_to_patch(&self, root: &TreeDir) {
        use rayon::prelude::*;
        match root.reopen() {
            Ok(root) => rayon::scope(|scope| self.make_dirs(scope, root, Ino::ROOT)),
            Err(error) => return self.report_io(Ino::ROOT, "Opening the directory", error),
        }
        for is_own in [true, false] {
            let wanted = |node: &Node<'_>| !is_dir(node) && may_be_own(node) == is_own;
            self.by_dir(wanted).par_iter().for_each(|(parent, batch)| match self.open_from(root, *parent) {
                Ok(dir) => batch.iter().for_each(|&ino| self.place_new(&dir, None, ino)),
                Err(error) => self.report_io(*parent, "Opening the directory", error),
            });
        }
    }

    fn make_dirs<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, ino: Ino) {
        let dir = Arc::new(dir);
        for child in self.rules.index.children(ino).filter(is_dir) {
            let parent = Arc::clone(&dir);
            scope.spawn(move |scope| {
                match self.name(child.ino).and_then(|name| parent.make_dir(name.as_name())) {
                    Ok(made) => self.make_dirs(scope, made, child.ino),
                    Err(error) => self.report_io(child.ino, "Creating the directory", error),
                }
            });
        }
    }

    /// The entries that are `wanted`, in batches of one directory each.
    fn by_dir(&self, wanted: impl Fn(&Node<'_>) -> bool) -> Vec<(Ino, Vec<Ino>)> {
        let (mut batches, mut bytes): (Vec<(Ino, Vec<Ino>)>, _) = (Vec::new(), 0);
        for node in self.rules.index.nodes().filter(wanted) {
            match batches.last_mut() {
                // Children of one directory are adjacent.
                Some((parent, batch))
                    if *parent == node.parent && batch.len() < BATCH && bytes < BATCH_BYTES =>
                {
                    batch.push(node.ino);
                }
                _ => {
                    batches.push((node.parent, vec![node.ino]));
                    bytes = 0;
                }
            }
            bytes += if let NodeKind::File(file) = node.kind { file.size } else { 0 };
        }
        batches
    }

    /// Repairs the directories of an existing space. Directories to remove are put into the trash, if there is one.
    pub fn repair(&self, root: &TreeDir, mut dirs: Vec<(Ino, DirPlan)>, trash: Option<&Trash>) {
        let links = if LINKS_LAST { self.take_links(&mut dirs) } else { Vec::new() };
        rayon::scope(|scope| {
            for (ino, plan) in dirs {
                scope.spawn(move |scope| self.repair_dir(scope, root, ino, &plan, trash));
            }
        });
        for (ino, links) in links {
            match self.open_from(root, ino) {
                Ok(dir) => links.iter().for_each(|&link| self.replace(&dir, None, link)),
                Err(error) => self.report_io(ino, "Opening the directory", error),
            }
        }
    }

    /// Removes the links from what the plans would place, and returns them.
    fn take_links(&self, dirs: &mut [(Ino, DirPlan)]) -> Vec<(Ino, Vec<Ino>)> {
        let is_link = |ino: Ino| {
            self.rules.index.node(ino).is_some_and(|node| matches!(node.kind, NodeKind::Link { .. }))
        };
        let take = |(dir, plan): &mut (Ino, DirPlan)| {
            let (links, rest) = std::mem::take(&mut plan.place).into_iter().partition(|&ino| is_link(ino));
            plan.place = rest;
            (*dir, links)
        };
        dirs.iter_mut().map(take).filter(|(_, links): &(Ino, Vec<Ino>)| !links.is_empty()).collect()
    }

    fn repair_dir<'s>(
        &'s self,
        scope: &Scope<'s>,
        root: &TreeDir,
        ino: Ino,
        plan: &DirPlan,
        trash: Option<&Trash>,
    ) {
        if self.errors.is_stopped() {
            return;
        }
        let dir = match self.open_from(root, ino) {
            Ok(dir) => Arc::new(dir),
            Err(error) => return self.report_io(ino, "Opening the directory", error),
        };
        self.remove_all(&dir, ino, &plan.remove, trash);
        let from = if plan.place.is_empty() { None } else { self.pristine_dir(ino) };
        let from = Arc::new(from);
        for &child in &plan.make {
            let dir = Arc::clone(&dir);
            scope.spawn(move |_| self.make_tree(&dir, child));
        }
        for batch in plan.place.chunks(BATCH) {
            let (dir, from, batch) = (Arc::clone(&dir), Arc::clone(&from), batch.to_vec());
            scope.spawn(move |_| {
                batch.iter().for_each(|&ino| self.replace(&dir, from.as_ref().as_ref(), ino))
            });
        }
        for batch in plan.verify.chunks(BATCH) {
            let (dir, batch) = (Arc::clone(&dir), batch.to_vec());
            scope.spawn(move |_| batch.iter().for_each(|&ino| self.verify(&dir, ino)));
        }
    }

    /// Removes entries that are not in the catalog. Everything is gone when this returns: new entries may have the same names.
    fn remove_all(&self, dir: &TreeDir, ino: Ino, names: &[OwnedName], trash: Option<&Trash>) {
        use rayon::prelude::*;
        names.par_iter().for_each(|name| match self.take_away(dir, name.as_name(), trash) {
            Ok(removed) => self.observer.count(Counter::Removed, removed.into()),
            Err(error) => self.report_io(ino, "Removing what the catalog does not know from it", error),
        });
    }

    /// Removes an entry from `dir`; true if it existed.
    fn take_away(&self, dir: &TreeDir, name: Name<'_>, trash: Option<&Trash>) -> io::Result<bool> {
        let Some(trash) = trash else { return dir.remove(name) };
        if let Some(removed) = dir.remove_plain(name)? {
            return Ok(removed);
        }
        match trash.take(dir, name) {
            Ok(()) => {
                self.observer.count(Counter::SetAside, 1);
                Ok(true)
            }
            Err(error) => {
                self.observer.fallback("set_aside", &format!("{error}; directories are emptied in place"));
                dir.remove(name)
            }
        }
    }

    /// Builds a directory under a temporary name and renames it into place.
    fn make_tree(&self, parent: &TreeDir, ino: Ino) {
        let built = self.name(ino).and_then(|name| {
            let part = self.names.next()?;
            let dir = parent.make_dir(part.as_name())?;
            self.observer.count(Counter::Directories, 1);
            self.populate(dir, ino);
            parent.rename_new(part.as_name(), name.as_name())
        });
        if let Err(error) = built {
            self.report_io(ino, "Creating the directory", error);
        }
    }

    /// Reads a file that looks right, and replaces it if it is not.
    fn verify(&self, dir: &TreeDir, ino: Ino) {
        let Some(node) = self.rules.index.node(ino) else { return };
        let (NodeKind::File(file), Ok(name)) = (node.kind, Name::new(node.name)) else { return };
        match dir.open_file(name).and_then(|found| is_content(&found, &file, &self.relocation)) {
            Ok(true) => {
                self.observer.count(Counter::Kept, 1);
                self.observer.advance(1);
            }
            // A file that cannot be read is replaced as well.
            Ok(false) | Err(_) => self.replace(dir, None, ino),
        }
    }

    /// Opens the directory `ino`, one component at a time from the root.
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

fn is_dir(node: &Node<'_>) -> bool {
    matches!(node.kind, NodeKind::Dir { .. })
}
