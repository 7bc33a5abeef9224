//! Changing a directory tree, one held directory at a time: the counterpart of [`super::at`] on Unix.
//!
//! A directory is held while its entries are worked on, so that it cannot be replaced ([`super::open`]), and nothing is opened,
//! created or removed through a link. The only mode is the read-only bit, which RCC records as 0444, and as 0666 if it is not set.

use std::borrow::Cow;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io;
use std::os::windows::fs::{symlink_dir, symlink_file};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use super::facts::{DIR_MODE, DirEntry, DirEntryKind, DirState, FileFacts};
use super::info::Info;
use super::open::{self, Held};
use super::replace;
use crate::sys::fs::name::{Name, OwnedName};

/// A directory of a tree that may be hostile.
#[derive(Debug)]
pub struct TreeDir(Held);

impl TreeDir {
    /// Holds the directory at `path`, which is trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<TreeDir> {
        Held::open(path).map(TreeDir)
    }

    /// Holds the directory `name`; a link there is an error.
    pub fn open_dir(&self, name: Name<'_>) -> io::Result<TreeDir> {
        self.0.open_dir(name.as_str()).map(TreeDir)
    }

    /// Another handle of the same directory.
    pub fn reopen(&self) -> io::Result<TreeDir> {
        self.0.reopen().map(TreeDir)
    }

    fn path(&self, name: Name<'_>) -> PathBuf {
        self.0.path().join(name.as_str())
    }

    /// Its path.
    pub(super) fn place(&self) -> &Path {
        self.0.path()
    }

    /// Creates the directory `name`, and holds it.
    pub fn make_dir(&self, name: Name<'_>) -> io::Result<TreeDir> {
        fs::create_dir(self.path(name))?;
        self.open_dir(name)
    }

    /// Creates the file `name`, which must not exist, and opens it for reading and writing; Windows has no mode.
    pub fn create(&self, name: Name<'_>, _mode: u16) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    /// Opens the regular file `name` for reading.
    pub fn open_file(&self, name: Name<'_>) -> io::Result<File> {
        open::open_file(&self.path(name), OpenOptions::new().read(true))
    }

    /// Creates the symbolic link `name` with the target text `target`. As in Go, and so in RCC, it is a directory link if its target
    /// is an existing directory.
    pub fn symlink(&self, name: Name<'_>, target: &[u8]) -> io::Result<()> {
        /// ERROR_PRIVILEGE_NOT_HELD.
        const NO_PRIVILEGE: i32 = 1314;
        let target = target_on_disk(target);
        let target = std::str::from_utf8(&target).map_err(|_| io::ErrorKind::InvalidInput)?;
        let is_dir = self.0.path().join(target).is_dir();
        let path = self.path(name);
        let made = if is_dir { symlink_dir(target, path) } else { symlink_file(target, path) };
        made.map_err(|error| match error.raw_os_error() {
            Some(NO_PRIVILEGE) => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "Windows lets only administrators make symbolic links, or everybody in its developer mode",
            ),
            _ => error,
        })
    }

    /// Creates a hard link here to the file at the trusted path `from`.
    pub fn hardlink(&self, name: Name<'_>, from: &Path) -> io::Result<()> {
        fs::hard_link(from, self.path(name))
    }

    /// Creates the hard link `new` here to the file `name` of `from`; a symbolic link there would itself be linked.
    pub fn hardlink_from(&self, from: &TreeDir, name: Name<'_>, new: Name<'_>) -> io::Result<()> {
        fs::hard_link(from.path(name), self.path(new))
    }

    /// The facts of the entry `name`; links are not followed.
    pub fn facts(&self, name: Name<'_>) -> io::Result<FileFacts> {
        open::look(&self.path(name)).map(|info| info.facts())
    }

    /// Opens the file `name` for reading, and returns its facts.
    pub fn open_with_facts(&self, name: Name<'_>) -> io::Result<(File, FileFacts)> {
        let file = self.open_file(name)?;
        let facts = Info::of(&file)?.facts();
        Ok((file, facts))
    }

    /// Only snapshots are patched, and Windows has none ([`super::btrfs`]).
    pub fn open_to_patch(&self, _path: &Path) -> io::Result<File> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "There are no snapshots on Windows"))
    }

    /// Access control lists decide who may do what here, and they are inherited: everything counts as this user's own.
    pub fn owner_and_mode(&self) -> io::Result<(u32, u16)> {
        Ok((crate::sys::process::this_process::effective_uid(), 0o700))
    }

    /// There is no mode to set.
    pub fn set_dir_mode(&self, _mode: u16) -> io::Result<()> {
        Ok(())
    }

    /// Renames within this directory; a file or link at `to` is replaced ([`replace::rename`]).
    pub fn rename(&self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        replace::rename(&self.path(from), &self.path(to))
    }

    /// Renames within this directory to a name that must not exist.
    pub fn rename_new(&self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        replace::patiently(|| match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(&from, &to),
        })
    }

    /// Removes `name` and everything below it; links are not followed. True if it existed.
    pub fn remove(&self, name: Name<'_>) -> io::Result<bool> {
        match self.remove_plain(name)? {
            Some(removed) => Ok(removed),
            // From here on it is removed through handles.
            None => replace::is_removed(self.remove_tree(name)),
        }
    }

    fn remove_tree(&self, name: Name<'_>) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_dir_all(&path) {
            // Something in it is read-only: that is removed first.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                replace::remove_read_only(self.0.open_dir(name.as_str())?)?;
                fs::remove_dir_all(path)
            }
            outcome => outcome,
        }
    }

    /// Removes `name` unless it is a directory, for which it returns `None`; otherwise true if it existed. A link or junction itself
    /// is removed.
    pub fn remove_plain(&self, name: Name<'_>) -> io::Result<Option<bool>> {
        let path = self.path(name);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => Ok(None),
            found => replace::is_removed(found.and_then(|meta| replace::remove_leaf(&path, &meta))).map(Some),
        }
    }

    /// The names of all entries, unordered.
    pub fn entry_names(&self) -> io::Result<Vec<OwnedName>> {
        fs::read_dir(self.0.path())?.map(|entry| name_of(&entry?)).collect()
    }

    /// The kind of the entry `name`; `None` if there is none.
    pub fn find(&self, name: Name<'_>) -> io::Result<Option<DirEntryKind>> {
        let path = self.path(name);
        match path.symlink_metadata() {
            Ok(meta) => kind_of(&path, &meta).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An error of kind `Unsupported`: a directory here has no change time that programs cannot set.
    pub fn state(&self) -> io::Result<DirState> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// All entries, unordered. Entries that vanish meanwhile are left out.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.0.path())? {
            let entry = entry?;
            match entry.metadata().and_then(|meta| kind_of(&entry.path(), &meta)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                kind => entries.push(DirEntry { kind: kind?, name: name_of(&entry)? }),
            }
        }
        Ok(entries)
    }
}

