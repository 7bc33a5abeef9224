//! Renaming over existing entries, and removing, in cases that Windows refuses and other systems allow.
//!
//! On Windows a rename replaces neither a read-only file nor a link to a directory, and fails while another process has one of the two
//! open; a read-only entry cannot even be removed. Paths are in directories that the caller holds ([`super::open`]).

use std::fs;
use std::io;
use std::os::windows::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use super::open::Held;

/// Renames; a file or link at `to` is replaced atomically, unless Windows cannot do that: then it is missing for a moment, which the
/// next run repairs if interrupted.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    patiently(|| match fs::rename(from, to) {
        Err(error) if is_passing(&error) && make_way(from, to)? => fs::rename(from, to),
        outcome => outcome,
    })
}

/// Retries for a while if another process has the file open: a virus scanner, an indexer, a backup. RCC does the same.
pub fn patiently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(40);
    let mut tries = 1;
    loop {
        match attempt() {
            Err(error) if is_passing(&error) && tries < TRIES => std::thread::sleep(PAUSE * tries),
            outcome => return outcome,
        }
        tries += 1;
    }
}

fn is_passing(error: &io::Error) -> bool {
    /// ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_ALREADY_EXISTS.
    const PASSING: [i32; 3] = [5, 32, 183];
    error.raw_os_error().is_some_and(|number| PASSING.contains(&number))
}

/// Removes an entry at `to` that renaming `from` would not replace: a read-only one, or any if one of the two is a link to a
/// directory; never a directory. False if there was no such entry.
fn make_way(from: &Path, to: &Path) -> io::Result<bool> {
    let leads_to_dir = |meta: &fs::Metadata| meta.file_type().is_symlink_dir();
    let Ok(meta) = to.symlink_metadata() else { return Ok(false) };
    let is_in_the_way = meta.permissions().readonly()
        || leads_to_dir(&meta)
        || from.symlink_metadata().is_ok_and(|meta| leads_to_dir(&meta));
    if meta.is_dir() || !is_in_the_way {
        return Ok(false);
    }
    remove_leaf(to, &meta).map(|()| true)
}

/// The outcome of a removal: true if the entry existed.
pub fn is_removed(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes everything below `root` that is read-only and not a directory. Each directory is held from when it is found until it has
/// been searched, which also keeps its parents in place.
pub fn remove_read_only(root: Held) -> io::Result<()> {
    let mut waiting = vec![root];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir.path())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            match meta.is_dir() {
                true => waiting.push(dir.open_dir(entry.file_name())?),
                false if meta.permissions().readonly() => remove_leaf(&entry.path(), &meta)?,
                false => {}
            }
        }
    }
    Ok(())
}

/// Removes a file, or a link of either kind.
pub fn remove_leaf(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    if meta.file_type().is_symlink_dir() {
        return fs::remove_dir(path);
    }
    match fs::remove_file(path) {
        // File systems without the newer way to remove, which ignores the read-only bit.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && meta.permissions().readonly() => {
            let mut permissions = meta.permissions();
            #[allow(clippy::permissions_set_readonly_false, reason = "on Windows it is one bit")]
            permissions.set_readonly(false);
            fs::set_permissions(path, permissions)?;
            fs::remove_file(path)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::at::{self, DirEntryKind, TreeDir};
    use crate::sys::fs::name::Name;
    use std::fs::File;

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn rename_waits_for_a_process_that_only_looks() {
        use std::os::windows::fs::OpenOptionsExt;
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        fs::write(temp.path().join("f"), "new").unwrap();
        fs::write(temp.path().join("g"), "old").unwrap();
        let looked_at = File::options().read(true).share_mode(0).open(temp.path().join("g")).unwrap();
        let looker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(looked_at);
        });
        tree.rename(name("f"), name("g")).unwrap();
        looker.join().unwrap();
        assert_eq!(fs::read(temp.path().join("g")).unwrap(), b"new");
        assert_eq!(tree.entry_names().unwrap().len(), 1);
    }

    #[test]
    fn a_rename_replaces_no_directory() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        fs::write(temp.path().join("f"), "x").unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        assert!(!make_way(&temp.path().join("f"), &temp.path().join("d")).unwrap());
        assert!(tree.rename(name("f"), name("d")).is_err());
        assert!(temp.path().join("d").is_dir() && temp.path().join("f").is_file());
    }

    #[test]
    fn links_to_directories_replace_and_are_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        fs::create_dir_all(temp.path().join("d/e")).unwrap();
        for text in ["one", "other"] {
            let made = tree.symlink(name(text), b"d/e");
            // Wine reports success without creating the link.
            if made.is_err() || tree.find(name(text)).unwrap().is_none() {
                return eprintln!("skipped: no symbolic links here: {made:?}");
            }
        }
        assert_eq!(tree.find(name("one")).unwrap(), Some(DirEntryKind::Link(b"d\\e".as_slice().into())));
        fs::write(temp.path().join("f"), "x").unwrap();
        tree.rename(name("one"), name("other")).unwrap();
        tree.rename(name("f"), name("other")).unwrap();
        fs::write(temp.path().join("g"), "x").unwrap();
        tree.symlink(name("one"), b"d/e").unwrap();
        tree.rename(name("one"), name("g")).unwrap();
        assert!(matches!(tree.find(name("g")).unwrap(), Some(DirEntryKind::Link(_))));
        assert!(temp.path().join("d/e").is_dir());
    }

    #[test]
    fn a_tree_with_read_only_files_goes_by_the_way_of_older_file_systems_too() {
        let temp = tempfile::tempdir().unwrap();
        let tree = TreeDir::open(temp.path()).unwrap();
        fs::create_dir_all(temp.path().join("t/deep/er")).unwrap();
        for text in ["t/f", "t/deep/er/f"] {
            at::set_mode(&File::create(temp.path().join(text)).unwrap(), 0o444).unwrap();
        }
        fs::write(temp.path().join("t/deep/stays"), "x").unwrap();
        remove_read_only(Held::open(&temp.path().join("t")).unwrap()).unwrap();
        assert!(temp.path().join("t/deep/stays").exists() && !temp.path().join("t/deep/er/f").exists());
        assert!(!temp.path().join("t/f").exists() && tree.remove(name("t")).unwrap());
    }
}
