//! A change of the tree in progress: a transaction of the upper that also knows the catalog.

use std::cell::OnceCell;

use crate::fs::upper::{Entry, Inode, Kind, Time, Transaction, Upper};
use crate::store::index::Ino;
use crate::sys::fs::name::Name;

use super::{Vfs, VfsError};

/// The changes of one operation. If dropped before [`Change::commit`], it has no effect.
pub(super) struct Change<'a> {
    vfs: &'a Vfs,
    /// The upper to write to.
    pub upper: &'a Upper,
    /// The rows.
    pub tx: Transaction<'a>,
    now: OnceCell<Time>,
}

impl Vfs {
    /// Begins a change of `inos`: no other thread changes them until it ends.
    pub(super) fn change(&self, inos: &[Ino]) -> Result<Change<'_>, VfsError> {
        let upper = self.writer()?;
        Ok(Change { vfs: self, upper, tx: upper.begin(inos), now: OnceCell::new() })
    }

    /// Begins a change of entries, each a directory and a name: locks the directories and the inodes with these names.
    pub(super) fn change_entries<const N: usize>(
        &self,
        entries: [(Ino, Name<'_>); N],
        others: &[Ino],
    ) -> Result<(Change<'_>, [Option<Ino>; N]), VfsError> {
        loop {
            let found = entries.map(|(dir, name)| self.child(dir, name));
            let mut inos: Vec<Ino> =
                entries.iter().map(|(dir, _)| *dir).chain(others.iter().copied()).collect();
            inos.extend(found.iter().flatten());
            let change = self.change(&inos)?;
            // The directories are locked from here on; before, another thread may have changed them.
            if entries.map(|(dir, name)| self.child(dir, name)) == found {
                return Ok((change, found));
            }
        }
    }
}

impl Change<'_> {
    /// The time of all parts of this change.
    pub fn now(&self) -> Time {
        *self.now.get_or_init(Time::now)
    }

    /// The inode as left by this change.
    pub fn inode(&self, ino: Ino) -> Result<Inode, VfsError> {
        match self.tx.inode(ino) {
            Some(inode) => Ok(inode),
            None => self.vfs.inode(ino),
        }
    }

    /// Edits the inode, and sets its ctime to the time of this change.
    pub fn edit(&mut self, ino: Ino, edit: impl FnOnce(&mut Inode)) -> Result<(), VfsError> {
        let mut inode = self.inode(ino)?;
        inode.ctime = self.now();
        edit(&mut inode);
        self.tx.put(ino, inode);
        Ok(())
    }

    /// Updates `dir` after a change of its entries, with `subdirs` more subdirectories in it.
    pub fn touch(&mut self, dir: Ino, subdirs: i32) -> Result<(), VfsError> {
        let now = self.now();
        self.edit(dir, |inode| {
            inode.mtime = now;
            inode.nlink = inode.nlink.saturating_add_signed(subdirs);
        })
    }

    /// The inode of `dir`; an error if it is not a directory or was removed.
    pub fn directory(&self, dir: Ino) -> Result<Inode, VfsError> {
        let inode = self.inode(dir)?;
        match inode.kind {
            Kind::Dir if inode.nlink == 0 => Err(VfsError::NoEntry),
            Kind::Dir => Ok(inode),
            _ => Err(VfsError::NotADirectory(dir)),
        }
    }

    /// Makes `name` in `dir` refer to `ino`.
    pub fn link(&mut self, dir: Ino, name: Name<'_>, ino: Ino, kind: Kind) {
        self.tx.link(dir, name, ino, kind, None);
    }

    /// Renames `name` to `to` in `dir`. It keeps its place in a listing: a concurrent listing shows it once, under one of the names.
    pub fn rename_in(&mut self, dir: Ino, name: Name<'_>, to: Name<'_>, ino: Ino, kind: Kind) {
        let order = match self.tx.entry(dir, name) {
            Some(Entry::Present(present)) => Some(present.order),
            _ => None,
        };
        self.unlink(dir, name);
        self.tx.link(dir, to, ino, kind, order);
    }

    /// Removes `name` from `dir`.
    pub fn unlink(&mut self, dir: Ino, name: Name<'_>) {
        let in_catalog = self.vfs.in_catalog(dir, name.as_bytes());
        self.tx.unlink(dir, name, in_catalog);
    }

    /// Removes one name of `ino`. A directory, which was checked to be empty, is removed with it.
    pub fn lose_name(&mut self, ino: Ino) -> Result<(), VfsError> {
        self.edit(ino, |inode| {
            inode.nlink = if inode.kind == Kind::Dir { 0 } else { inode.nlink.saturating_sub(1) };
        })?;
        if self.inode(ino)?.kind == Kind::Dir {
            self.tx.clear(ino);
        }
        Ok(())
    }

    /// Fails unless the directory `dir` is empty. The change must have been begun with it.
    pub fn ensure_empty(&self, dir: Ino) -> Result<(), VfsError> {
        let range = self.vfs.index.child_range(dir);
        let catalog = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let empty = self.upper.directory(dir, |changed| match changed {
            // Whiteouts exist only for names in the catalog's directory.
            Some(changed) => changed.present() == 0 && changed.whiteouts() == catalog,
            None => catalog == 0,
        });
        if empty { Ok(()) } else { Err(VfsError::NotEmpty(dir)) }
    }

    /// Commits; then forgets `maybe_gone` if it has neither names nor references.
    pub fn commit(self, maybe_gone: Option<Ino>) -> Result<(), VfsError> {
        let Change { vfs, upper, tx, .. } = self;
        vfs.ensure_whole()?;
        tx.commit()?;
        if let Some(ino) = maybe_gone.filter(|&ino| vfs.lookups.of(ino) == 0) {
            upper.forget(ino)?;
        }
        Ok(())
    }
}