/// A name that no catalog can contain is an error: the entry could be neither kept nor removed reliably.
fn name_of(entry: &fs::DirEntry) -> io::Result<OwnedName> {
    OwnedName::new(entry.file_name().as_encoded_bytes()).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", entry.path().display()))
    })
}

fn kind_of(path: &Path, meta: &fs::Metadata) -> io::Result<DirEntryKind> {
    if meta.is_symlink() {
        let text = fs::read_link(path)?;
        return Ok(DirEntryKind::Link(text.as_os_str().as_encoded_bytes().into()));
    }
    if meta.is_dir() {
        return Ok(DirEntryKind::Dir);
    }
    let mode = if meta.permissions().readonly() { 0o444 } else { 0o666 };
    Ok(if meta.is_file() { DirEntryKind::File { size: meta.len(), mode } } else { DirEntryKind::Other })
}

/// Sets the read-only bit of an open file if `mode` has no owner write permission, as Go and therefore RCC do.
pub fn set_mode(file: &File, mode: u16) -> io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(mode & 0o200 == 0);
    file.set_permissions(permissions)
}

/// The mode that a file created with the 12 permission bits `mode` has on disk: 0666, or 0444.
pub fn mode_on_disk(mode: u16) -> u16 {
    if mode & 0o200 == 0 { 0o444 } else { 0o666 }
}

