//! Checks that the written directories form a tree together with the catalog's. With a corrupt database, walking down or up the tree
//! might never end.

use std::collections::HashSet;

use super::on_disk::DATABASE;
use super::tables::Tables;
use super::{Entry, Ino, Inode, Kind, Upper, UpperError};

impl Upper {
    /// The number of changed or created inodes.
    pub fn inode_count(&self) -> usize {
        self.tables().inodes.len()
    }

    /// Fails if a directory has two places, or cannot be reached from the root. `catalog_parent` gives the parent of a directory in
    /// the catalog, if it has one.
    pub fn check_tree(&self, catalog_parent: impl Fn(Ino) -> Option<Ino>) -> Result<(), UpperError> {
        if self.is_pristine() {
            return Ok(());
        }
        let damaged = |what| UpperError::Damaged { path: self.dir.join(DATABASE), what };
        fault(&self.tables(), catalog_parent).map_or(Ok(()), |what| Err(damaged(what)))
    }
}

/// The first fault of the tree.
fn fault(tables: &Tables, catalog_parent: impl Fn(Ino) -> Option<Ino>) -> Option<String> {
    let parent_of = |dir: Ino| match tables.inodes.get(&dir) {
        Some(inode) => Some(inode.parent),
        None => catalog_parent(dir),
    };
    let mut sound = HashSet::from([Ino::ROOT]);
    for (&dir, directory) in &tables.directories {
        for (name, entry) in directory.iter() {
            let Entry::Present(present) = entry else { continue };
            if present.kind == Kind::Dir && parent_of(present.ino) != Some(dir) {
                let name = String::from_utf8_lossy(name).escape_debug().to_string();
                return Some(format!("directory {name:?} in {dir} has its place elsewhere"));
            }
        }
    }
    let is_there = |inode: &Inode| inode.kind == Kind::Dir && inode.nlink > 0;
    let written = tables.inodes.iter().filter(|(_, inode)| is_there(inode)).map(|(&ino, _)| ino);
    for dir in written.chain(tables.directories.keys().copied()) {
        let (mut way, mut at) = (HashSet::new(), dir);
        while !sound.contains(&at) {
            let parent = parent_of(at).filter(|_| way.insert(at));
            match parent {
                Some(parent) => at = parent,
                None => return Some(format!("directory {dir} is not below the root")),
            }
        }
        sound.extend(way);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::upper::FIRST_CREATED;
    use crate::fs::upper::tables::{Change, Present};

    const MADE: Ino = Ino(FIRST_CREATED);

    /// The catalog has 2 in the root, and 3 in 2.
    fn catalog(ino: Ino) -> Option<Ino> {
        [(1, 1), (2, 1), (3, 2)].iter().find(|(dir, _)| *dir == ino.0).map(|&(_, parent)| Ino(parent))
    }

    /// Directories with the parents they claim, and an entry for each of them in that parent.
    fn tables(placed: &[(Ino, Ino)]) -> Tables {
        let mut tables = Tables::default();
        for (order, &(ino, parent)) in placed.iter().enumerate() {
            let inode = Inode { parent, ..Inode::new(Kind::Dir, 0o755) };
            let present = Present { ino, kind: Kind::Dir, order: FIRST_CREATED + order as u64 };
            tables.apply(&Change::Inode(ino, inode));
            let name = format!("d{order}").into_bytes().into();
            tables.apply(&Change::Entry(parent, name, Some(Entry::Present(present))));
        }
        tables
    }

    #[test]
    fn directories_that_were_made_and_moved_about_are_a_tree() {
        let root = Ino::ROOT;
        for placed in [&[(MADE, root)][..], &[(MADE, Ino(3))], &[(Ino(3), MADE), (MADE, root)]] {
            assert_eq!(fault(&tables(placed), catalog), None, "{placed:?}");
        }
    }

    #[test]
    fn circles_are_damage_whether_or_not_the_catalog_has_a_part_in_them() {
        let other = Ino(FIRST_CREATED + 1);
        let circles =
            [&[(MADE, MADE)][..], &[(MADE, other), (other, MADE)], &[(Ino(2), MADE), (MADE, Ino(3))]];
        for placed in circles {
            let what = fault(&tables(placed), catalog).unwrap();
            assert!(what.ends_with("is not below the root"), "{placed:?}: {what}");
        }
    }

    #[test]
    fn a_directory_in_two_places_or_in_an_unknown_one_is_damage() {
        let mut twice = tables(&[(MADE, Ino::ROOT)]);
        let present = Present { ino: MADE, kind: Kind::Dir, order: FIRST_CREATED + 9 };
        twice.apply(&Change::Entry(MADE, (*b"again").into(), Some(Entry::Present(present))));
        assert!(fault(&twice, catalog).unwrap().ends_with("has its place elsewhere"));
        assert!(fault(&tables(&[(MADE, Ino(99))]), catalog).is_some());
    }
}
