//! Checks whether the shared files of spaces were changed, and through which space.
//!
//! A hard link gives a space the inode of the raw store, so writing to the file in the space changes the store. This shows in size, in
//! the modification time, or in content, which is read if the change time differs or on request. The file is then created again from
//! its blob, which separates it from the space, and the space is reported. The space's copy is left to its owner.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::pristine::{self, Places, Pristine, TreeKind};
use crate::rcc::digest::Hasher;
use crate::rcc::home::Home;
use crate::store::index::{FileNode, Index, Ino, Node, NodeKind, index_path};
use crate::store::observe::{Counter, Observer};
use crate::store::{RawStore, Store, Wanted};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;
use crate::sys::fs::stat;

/// The result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Health {
    /// Catalogs checked.
    pub catalogs: u64,
    /// Files checked.
    pub files: u64,
    /// Files that were changed.
    pub changed: Vec<Changed>,
}

/// A file of the raw store or of a pristine tree that was changed.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// The catalog's id.
    pub catalog: String,
    /// The path of the file below a space.
    pub path: String,
    /// The spaces that share the file.
    #[serde(serialize_with = "crate::sys::text::paths")]
    pub spaces: Vec<PathBuf>,
    /// True if it was created again.
    pub is_healed: bool,
}

/// How thorough to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Depth {
    /// Create again what was changed.
    pub heals: bool,
    /// Read and hash every file; the store should then hash on open too.
    pub reads: bool,
}

/// Checks all files shared by the catalogs that are compiled here.
pub fn check(home: &Home, store: &Store, depth: Depth, observer: &dyn Observer) -> io::Result<Health> {
    let mut health = Health::default();
    for place in home.index_dir().entries()? {
        let name = place.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(|name| name.parse().ok()) else { continue };
        let Ok(index) = Index::open(index_path(&home.index_dir(), &id), &id) else { continue };
        health.catalogs += 1;
        let places = Places::new(&home.pristine_dir(), &id);
        let check = Check { home, store, depth, observer, index: &index, places: &places };
        check.catalog(&mut health);
    }
    Ok(health)
}

struct Check<'a> {
    home: &'a Home,
    store: &'a Store,
    depth: Depth,
    observer: &'a dyn Observer,
    index: &'a Index,
    places: &'a Places,
}

