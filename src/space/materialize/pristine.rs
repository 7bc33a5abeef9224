//! Pristine trees: a catalog laid out once, from which spaces are created without decoding or hashing anything.
//!
//! ```text
//! pristine/<catalog id>/         the tree, shaped like a space: a subvolume on btrfs, else a directory of links into raw/
//! pristine/<catalog id>.stamp    which files are in it, and their state when it was created; written last
//! pristine/<catalog id>.tmp/     a tree being built, under the lock <catalog id>.lock
//! pristine/<catalog id>.once     the catalog was materialized once without a pristine tree: the next time it gets one
//! ```
//! - A *subvolume* has everything: links, empty files, relocated files as they were recorded. Nothing in it shares an inode with
//!   anything. It is valid while no inode in it has changed, which the file system reports; otherwise every entry is checked, and
//!   must not have changed since the tree was created.
//! - A *directory* has the files that are the same in every space, as hard links into the raw store. Each is checked at each use, as
//!   entries of the raw store are.
//!
//! Anything invalid is not used: the content then comes from the store. A tree can be removed at any time.

mod audit;
mod stamp;
mod trim;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::rcc::catalog::CatalogId;
use crate::store::index::{FileNode, Index, Ino, Node, NodeKind};
use crate::store::{MOTHER_TIME, RawMode, Store, Wanted};
use crate::sys::fs::at::{FileFacts, TreeDir};
use crate::sys::fs::btrfs;
use crate::sys::fs::name::{Name, OwnedName};
use crate::sys::fs::place::Place;
use crate::sys::process::this_process;

use self::audit::changed_in_subvolume;
pub(super) use self::audit::{audit, visit};
pub(super) use self::stamp::{Stamp, TreeKind};
pub use self::trim::{Bounds, trim};

/// How long the time of a stamp counts as the time of the tree's last use.
const RECENT: Duration = Duration::from_secs(3600);

/// A valid pristine tree.
pub(super) struct Pristine {
    /// Its root.
    pub root: TreeDir,
    pub stamp: Stamp,
}

/// The paths of one catalog's pristine tree and its companions.
pub(super) struct Places {
    /// The directory of all pristine trees.
    pub dir: Place,
    id: String,
}

impl Places {
    pub fn new(pristine_dir: &Place, id: &CatalogId) -> Places {
        Places { dir: pristine_dir.clone(), id: id.to_string() }
    }

    /// The directory of all pristine trees, created if needed.
    pub fn open_dir(&self) -> io::Result<TreeDir> {
        self.dir.ensure()?.tree()
    }

    /// True if pristine trees are subvolumes here.
    pub fn is_on_btrfs(&self) -> bool {
        self.open_dir().is_ok_and(|dir| btrfs::is_same_btrfs(&dir, &dir))
    }

    /// The tree.
    pub fn tree(&self) -> Place {
        self.path("")
    }

    /// The name of the tree, or with a suffix that of a companion.
    pub fn name(&self, suffix: &str) -> io::Result<OwnedName> {
        OwnedName::new(format!("{}{suffix}", self.id).as_bytes()).map_err(io::Error::other)
    }

    /// The place of the tree, or with a suffix that of a companion.
    pub fn path(&self, suffix: &str) -> Place {
        self.dir.below(format!("{}{suffix}", self.id))
    }

    /// Records that the catalog was materialized without a pristine tree; true if that was recorded before.
    pub fn note_use(&self) -> bool {
        let mark = self.path(".once");
        if mark.is_there().unwrap_or(false) {
            return true;
        }
        if let Err(error) = mark.mark() {
            log::debug!("Cannot keep {}: {error}", mark.display());
        }
        false
    }
}

impl Pristine {
    /// Opens the tree, if there is a valid one.
    pub fn open(places: &Places, index: &Index) -> Option<Pristine> {
        let stamp = Stamp::read(&places.path(".stamp"), index)?;
        let name = places.name("").ok()?;
        let root = places.dir.open().and_then(|dir| dir.tree()?.open_dir(name.as_name())).ok()?;
        // The tree must belong to this user or root: another owner could modify it.
        let (owner, _) = root.owner_and_mode().ok()?;
        if owner != this_process::effective_uid() && owner != 0 {
            return None;
        }
        let mut pristine = Pristine { root, stamp };
        let is_sound = match pristine.stamp.kind {
            TreeKind::Directory => true,
            TreeKind::Subvolume => pristine.is_unchanged() || pristine.renew(places, index),
        };
        if is_sound && let Err(error) = places.path(".stamp").touch_unless(RECENT) {
            log::debug!("Cannot record the use of {}: {error}", places.tree().display());
        }
        is_sound.then_some(pristine)
    }

