//! A directory that exists in our own mount namespace only, at any path, with its surroundings unchanged.
//!
//! A small tmpfs is mounted over the parent directory, and every entry of the parent appears in it again: directories and files as
//! bind mounts including everything mounted below, links as links. So changes *inside* them reach the real directories. Creating a new
//! entry directly in the overmounted directory cannot work that way, so it is refused: the tmpfs is made read-only, so that nothing is
//! lost silently.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, StatxFlags, mkdirat, openat, readlinkat, statx, symlinkat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount,
    open_tree,
};

use super::{Mountpoint, put};

/// A directory with more entries than this is not overmounted: that would take longer than a copy.
const MOST_ENTRIES: usize = 20_000;

/// An overmounted directory, still writable.
pub struct Overmount {
    root: OwnedFd,
    point: Mountpoint,
}

/// Makes `path` a directory to mount on. `keep` are paths that must stay reachable even where their parents may not be listed. The
/// current directory is kept.
pub fn overmount(path: &Path, keep: &[PathBuf]) -> io::Result<Overmount> {
    let here = current_dir();
    let (found, missing) = split(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open(&found, flags, Mode::empty())?;
    let entries = entries(&old, &found, keep.iter().chain(&here))?;
    let root = tmpfs()?;
    put(&root, &old)?;
    for name in entries.iter().filter(|name| Some(*name) != missing.first()) {
        // An entry that vanished meanwhile does not matter; any other failure is logged.
        if let Err(error) = show(&old, &root, name) {
            log::warn!("{} is not visible here: {error}", found.join(name).display());
        }
    }
    let mut dir = root.try_clone()?;
    for name in &missing {
        mkdirat(&dir, name, Mode::from_raw_mode(0o755))?;
        dir = openat(&dir, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    if found == Path::new("/") {
        // The new root is mounted over the old one, so this is not a chroot jail: user namespaces can still be created.
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
    }
    // If this process cannot enter its directory by path again, it stays in the original one, under the tmpfs.
    if let Some(here) = here
        && let Err(error) = rustix::process::chdir(&here)
    {
        log::debug!("{} is entered through the old directory: {error}", here.display());
    }
    Ok(Overmount { root, point: Mountpoint::of(dir, path) })
}

fn current_dir() -> Option<PathBuf> {
    let here = rustix::process::getcwd(Vec::new()).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(here.to_bytes())))
}

impl Overmount {
    /// The directory to mount on.
    pub fn point(&self) -> &Mountpoint {
        &self.point
    }

    /// From now on nothing new can be created directly in the overmounted directory.
    pub fn make_read_only(&self) -> io::Result<()> {
        let context = fspick(&self.root, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
        fsconfig_set_flag(&context, "ro")?;
        Ok(fsconfig_reconfigure(&context)?)
    }
}

/// The deepest existing directory above `path`, and the names missing below it: at least the last one, which is created again even if
/// it exists, so that no process outside can remove it.
fn split(path: &Path) -> io::Result<(PathBuf, Vec<OsString>)> {
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is not below /"));
        };
        missing.insert(0, name.to_owned());
        match fs::metadata(parent) {
            Ok(meta) if meta.is_dir() => return Ok((parent.to_owned(), missing)),
            Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
            // What cannot be reached counts as absent, and hiding it hides nothing.
            Err(_) => at = parent,
        }
    }
}

/// The names in the directory at `found`, and those on the way to the paths that must stay reachable.
fn entries<'a>(
    dir: &OwnedFd,
    found: &Path,
    keep: impl Iterator<Item = &'a PathBuf>,
) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(readable) = openat(dir, ".", flags, Mode::empty()) {
        for entry in rustix::fs::Dir::read_from(&readable)? {
            let entry = entry?;
            let name = CStr::to_bytes(entry.file_name());
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
            if names.len() > MOST_ENTRIES {
                let why = format!("{} has more than {MOST_ENTRIES} entries", found.display());
                return Err(io::Error::other(why));
            }
        }
    }
    for path in keep {
        let name = path.strip_prefix(found).ok().and_then(|below| below.components().next());
        let name = name.map(|component| component.as_os_str().to_owned());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    Ok(names)
}

/// A new tmpfs that is not mounted anywhere yet.
fn tmpfs() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "holofs")?;
    fsconfig_set_string(&context, "mode", "0755")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Makes the entry `name` of `old` appear in `new`.
fn show(old: &OwnedFd, new: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let kind = statx(old, name, flags, StatxFlags::TYPE)?.stx_mode;
    match FileType::from_raw_mode(kind.into()) {
        FileType::Symlink => {
            let target = readlinkat(old, name, Vec::new())?;
            return Ok(symlinkat(&target, new, name)?);
        }
        FileType::Directory => mkdirat(new, name, Mode::from_raw_mode(0o755))?,
        _ => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(new, name, flags, Mode::from_raw_mode(0o644)).map(drop)?;
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(old, name, flags)?;
    Ok(move_mount(tree.as_fd(), "", new, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    fn the_deepest_directory_that_is_there_is_what_gets_covered() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("there")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let case = |below: &str| split(&root.join(below)).map(|(found, missing)| (found, missing.len()));
        assert_eq!(case("there/label").unwrap(), (root.join("there"), 1));
        assert_eq!(case("there").unwrap(), (root.to_owned(), 1));
        assert_eq!(case("a/b/label").unwrap(), (root.to_owned(), 3));
        assert!(case("file/label").is_err());
        assert_eq!(
            split(Path::new("/nowhere/x")).unwrap(),
            (PathBuf::from("/"), vec!["nowhere".into(), "x".into()])
        );
        assert!(split(Path::new("/")).is_err());
    }

    #[test]
    fn what_must_stay_is_kept_even_where_nothing_can_be_listed() {
        let dir = tempfile::tempdir().unwrap();
        let open =
            |flags: OFlags| rustix::fs::open(dir.path(), flags | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let keep = [dir.path().join("home/me"), dir.path().join("a/x"), PathBuf::from("/elsewhere")];
        let names = entries(&open(OFlags::PATH), dir.path(), keep.iter()).unwrap();
        assert_eq!(names, ["a", "home"]);
    }
}
