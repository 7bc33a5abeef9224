//! Creates a pristine tree: under a temporary name and a lock, then renamed, then stamped.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;

use super::place::{Placer, TempNames};
use super::plan::Rules;
use super::pristine::{self, Bounds, Places, Pristine, Stamp, TreeKind, is_shareable};
use super::report::Errors;
use super::tier::{FallbackChain, Tier};
use crate::error::chain;
use crate::store::index::{Index, Ino, NodeKind};
use crate::store::observe::{Counter, Observer};
use crate::store::relocate::Relocation;
use crate::store::{Limits, Store, Wanted};
use crate::sys::fs::at::{self, TreeDir};
use crate::sys::fs::btrfs;
use crate::sys::fs::lock;
use crate::sys::fs::name::{Name, OwnedName};

/// The inputs of a pristine tree.
#[derive(Clone, Copy)]
pub(super) struct Build<'a> {
    pub places: &'a Places,
    pub index: &'a Index,
    pub content: &'a Store,
    pub observer: &'a dyn Observer,
}

/// What the stamp has to know of the files of a new tree.
struct Built {
    inodes: Vec<u64>,
    newest: (i64, u64),
}

/// Entries that one task links.
const BATCH: usize = 32;

/// Creates the tree, replacing an existing one. `WouldBlock` if another process is creating it.
pub(super) fn make_pristine(make: Build<'_>) -> io::Result<Pristine> {
    let Build { places, index, .. } = make;
    let dir = places.open_dir()?;
    let lock = lock::open_own(&places.path(".lock"))?;
    lock.try_lock().map_err(io::Error::from)?;
    let (temp, name) = (places.name(".tmp")?, places.name("")?);
    for old in [places.name(".stamp")?, name.clone(), temp.clone()] {
        dir.remove(old.as_name())?;
    }
    let kind = match btrfs::create(&dir, temp.as_name()) {
        Ok(()) => TreeKind::Subvolume,
        Err(error) => {
            log::debug!("The pristine tree is a directory: {error}");
            TreeKind::Directory
        }
    };
    let built = match kind {
        TreeKind::Subvolume => make.fill_subvolume(dir.open_dir(temp.as_name())?),
        TreeKind::Directory => make.fill_directory(dir.make_dir(temp.as_name())?),
    };
    let Built { inodes, newest } = match built {
        Ok(built) => built,
        Err(error) => {
            dir.remove(temp.as_name())?;
            return Err(error);
        }
    };
    dir.rename_new(temp.as_name(), name.as_name())?;
    let root = dir.open_dir(name.as_name())?;
    let state = (kind == TreeKind::Subvolume).then(|| btrfs::state(&root)).transpose()?;
    let stamp = Stamp { kind, umask: at::umask(), state, newest, inodes };
    stamp.publish(&places.path(".stamp"), index)?;
    make.observer.count(Counter::PristineMade, 1);
    make_room(make);
    Ok(Pristine { root, stamp })
}

/// Limits all trees together to the size limit of the raw store: if they are links into it, files evicted from the store stay on
/// disk in them.
fn make_room(make: Build<'_>) {
    let bounds = Bounds { bytes: Limits::default().raw_bytes, unused: None, dry_run: false };
    match pristine::trim(&make.places.dir, bounds, Some(&make.index.id())) {
        Ok(gone) => make.observer.count(Counter::PristineDropped, gone.len() as u64),
        Err(error) => log::warn!("Older pristine trees in {} stay: {error}", make.places.dir.display()),
    }
}