    /// True if nothing in the subvolume has changed since it was stamped.
    pub fn is_unchanged(&self) -> bool {
        btrfs::state(&self.root).is_ok_and(|state| Some(state) == self.stamp.state)
    }

    /// Checks every entry of a subvolume that has changed in some way (access times count), and stamps it again if all are right.
    fn renew(&mut self, places: &Places, index: &Index) -> bool {
        let Ok(state) = btrfs::state(&self.root) else { return false };
        if self.stamp.state.is_none_or(|old| old.uuid != state.uuid)
            || !changed_in_subvolume(self, index).is_empty()
        {
            return false;
        }
        self.stamp.state = Some(state);
        // A change during the check changes the state too.
        let is_same = btrfs::state(&self.root).is_ok_and(|now| now == state);
        if let (true, Err(error)) = (is_same, self.stamp.publish(&places.path(".stamp"), index)) {
            log::debug!("Cannot renew the stamp of {}: {error}", places.path("").display());
        }
        is_same
    }

    /// Its kind.
    pub fn kind(&self) -> TreeKind {
        self.stamp.kind
    }

    /// The umask it was created with, which a snapshot inherits in the modes of directories.
    pub fn umask(&self) -> Option<u16> {
        self.stamp.umask
    }

    /// True if the file `ino` is in the tree.
    pub fn has(&self, ino: Ino) -> bool {
        self.inode_of(ino).is_some()
    }

    /// True unless the raw store, which checks the files of a directory, is missing.
    pub fn can_be_checked(&self, content: &Store) -> bool {
        self.kind() == TreeKind::Subvolume || content.raw().is_some()
    }

    /// Opens the file `node` in its directory `dir` of the tree; `None` if it was changed.
    pub fn open_file(&self, content: &Store, node: &Node<'_>, dir: &TreeDir) -> Option<File> {
        let (NodeKind::File(file), Ok(name)) = (node.kind, Name::new(node.name)) else { return None };
        match self.kind() {
            TreeKind::Directory => content.raw()?.open_link(&Wanted::of(&file, node.mode), dir, name),
            TreeKind::Subvolume => {
                let (opened, facts) = dir.open_with_facts(name).ok()?;
                self.is_intact(node.ino, &file, &facts).then_some(opened)
            }
        }
    }

    /// True if `facts` are those of the unchanged file `ino` of a subvolume.
    fn is_intact(&self, ino: Ino, file: &FileNode<'_>, facts: &FileFacts) -> bool {
        let expected = (self.inode_of(ino).unwrap_or(0), file.size, (MOTHER_TIME, 0));
        (facts.id.1, facts.size, facts.mtime) == expected && facts.changed <= self.stamp.newest
    }

    fn inode_of(&self, ino: Ino) -> Option<u64> {
        let position = usize::try_from(ino.0.checked_sub(1)?).ok()?;
        self.stamp.inodes.get(position).copied().filter(|&inode| inode != 0)
    }

    /// Records a new inode for the file `ino`.
    pub fn set_inode(&mut self, ino: Ino, inode: u64) {
        let position = usize::try_from(ino.0.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(known) = self.stamp.inodes.get_mut(position) {
            *known = inode;
        }
    }

    /// Writes the recorded changes.
    pub fn save(&mut self, places: &Places, index: &Index) -> io::Result<()> {
        if self.stamp.kind == TreeKind::Subvolume {
            self.stamp.state = Some(btrfs::state(&self.root)?);
        }
        self.stamp.publish(&places.path(".stamp"), index)
    }
}

/// True for a file that is identical in every space, including its mode.
pub(super) fn is_shareable(file: &FileNode<'_>, mode: u16) -> bool {
    file.rewrite.is_empty() && file.size > 0 && RawMode::new(mode).bits() == mode
}

/// Removes the tree and its companions.
pub(super) fn discard(places: &Places) -> io::Result<()> {
    let dir = places.dir.open()?.tree()?;
    // The stamp first: without one the tree is ignored.
    for suffix in [".stamp", "", ".tmp", ".once"] {
        dir.remove(places.name(suffix)?.as_name())?;
    }
    Ok(())
}

/// Why spaces in `base` cannot be snapshots of pristine trees; `None` if they can.
pub(super) fn no_snapshot(places: &Places, base: &Path) -> Option<&'static str> {
    let (Ok(from), Ok(to)) = (places.open_dir(), TreeDir::open(base)) else {
        return Some("The directories cannot be opened");
    };
    if !btrfs::is_same_btrfs(&from, &to) {
        return Some("Not on one btrfs, or one volume of APFS");
    }
    // A snapshot has the group of the tree it was made from.
    let inherits = to.owner_and_mode().is_ok_and(|(_, mode)| mode & 0o2000 != 0);
    inherits.then_some("The directory of spaces has the setgid bit")
}
