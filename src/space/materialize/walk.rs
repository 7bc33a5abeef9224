//! Determines what a space needs: reads all its directories, in parallel, and plans each.
//!
//! Nothing is changed, and only directories that need changes are kept. A failure to read is an error of that entry alone.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;

use super::listed::Listed;
use super::plan::{DirPlan, Rules};
use super::report::{Errors, FileErrorKind};
use crate::store::index::{Index, Ino};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::{Name, OwnedName, RelPath};

/// The changes that the whole tree needs.
#[derive(Debug, Default)]
pub struct Plan {
    /// The directories that need changes.
    pub dirs: Vec<(Ino, DirPlan)>,
    /// Files and links that are right.
    pub kept: u64,
    /// Directories that were not listed, because their entries have not changed.
    pub unlisted: u64,
}

impl Plan {
    /// True if the space needs no changes.
    pub fn is_idle(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Drops all changes outside of `paths`, unless that is empty. Changes needed to create one of them, or to make room for it, stay.
    pub fn restrict(&mut self, index: &Index, paths: &[RelPath]) {
        if paths.is_empty() {
            return;
        }
        for (dir, plan) in &mut self.dirs {
            let Some(at) = index.path_of(*dir) else { continue };
            let at = at.names();
            let below = |name: &[u8]| paths.iter().any(|path| covers(path.names(), at, name));
            let above = |name: &[u8]| paths.iter().any(|path| leads_to(at, name, path.names()));
            let named = |ino: Ino| index.node(ino).map(|node| node.name.to_vec()).unwrap_or_default();
            let is_known = |name: &OwnedName| index.lookup(*dir, name.as_name()).is_some();
            plan.place.retain(|&ino| below(&named(ino)));
            plan.verify.retain(|&ino| below(&named(ino)));
            plan.make.retain(|&ino| below(&named(ino)) || above(&named(ino)));
            plan.remove.retain(|name| below(name.as_bytes()) || (is_known(name) && above(name.as_bytes())));
        }
        self.dirs.retain(|(_, plan)| !plan.is_idle());
    }
}

/// True if `path` is the entry `name` of the directory `dir`, or above it.
fn covers(path: &[OwnedName], dir: &[OwnedName], name: &[u8]) -> bool {
    match path.split_last() {
        Some((last, parents)) if parents.len() == dir.len() => parents == dir && last.as_bytes() == name,
        _ => dir.starts_with(path),
    }
}

/// True if `path` is below the entry `name` of the directory `dir`.
fn leads_to(dir: &[OwnedName], name: &[u8], path: &[OwnedName]) -> bool {
    path.starts_with(dir) && path.get(dir.len()).is_some_and(|next| next.as_bytes() == name)
}

/// Reads and plans everything below `root`, the open root of the space; directories known to `listed` are not listed again.
pub(super) fn walk(rules: &Rules<'_>, root: TreeDir, errors: &Errors<'_>, listed: Option<&Listed>) -> Plan {
    let (kept, unlisted) = (AtomicU64::new(0), AtomicU64::new(0));
    let walk = Walk { rules, errors, listed, dirs: Mutex::default(), kept, unlisted };
    let old_root = rules.old.map(|_| Ino::ROOT);
    rayon::scope(|scope| walk.visit(scope, root, Ino::ROOT, old_root));
    let mut dirs = walk.dirs.into_inner().unwrap_or_else(PoisonError::into_inner);
    dirs.sort_unstable_by_key(|(dir, _)| *dir);
    Plan { dirs, kept: walk.kept.into_inner(), unlisted: walk.unlisted.into_inner() }
}

struct Walk<'a> {
    rules: &'a Rules<'a>,
    errors: &'a Errors<'a>,
    listed: Option<&'a Listed>,
    dirs: Mutex<Vec<(Ino, DirPlan)>>,
    kept: AtomicU64,
    unlisted: AtomicU64,
}

impl Walk<'_> {
    fn visit<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, ino: Ino, old: Option<Ino>) {
        let mut plan = match self.plan(&dir, ino, old) {
            Ok(plan) => plan,
            Err(error) => return self.failed(ino, "Reading", &error),
        };
        self.kept.fetch_add(plan.kept, Ordering::Relaxed);
        let dir = Arc::new(dir);
        for (child, old) in std::mem::take(&mut plan.descend) {
            // Opened by the task and not here: a directory can have more children than the limit of descriptors.
            let parent = Arc::clone(&dir);
            scope.spawn(move |scope| match self.open(&parent, child) {
                Ok(inner) => {
                    drop(parent);
                    self.visit(scope, inner, child, old);
                }
                Err(error) => self.failed(child, "Opening", &error),
            });
        }
        if !plan.is_idle() {
            self.dirs.lock().unwrap_or_else(PoisonError::into_inner).push((ino, plan));
        }
    }

    fn plan(&self, dir: &TreeDir, ino: Ino, old: Option<Ino>) -> io::Result<DirPlan> {
        let Some(listed) = self.listed else { return Ok(self.rules.plan(ino, old, &dir.entries()?)) };
        let state = dir.state()?;
        // If the last materialize laid out another catalog there, every file must be compared with that catalog.
        if self.rules.old.is_none()
            && listed.is_known(ino, &state)
            && let Some(plan) = self.rules.plan_known(ino, |name| dir.find(name))
        {
            self.unlisted.fetch_add(1, Ordering::Relaxed);
            return Ok(plan);
        }
        let plan = self.rules.plan(ino, old, &dir.entries()?);
        if plan.is_idle() {
            listed.note(ino, &state);
        }
        Ok(plan)
    }

    fn open(&self, dir: &TreeDir, child: Ino) -> io::Result<TreeDir> {
        let node = self.rules.index.node(child).ok_or(io::ErrorKind::NotFound)?;
        dir.open_dir(Name::new(node.name).map_err(io::Error::other)?)
    }

    fn failed(&self, ino: Ino, doing: &str, error: &io::Error) {
        self.errors.push(ino, FileErrorKind::Io, format!("{doing} the directory failed: {error}"));
    }
}