impl Build<'_> {
    /// Creates everything, as in a space whose label is the recorded identity: nothing is patched, but every offset is checked.
    fn fill_subvolume(self, root: TreeDir) -> io::Result<Built> {
        let index = self.index;
        let umask = at::umask();
        root.set_dir_mode(at::DIR_MODE & !umask.unwrap_or(0o022))?;
        let rules = Rules { index, old: None, dropped_mode: 0o7000, verify: false };
        let errors = Errors::new(index);
        let silent = crate::store::observe::Tally::new();
        let placer = Placer {
            rules: &rules,
            content: self.content,
            relocation: Relocation { identity: index.identity(), label: index.identity() },
            chain: FallbackChain::at(Tier::Reflink, &silent),
            errors: &errors,
            observer: &silent,
            umask,
            names: TempNames::new(),
            pristine: None,
            has_raw: true,
        };
        placer.populate_to_patch(&root);
        if let Some(first) = errors.take().first() {
            return Err(io::Error::other(first.to_string()));
        }
        // Until its data is on disk, writing it back would count as a change.
        at::sync_file_system(&root)?;
        self.number(&root)
    }

    /// The inode number of every file, and the newest change time.
    fn number(self, root: &TreeDir) -> io::Result<Built> {
        let (numbers, newest) = (Numbers::new(self.index), Mutex::new((0, 0)));
        let failed = pristine::visit(self.index, root, &|node, _, dir, name| {
            let Ok(facts) = dir.facts(name) else { return false };
            numbers.set(node.ino, facts.id.1);
            let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
            *newest = facts.changed.max(*newest);
            true
        });
        let newest = newest.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failed.first() {
            None => Ok(Built { inodes: numbers.take(), newest }),
            Some(trouble) => {
                Err(io::Error::other(format!("{} has changed since it was created", trouble.path)))
            }
        }
    }

    /// Links into the raw store, for files that are the same in every space.
    fn fill_directory(self, root: TreeDir) -> io::Result<Built> {
        let numbers = Numbers::new(self.index);
        let failure = Mutex::new(None);
        let linker = Linker { make: self, numbers: &numbers, failure: &failure };
        rayon::scope(|scope| linker.fill(scope, root, Ino::ROOT));
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Built { inodes: numbers.take(), newest: (0, 0) }),
        }
    }
}

/// Inode numbers, collected by several threads.
struct Numbers(Vec<AtomicU64>);

impl Numbers {
    fn new(index: &Index) -> Numbers {
        Numbers((0..index.len()).map(|_| AtomicU64::new(0)).collect())
    }

    fn set(&self, ino: Ino, inode: u64) {
        let position = usize::try_from(ino.0.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(number) = self.0.get(position) {
            number.store(inode, Ordering::Relaxed);
        }
    }

    fn take(self) -> Vec<u64> {
        self.0.into_iter().map(AtomicU64::into_inner).collect()
    }
}

struct Linker<'a> {
    make: Build<'a>,
    numbers: &'a Numbers,
    failure: &'a Mutex<Option<io::Error>>,
}

impl Linker<'_> {
    fn fill<'s>(&'s self, scope: &Scope<'s>, dir: TreeDir, ino: Ino) {
        let dir = Arc::new(dir);
        let mut batch = Vec::new();
        for child in self.make.index.children(ino) {
            match child.kind {
                NodeKind::Dir { .. } => {
                    let parent = Arc::clone(&dir);
                    scope.spawn(move |scope| match make_dir(&parent, child.name) {
                        Ok(dir) => self.fill(scope, dir, child.ino),
                        Err(error) => self.fail(error),
                    });
                }
                NodeKind::File(file) if is_shareable(&file, child.mode) => batch.push(child.ino),
                NodeKind::File(_) | NodeKind::Link { .. } => {}
            }
            if batch.len() == BATCH {
                let (dir, batch) = (Arc::clone(&dir), std::mem::take(&mut batch));
                scope.spawn(move |_| batch.iter().for_each(|&ino| self.link(&dir, ino)));
            }
        }
        batch.iter().for_each(|&ino| self.link(&dir, ino));
    }

    /// Files that cannot be linked are left out, and come from the store later; only errors of the tree itself make this fail.
    fn link(&self, dir: &TreeDir, ino: Ino) {
        if self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let Some(node) = self.make.index.node(ino) else { return };
        let (NodeKind::File(file), Ok(name)) = (node.kind, Name::new(node.name)) else { return };
        let wanted = Wanted::of(&file, node.mode);
        let raw = match self.make.content.ensure_raw(&wanted) {
            Ok(raw) => raw,
            Err(error) => return self.fail(io::Error::other(chain(&error).to_string())),
        };
        let linked = self.make.content.link_raw(&wanted, &raw, dir, name);
        match linked.and_then(|()| dir.facts(name)) {
            Ok(facts) => self.numbers.set(ino, facts.id.1),
            Err(error) => log::debug!("{name} is not in the pristine tree: {error}"),
        }
    }

    fn fail(&self, error: io::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }
}

fn make_dir(parent: &TreeDir, name: &[u8]) -> io::Result<TreeDir> {
    parent.make_dir(OwnedName::new(name).map_err(io::Error::other)?.as_name())
}
