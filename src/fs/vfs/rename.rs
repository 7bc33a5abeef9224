//! Renaming: one row for each name, regardless of what is below it. So catalog directories are renamed like any other.

use crate::fs::upper::Kind;
use crate::store::index::Ino;
use crate::sys::fs::name::Name;

use super::change::Change;
use super::{Vfs, VfsError};

/// What to do if the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, if possible.
    Replace,
    /// Fail.
    NoReplace,
    /// Exchange the two entries.
    Exchange,
}

/// One end of a rename.
#[derive(Clone, Copy)]
struct End<'a> {
    dir: Ino,
    name: Name<'a>,
}

/// An inode at one end, and its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Moved {
    ino: Ino,
    kind: Kind,
}

impl Moved {
    fn is_dir(self) -> bool {
        self.kind == Kind::Dir
    }

    fn subdirs(self) -> i32 {
        i32::from(self.is_dir())
    }
}

impl Vfs {
    /// Renames `name` in `dir` to `new_name` in `new_dir`.
    pub fn rename(
        &self,
        dir: Ino,
        name: &[u8],
        new_dir: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), VfsError> {
        let from = End { dir, name: Name::new(name)? };
        let to = End { dir: new_dir, name: Name::new(new_name)? };
        let (mut change, [source, target]) =
            self.change_entries([(from.dir, from.name), (to.dir, to.name)], &[])?;
        change.directory(from.dir)?;
        change.directory(to.dir)?;
        let source = self.moved(&change, source)?.ok_or(VfsError::NoEntry)?;
        let target = self.moved(&change, target)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(VfsError::Exists),
            (RenameMode::Exchange, None) => return Err(VfsError::NoEntry),
            (_, Some(target)) if target == source => return Ok(()), // two names of one file: nothing to do
            _ => {}
        }
        self.refuse_below(source, to.dir)?;
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => {
                self.refuse_below(target, from.dir)?;
                exchange(&mut change, from, to, source, target)?;
                change.commit(None)
            }
            _ => {
                replace(&mut change, from, to, source, target)?;
                change.commit(target.map(|target| target.ino))
            }
        }
    }

    fn moved(&self, change: &Change<'_>, ino: Option<Ino>) -> Result<Option<Moved>, VfsError> {
        let moved = |ino| Ok(Moved { ino, kind: change.inode(ino)?.kind });
        ino.map(moved).transpose()
    }

    fn directories_at_most(&self) -> u64 {
        self.index.len() + self.upper.as_ref().map_or(0, |upper| upper.inode_count() as u64)
    }

    /// Refuses to move a directory into itself. The kernel checks this too, and serializes such renames.
    fn refuse_below(&self, moved: Moved, mut dir: Ino) -> Result<(), VfsError> {
        if !moved.is_dir() {
            return Ok(());
        }
        // No path to the root has more directories than exist.
        for _ in 0..=self.directories_at_most() {
            if dir == moved.ino {
                return Err(VfsError::Invalid("A directory cannot be moved into itself"));
            }
            let parent = self.parent(dir)?;
            if parent == dir {
                return Ok(());
            }
            dir = parent;
        }
        Err(VfsError::Invalid("The directory is not below the root: what was written is damaged"))
    }
}

fn replace(
    change: &mut Change<'_>,
    from: End<'_>,
    to: End<'_>,
    source: Moved,
    target: Option<Moved>,
) -> Result<(), VfsError> {
    if let Some(target) = target {
        match (source.is_dir(), target.is_dir()) {
            (true, false) => return Err(VfsError::NotADirectory(target.ino)),
            (false, true) => return Err(VfsError::IsADirectory(target.ino)),
            (true, true) => change.ensure_empty(target.ino)?,
            (false, false) => {}
        }
        change.lose_name(target.ino)?;
    }
    rely_on(change, source)?;
    if from.dir == to.dir {
        change.rename_in(from.dir, from.name, to.name, source.ino, source.kind);
    } else {
        change.unlink(from.dir, from.name);
        change.link(to.dir, to.name, source.ino, source.kind);
    }
    change.edit(source.ino, |inode| inode.parent = to.dir)?;
    change.touch(from.dir, -source.subdirs())?;
    change.touch(to.dir, source.subdirs() - target.map_or(0, Moved::subdirs))
}

/// Makes the bytes durable first: programs rename a finished file into place, and expect it to be complete after a power cut too.
fn rely_on(change: &mut Change<'_>, moved: Moved) -> Result<(), VfsError> {
    if change.inode(moved.ino)?.has_bytes {
        change.tx.rely_on(moved.ino);
    }
    Ok(())
}

fn exchange(
    change: &mut Change<'_>,
    from: End<'_>,
    to: End<'_>,
    source: Moved,
    target: Moved,
) -> Result<(), VfsError> {
    rely_on(change, source)?;
    rely_on(change, target)?;
    change.link(from.dir, from.name, target.ino, target.kind);
    change.link(to.dir, to.name, source.ino, source.kind);
    change.edit(source.ino, |inode| inode.parent = to.dir)?;
    change.edit(target.ino, |inode| inode.parent = from.dir)?;
    change.touch(from.dir, target.subdirs() - source.subdirs())?;
    change.touch(to.dir, source.subdirs() - target.subdirs())
}