impl Check<'_> {
    fn catalog(&self, health: &mut Health) {
        let mut found: BTreeMap<Ino, Vec<PathBuf>> = BTreeMap::new();
        let pristine = Pristine::open(self.places, self.index);
        for (ino, inode) in pristine.iter().flat_map(|pristine| self.changed_in_tree(pristine)) {
            found.entry(ino).or_default().extend(self.spaces_with(ino, inode));
        }
        for node in self.index.nodes() {
            if let Some((wanted, _)) = shareable(&node) {
                health.files += 1;
                if self.store.is_raw_changed(&wanted) {
                    let inode = self.store.raw().and_then(|raw| id_at(&entry_path(raw, &wanted)));
                    found.entry(node.ino).or_default().extend(self.spaces_with(node.ino, inode));
                }
            }
        }
        let mut pristine = pristine;
        for (ino, mut spaces) in found {
            spaces.sort();
            spaces.dedup();
            let is_healed = self.depth.heals && self.heal(ino, pristine.as_mut());
            self.observer.count(Counter::PristineHealed, is_healed.into());
            let path = self.index.path_of(ino).map(|path| path.to_string()).unwrap_or_default();
            health.changed.push(Changed { catalog: self.index.id().to_string(), path, spaces, is_healed });
        }
        if let (true, Some(pristine)) = (self.depth.heals, pristine.as_mut())
            && let Err(error) = pristine.save(self.places, self.index)
        {
            log::debug!("Cannot save the stamp of catalog {}: {error}", self.index.id());
        }
    }

    /// Files of the pristine tree that were changed, with their inodes.
    fn changed_in_tree(&self, pristine: &Pristine) -> Vec<(Ino, Option<(u64, u64)>)> {
        let mut changed: Vec<Ino> = pristine::audit(pristine, self.index, self.store)
            .into_iter()
            .map(|trouble| trouble.ino)
            .collect();
        if self.depth.reads {
            let files =
                self.index.nodes().filter(|node| pristine.has(node.ino) && !changed.contains(&node.ino));
            let wrong: Vec<Ino> =
                files.filter(|node| !self.is_content(pristine, node)).map(|node| node.ino).collect();
            changed.extend(wrong);
        }
        let tree = self.places.tree();
        let inode = |ino| id_at(&tree.join(self.index.path_of(ino)?.to_string()));
        changed.into_iter().map(|ino| (ino, inode(ino))).collect()
    }

    fn is_content(&self, pristine: &Pristine, node: &Node<'_>) -> bool {
        let NodeKind::File(file) = node.kind else { return true };
        let hashed = self.parent_of(pristine, node.ino).and_then(|dir| {
            let mut opened = dir.open_file(Name::new(node.name).map_err(io::Error::other)?)?;
            let mut hasher = Hasher::new(file.digest.regime());
            let mut buffer = vec![0; 128 << 10];
            loop {
                match io::Read::read(&mut opened, &mut buffer)? {
                    0 => return Ok(hasher.finish()),
                    count => hasher.update(&buffer[..count]),
                }
            }
        });
        hashed.is_ok_and(|digest| digest == file.digest)
    }

    /// The directory of the pristine tree that contains `ino`.
    fn parent_of(&self, pristine: &Pristine, ino: Ino) -> io::Result<TreeDir> {
        let path = self.index.path_of(ino).ok_or(io::ErrorKind::NotFound)?;
        let mut dir = pristine.root.reopen()?;
        let (_, above) = path.names().split_last().ok_or(io::ErrorKind::NotFound)?;
        for name in above {
            dir = dir.open_dir(name.as_name())?;
        }
        Ok(dir)
    }

    /// The spaces of this catalog whose file at the path of `ino` is `inode`.
    fn spaces_with(&self, ino: Ino, inode: Option<(u64, u64)>) -> Vec<PathBuf> {
        let (Some(inode), Some(path)) = (inode, self.index.path_of(ino)) else { return Vec::new() };
        let states = self.home.spaces_dir().entries().unwrap_or_default();
        let labels =
            states.iter().filter_map(|state| Some(state.file_name()?.to_str()?.get(..24)?.to_owned()));
        let roots = labels.map(|label| self.index.base().join(label));
        roots.filter(|root| id_at(&root.join(path.to_string())) == Some(inode)).collect()
    }

    /// Creates the file again from its blob, in the raw store and in the pristine tree.
    fn heal(&self, ino: Ino, pristine: Option<&mut Pristine>) -> bool {
        let Some(node) = self.index.node(ino) else { return false };
        let tree = match pristine {
            Some(tree) if tree.kind() == TreeKind::Directory => Some(tree),
            // Nothing shares an inode with a subvolume: it is removed, and created again when it is needed.
            Some(_) => return pristine::discard(self.places).is_ok(),
            None => None,
        };
        let Some((wanted, _)) = shareable(&node) else { return false };
        let Ok(raw) = self.store.ensure_raw(&wanted) else { return false };
        let Some(tree) = tree.filter(|tree| tree.has(ino)) else { return true };
        let relinked = self.parent_of(tree, ino).and_then(|dir| {
            let name = Name::new(node.name).map_err(io::Error::other)?;
            dir.remove(name)?;
            self.store.link_raw(&wanted, &raw, &dir, name)?;
            dir.facts(name)
        });
        // A file that is not in the tree comes from the store.
        tree.set_inode(ino, relinked.map_or(0, |facts| facts.id.1));
        true
    }
}

/// A file that may be shared by inode.
fn shareable<'n>(node: &Node<'n>) -> Option<(Wanted, FileNode<'n>)> {
    match node.kind {
        NodeKind::File(file) if pristine::is_shareable(&file, node.mode) => {
            Some((Wanted::of(&file, node.mode), file))
        }
        _ => None,
    }
}

fn entry_path(raw: &RawStore, wanted: &Wanted) -> PathBuf {
    raw.path().join(wanted.key().path())
}

/// Device and inode of the file at `path`, without following a link.
fn id_at(path: &Path) -> Option<(u64, u64)> {
    stat::id_at(path).ok()
}
