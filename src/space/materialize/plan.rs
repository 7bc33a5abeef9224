//! Plans the changes of one directory of a space: pure, from the catalog, the last materialize's records and the current entries.
//!
//! Follows RCC's rules (its dirty test is name, kind, size, mode and, if known, the old digest; not time, not content), with one
//! repair that RCC refuses: an entry of another kind in place of a directory is removed. `verify` adds the content.

use std::io;

use crate::rcc::digest::Digest;
use crate::store::index::{FileNode, Index, Ino, Node, NodeKind};
use crate::sys::fs::at::{DirEntry, DirEntryKind, mode_on_disk, target_on_disk};
use crate::sys::fs::name::{Name, OwnedName};

/// The inputs apart from the current entries.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The catalog to match.
    pub index: &'a Index,
    /// What the last materialize put there; `None` if unknown, or if it was the same catalog.
    pub old: Option<&'a Index>,
    /// Bits removed from every file's mode.
    pub dropped_mode: u16,
    /// Check the content of files that look right.
    pub verify: bool,
}

/// The changes needed in one existing directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DirPlan {
    /// Entries to remove, with everything below them.
    pub remove: Vec<OwnedName>,
    /// Files and links to place; existing entries are replaced.
    pub place: Vec<Ino>,
    /// Directories to create, with everything below them.
    pub make: Vec<Ino>,
    /// Files that look right and whose content is to be read.
    pub verify: Vec<Ino>,
    /// Existing directories, with the last materialize's directory of that name.
    pub descend: Vec<(Ino, Option<Ino>)>,
    /// Files and links that are right.
    pub kept: u64,
}

impl DirPlan {
    /// True if there is nothing to do in this directory itself.
    pub fn is_idle(&self) -> bool {
        self.remove.is_empty() && self.place.is_empty() && self.make.is_empty() && self.verify.is_empty()
    }
}

impl Rules<'_> {
    /// The mode that a file gets.
    pub fn mode_of(&self, node: &Node<'_>) -> u16 {
        node.mode & !self.dropped_mode
    }

    /// Plans the directory `dir`, which contains `found` and was `old_dir` in the last materialize.
    pub fn plan(&self, dir: Ino, old_dir: Option<Ino>, found: &[DirEntry]) -> DirPlan {
        let mut plan = DirPlan::default();
        let children = self.index.child_range(dir);
        let mut there = vec![false; usize::try_from(children.end - children.start).unwrap_or(0)];
        for entry in found {
            let wanted = self.index.lookup(dir, entry.name.as_name());
            let Some(node) = wanted.and_then(|ino| self.index.node(ino)) else {
                plan.remove.push(entry.name.clone());
                continue;
            };
            let stays = self.plan_entry(&mut plan, &node, self.old_node(old_dir, entry), entry);
            if let Some(there) =
                there.get_mut(usize::try_from(node.ino.0 - children.start).unwrap_or(usize::MAX))
            {
                *there = stays;
            }
        }
        let missing = children.zip(there).filter_map(|(ino, there)| (!there).then_some(Ino(ino)));
        for node in missing.filter_map(|ino| self.index.node(ino)) {
            match node.kind {
                NodeKind::Dir { .. } => plan.make.push(node.ino),
                NodeKind::File(_) | NodeKind::Link { .. } => plan.place.push(node.ino),
            }
        }
        plan
    }

    /// Plans the directory `dir`, which is known to have exactly the catalog's entries: `look` returns the current facts of its files.
    /// `None` if one of them is not a file.
    pub fn plan_known(
        &self,
        dir: Ino,
        mut look: impl FnMut(Name<'_>) -> io::Result<Option<DirEntryKind>>,
    ) -> Option<DirPlan> {
        let mut plan = DirPlan::default();
        for node in self.index.children(dir) {
            match node.kind {
                NodeKind::Dir { .. } => plan.descend.push((node.ino, None)),
                NodeKind::Link { .. } => plan.kept += 1,
                NodeKind::File(file) => match look(Name::new(node.name).ok()?) {
                    Ok(Some(DirEntryKind::File { size, mode }))
                        if self.is_right(&node, &file, size, mode) =>
                    {
                        plan.kept += 1;
                    }
                    Ok(Some(DirEntryKind::File { .. })) => plan.place.push(node.ino),
                    _ => return None,
                },
            }
        }
        Some(plan)
    }

    /// True if a file of this size and mode matches the catalog's.
    fn is_right(&self, node: &Node<'_>, file: &FileNode<'_>, size: u64, mode: u16) -> bool {
        size == file.size && mode == mode_on_disk(self.mode_of(node))
    }

    /// Plans one entry that is in the catalog. False if it is to be created again.
    fn plan_entry(
        &self,
        plan: &mut DirPlan,
        node: &Node<'_>,
        old: Option<Node<'_>>,
        found: &DirEntry,
    ) -> bool {
        match (&node.kind, &found.kind) {
            (NodeKind::Dir { .. }, DirEntryKind::Dir) => {
                plan.descend.push((node.ino, old.map(|old| old.ino)));
                true
            }
            (NodeKind::Link { target }, DirEntryKind::Link(text)) if *target_on_disk(target) == **text => {
                plan.kept += 1;
                true
            }
            (NodeKind::File(file), &DirEntryKind::File { size, mode })
                if self.is_right(node, file, size, mode) && !is_other(file, old) =>
            {
                if self.verify {
                    plan.verify.push(node.ino)
                } else {
                    plan.kept += 1
                }
                true
            }
            // A file or link is replaced by renaming over it, which is not possible if either of the two is a directory.
            (NodeKind::Dir { .. }, _) | (_, DirEntryKind::Dir) => {
                plan.remove.push(found.name.clone());
                false
            }
            _ => false,
        }
    }

    /// What the last materialize put at this name.
    fn old_node(&self, old_dir: Option<Ino>, found: &DirEntry) -> Option<Node<'_>> {
        let old = self.old?;
        old.node(old.lookup(old_dir?, found.name.as_name())?)
    }
}

