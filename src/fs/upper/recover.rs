//! Recovery on opening after a crash: reconciles rows and bytes, and reports what cannot be reconciled.
//!
//! Bytes without a row belong to an operation that never returned, or to a file that was removed while in use; they are deleted. One
//! exception: bytes under a number that the database never handed out prove that the database lost commits (its log is gone, or an
//! old copy was put back). These may be user files, so nothing is touched.

use std::collections::HashSet;
use std::fs;

use crate::rcc::digest::Digest;
use crate::space::{bytecode, files};
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;

use super::disk::Disk;
use super::files::BYTES;
use super::journal::Journal;
use super::on_disk::{DATABASE, OPEN, exists, remove};
use super::reading;
use super::schema::Loaded;
use super::tables::{Change, Tables};
use super::{Access, FIRST_CREATED, Ino, UpperError};

/// The database's name while its space is being reset.
const DROPPED: &str = "state.db.dropped";

/// Reconciles rows and bytes. Returns the inodes whose bytes are lost.
pub(super) fn reconcile(
    disk: &Disk,
    journal: &Journal,
    loaded: &mut Loaded,
    access: Access,
) -> Result<Vec<Ino>, UpperError> {
    let files = &disk.files;
    let mut found = HashSet::new();
    let mut others = Vec::new();
    files.for_each(|ino, name| match ino {
        Some(ino) => {
            found.insert(ino);
        }
        None => others.push(name.to_vec()),
    })?;
    if let Some(&ino) = found.iter().find(|ino| ino.0 >= loaded.next_ino.max(FIRST_CREATED)) {
        let what = "the database does not know these bytes: it has lost the last changes".to_owned();
        return Err(UpperError::Damaged { path: files.path_of(ino), what });
    }
    collect(disk, journal, &loaded.tables, &found, access)?;
    for name in others {
        files.remove_unfinished(&name)?;
    }
    let rows = loaded.tables.inodes.iter().filter(|(_, inode)| inode.has_bytes);
    let missing = rows.map(|(&ino, _)| ino).filter(|ino| !found.contains(ino));
    let (unborn, mut lost): (Vec<Ino>, Vec<Ino>) = missing.partition(|ino| loaded.young.contains_key(ino));
    forget_bytes(journal, &mut loaded.tables, &unborn)?;
    lost.sort_unstable();
    Ok(lost)
}