/// The text that a link to `target` has on disk: Windows does not follow links that contain `/`, and Go, and so RCC, creates none.
pub fn target_on_disk(target: &[u8]) -> Cow<'_, [u8]> {
    target.iter().map(|&byte| if byte == b'/' { b'\\' } else { byte }).collect::<Vec<u8>>().into()
}

/// Sets access and modification time of an open file, in seconds since 1970.
pub fn set_times(file: &File, seconds: i64) -> io::Result<()> {
    let since = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since };
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
}

/// This call requires an administrator here, so nothing may rely on it.
pub fn sync_file_system(_dir: &TreeDir) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Syncs a new file: NTFS journals only sizes and times, so a power cut could leave a file of the right size and time that is full of
/// zeros.
pub fn settle(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// There is no umask.
pub fn umask() -> Option<u16> {
    None
}

/// True for errors that would hit every other file too: no space, no quota, a read-only or broken file system.
pub fn is_hopeless(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn entries_are_listed_with_their_facts() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        drop(tree.make_dir(name("d")).unwrap());
        let file = tree.create(name("f"), 0o444).unwrap();
        set_mode(&file, 0o444).unwrap();
        drop(file);
        fs::write(temp.path().join("g"), "abc").unwrap();
        let mut entries = tree.entries().unwrap();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let kinds: Vec<_> = entries.into_iter().map(|entry| entry.kind).collect();
        let file = |size, mode| DirEntryKind::File { size, mode };
        assert_eq!(kinds, [DirEntryKind::Dir, file(0, 0o444), file(3, 0o666)]);
        assert_eq!(tree.find(name("absent")).unwrap(), None);
    }

    #[test]
    fn a_read_only_file_is_replaced_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        for text in ["f", "g"] {
            let file = tree.create(name(text), 0o444).unwrap();
            set_mode(&file, 0o444).unwrap();
        }
        tree.rename(name("f"), name("g")).unwrap();
        assert_eq!(tree.entry_names().unwrap().len(), 1);
        assert!(tree.remove(name("g")).unwrap());
        assert!(!tree.remove(name("g")).unwrap());
    }

    #[test]
    fn only_what_is_no_directory_is_removed_as_plain() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("f"), "x").unwrap();
        let removed = ["d", "f", "f"].map(|text| tree.remove_plain(name(text)).unwrap());
        assert_eq!(removed, [None, Some(true), Some(false)]);
        assert_eq!(tree.entry_names().unwrap().len(), 1);
    }

    #[test]
    fn a_held_directory_stays_where_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        let inner = tree.make_dir(name("d")).unwrap();
        inner.create(name("f"), 0o666).unwrap();
        assert!(fs::rename(temp.path().join("d"), temp.path().join("e")).is_err());
        drop(inner);
        tree.rename_new(name("d"), name("e")).unwrap();
        assert!(tree.rename_new(name("e"), name("e")).is_err());
        assert!(tree.remove(name("e")).unwrap());
    }

    #[test]
    fn links_are_neither_opened_nor_written_through_nor_followed_by_removing() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("precious"), "x").unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        let target = outside.path().to_str().unwrap().as_bytes().to_vec();
        if let Err(error) = tree.symlink(name("d"), &target) {
            return eprintln!("skipped: no symbolic links here: {error}");
        }
        assert!(open::is_link_refused(&tree.open_dir(name("d")).unwrap_err()));
        assert!(tree.create(name("d"), 0o666).is_err());
        assert!(matches!(tree.find(name("d")).unwrap(), Some(DirEntryKind::Link(_))));
        assert!(tree.remove(name("d")).unwrap());
        assert!(outside.path().join("precious").exists());
    }
}