/// True if the last materialize is known to have put other content there.
fn is_other(file: &FileNode<'_>, old: Option<Node<'_>>) -> bool {
    let digest_of = |node: Node<'_>| -> Option<Digest> {
        if let NodeKind::File(old) = node.kind { Some(old.digest) } else { None }
    };
    old.is_some_and(|node| digest_of(node) != Some(file.digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::catalog::{Catalog, Dir, DirId, EntryKind, File, GoMode, Header};
    use crate::rcc::digest::Regime;

    /// A root with the directory `d`, the file `f` (3 bytes, 0644) and the link `l` to `f`.
    fn index(content: &[u8]) -> Index {
        let name = |text: &str| OwnedName::new(text.as_bytes()).unwrap();
        let dir = |text: Option<&str>, parent| Dir {
            name: text.map(name),
            parent,
            symlink: None,
            mode: GoMode::from_unix(EntryKind::Directory, 0o755),
            shadow: false,
            subdirs: Vec::new(),
            files: Vec::new(),
        };
        let file = |text: &str, symlink: Option<&str>| File {
            name: name(text),
            symlink: symlink.map(Into::into),
            size: 3,
            mode: GoMode::from_unix(EntryKind::File, 0o4644),
            digest: Some(Digest::of(Regime::Sha256, content)),
            rewrite: Vec::new(),
        };
        let mut root = dir(None, None);
        root.subdirs = vec![DirId(1)];
        root.files = vec![file("f", None), file("l", Some("f"))];
        let identity = "h59acff1_493f813dad24d3t".to_owned();
        let path = format!("/base/{identity}");
        let (blueprint, platform) = ("0123456789abcdef".to_owned(), "linux_amd64".to_owned());
        let header = Header { identity, path, blueprint, platform, lifted: true, ..Header::default() };
        let catalog = Catalog::new(header, vec![root, dir(Some("d"), Some(DirId(0)))]).unwrap();
        let id = Digest::of(Regime::Sha256, content);
        Index::from_bytes(Index::build(&catalog, &id).unwrap()).unwrap()
    }

    fn found(name: &str, kind: DirEntryKind) -> DirEntry {
        DirEntry { name: OwnedName::new(name.as_bytes()).unwrap(), kind }
    }

    fn ino(index: &Index, name: &str) -> Ino {
        index.lookup(Ino::ROOT, crate::sys::fs::name::Name::new(name.as_bytes()).unwrap()).unwrap()
    }

    const FILE: DirEntryKind = DirEntryKind::File { size: 3, mode: 0o4644 };

    fn link() -> DirEntryKind {
        DirEntryKind::Link(b"f".as_slice().into())
    }

    #[test]
    fn an_empty_directory_needs_everything() {
        let index = index(b"abc");
        let rules = Rules { index: &index, old: None, dropped_mode: 0, verify: false };
        let plan = rules.plan(Ino::ROOT, None, &[]);
        assert_eq!(plan.make, [ino(&index, "d")]);
        assert_eq!(plan.place, [ino(&index, "f"), ino(&index, "l")]);
        assert!(plan.remove.is_empty() && plan.kept == 0);
    }

    #[test]
    fn what_is_right_is_kept_and_strangers_go() {
        let index = index(b"abc");
        let rules = Rules { index: &index, old: None, dropped_mode: 0, verify: false };
        let there = [
            found("x", DirEntryKind::Dir),
            found("l", link()),
            found("d", DirEntryKind::Dir),
            found("f", FILE),
        ];
        let plan = rules.plan(Ino::ROOT, None, &there);
        assert_eq!(plan.remove, [OwnedName::new(b"x").unwrap()]);
        assert_eq!(plan.descend, [(ino(&index, "d"), None)]);
        assert_eq!((plan.kept, plan.place.len(), plan.make.len()), (2, 0, 0));
    }

    #[test]
    fn what_is_wrong_is_replaced_and_directories_make_room() {
        let index = index(b"abc");
        let rules = Rules { index: &index, old: None, dropped_mode: 0, verify: false };
        let there = [found("d", link()), found("f", DirEntryKind::Dir), found("l", FILE)];
        let plan = rules.plan(Ino::ROOT, None, &there);
        assert_eq!(plan.remove.len(), 2);
        assert_eq!(plan.place, [ino(&index, "f"), ino(&index, "l")]);
        assert_eq!(plan.make, [ino(&index, "d")]);
        for wrong in
            [DirEntryKind::File { size: 4, mode: 0o4644 }, DirEntryKind::File { size: 3, mode: 0o644 }]
        {
            let plan = rules.plan(Ino::ROOT, None, &[found("f", wrong)]);
            assert!(plan.place.contains(&ino(&index, "f")));
        }
    }

    #[test]
    fn dropped_bits_are_not_expected() {
        let index = index(b"abc");
        let rules = Rules { index: &index, old: None, dropped_mode: 0o6000, verify: false };
        let plan = |mode| rules.plan(Ino::ROOT, None, &[found("f", DirEntryKind::File { size: 3, mode })]);
        assert_eq!((plan(0o644).kept, plan(0o4644).kept), (1, 0));
    }

    #[test]
    fn an_old_digest_that_differs_makes_a_file_dirty_and_verify_asks_for_its_content() {
        let (old, index) = (index(b"xyz"), index(b"abc"));
        let plan = |old, old_dir, verify| {
            Rules { index: &index, old, dropped_mode: 0, verify }.plan(
                Ino::ROOT,
                old_dir,
                &[found("f", FILE)],
            )
        };
        assert_eq!(plan(Some(&old), Some(Ino::ROOT), false).kept, 0);
        assert_eq!(plan(Some(&index), Some(Ino::ROOT), false).kept, 1);
        assert_eq!(
            plan(Some(&old), None, false).kept,
            1,
            "nothing is known of a directory that was not there"
        );
        assert_eq!(plan(None, None, true).verify, [ino(&index, "f")]);
    }
}