/// The directory of a space, after checking that no other user can have created or written it; `None` if it does not exist.
pub(super) fn ours(dir: &Place) -> Result<Option<OwnedDir>, UpperError> {
    match dir.open() {
        Ok(opened) => Ok(Some(opened)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(UpperError::Io { doing: "use", path: dir.path().to_owned(), source }),
    }
}

/// Removes inodes without names: the kernel may have referenced them while the mount existed, but the mount is gone.
pub(super) fn drop_nameless(
    journal: &Journal,
    loaded: &mut Loaded,
    access: Access,
) -> Result<(), UpperError> {
    let nameless = loaded.tables.inodes.iter().filter(|(_, inode)| inode.nlink == 0).map(|(&ino, _)| ino);
    let nameless: Vec<Ino> = nameless.collect();
    for ino in &nameless {
        loaded.tables.take(*ino);
    }
    if !access.is_writable() {
        return Ok(());
    }
    if !nameless.is_empty() {
        journal.commit(nameless.into_iter().map(Change::Gone).collect())?;
    }
    if access == Access::Writable { journal.end_outliving() } else { Ok(()) }
}

/// Deletes bytes without a row, after the absence of the row is durable. While programs wait for a server to take over, this is left
/// to the next sync; but not for inodes of the catalog, which may get bytes again before it.
fn collect(
    disk: &Disk,
    journal: &Journal,
    tables: &Tables,
    found: &HashSet<Ino>,
    access: Access,
) -> Result<(), UpperError> {
    let has_bytes = |ino: &Ino| tables.inodes.get(ino).is_some_and(|inode| inode.has_bytes);
    let can_wait = |ino: &Ino| access == Access::TakenOver && ino.0 >= FIRST_CREATED;
    let (later, orphans): (Vec<Ino>, Vec<Ino>) =
        found.iter().filter(|ino| !has_bytes(ino)).partition(|ino| can_wait(ino));
    for ino in later {
        disk.drop_bytes(ino);
    }
    if !orphans.is_empty() {
        journal.sync()?;
    }
    for orphan in orphans {
        log::debug!("Collects the bytes of inode {orphan}, which has no names");
        disk.files.remove(orphan)?;
    }
    Ok(())
}

/// Handles inodes whose rows survived a power cut while the names of their new files did not. What was written to them was not
/// synced, and is lost: a created inode becomes empty, an inode of the catalog is as in the catalog again.
fn forget_bytes(journal: &Journal, tables: &mut Tables, unborn: &[Ino]) -> Result<(), UpperError> {
    let mut changes = Vec::new();
    for &ino in unborn {
        log::warn!("What was written to inode {ino} right before a power cut was not synced, and is lost");
        if let Some(inode) = tables.inodes.get_mut(&ino) {
            inode.has_bytes = false;
            changes.push(Change::Inode(ino, inode.clone()));
        }
    }
    if changes.is_empty() { Ok(()) } else { journal.commit(changes.into()) }
}

/// Whether the space in `dir` was ever written. Bytes without a database are an error. An interrupted reset is completed if `access`
/// allows writing, and counts as done otherwise.
pub(super) fn was_written(dir: &Place, access: Access) -> Result<bool, UpperError> {
    let (database, bytes) = (dir.join(DATABASE), dir.join(BYTES));
    if exists(&database)? {
        return Ok(true);
    }
    if !exists(&bytes)? {
        return Ok(false);
    }
    if exists(&dir.join(DROPPED))? {
        return if access.is_writable() { reset(dir).map(|()| false) } else { Ok(false) };
    }
    let failed = |source| UpperError::Io { doing: "list", path: bytes.clone(), source };
    match fs::read_dir(&bytes).map_err(failed)?.next() {
        None => Ok(false),
        Some(_) => {
            let what = "it is missing, but the bytes of files are there".to_owned();
            Err(UpperError::Damaged { path: database, what })
        }
    }
}

/// Drops everything that was written to the space in `dir`. If interrupted, the next mount completes it.
pub fn reset(dir: impl Into<Place>) -> Result<(), UpperError> {
    let dir = &dir.into();
    let Some(owned) = ours(dir)? else { return Ok(()) };
    // First: bytecode must never exist without the sources that it was compiled from.
    bytecode::forget(dir).map_err(|source| UpperError::Io {
        doing: "drop",
        path: dir.path().to_owned(),
        source,
    })?;
    let (database, dropped) = (dir.join(DATABASE), dir.join(DROPPED));
    if exists(&database)? {
        let renamed = fs::rename(&database, &dropped);
        renamed.map_err(|source| UpperError::Io { doing: "drop", path: database, source })?;
    } else if exists(&dir.join(BYTES))? {
        owned.mark(DROPPED.as_ref()).map_err(|source| UpperError::Io {
            doing: "write",
            path: dropped.clone(),
            source,
        })?;
    }
    for name in [OPEN, "state.db-wal", "state.db-shm", files::CONVERTED] {
        remove(&dir.join(name))?;
    }
    let bytes = dir.below(BYTES);
    bytes.remove().map_err(|source| UpperError::Io { doing: "remove", path: bytes.into(), source })?;
    remove(&dropped)
}

/// The catalog that the written state in `dir` belongs to; `None` if nothing was written.
pub fn written_catalog(dir: impl Into<Place>) -> Result<Option<Digest>, UpperError> {
    let dir = &dir.into();
    ours(dir)?;
    if !was_written(dir, Access::ReadOnly)? {
        return Ok(None);
    }
    let (journal, loaded) = reading::load(dir, Access::ReadOnly)?;
    let catalog = loaded.catalog;
    let parsed = catalog.parse().map_err(|_| UpperError::Damaged {
        path: journal.path().to_owned(),
        what: format!("it names the catalog {catalog:?}"),
    });
    parsed.map(Some)
}
