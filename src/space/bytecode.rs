//! Bytecode: what Python compiles from the sources of a catalog, once for all its spaces of one user.
//!
//! Catalogs hold no `.pyc`, and RCC forbids writing them, so every start of Python compiles what it imports. Here Python
//! gets a place for them (`PYTHONPYCACHEPREFIX`), where it mirrors the absolute path of each source:
//!
//! ```text
//! <holofs>/spaces/<label>/pyc/<base>/<label>  ─link─▶  <holofs>/pyc/<catalog>/<user>/     shared by all spaces
//! ```
//! Python takes a `.pyc` if the time and size of the source are those it was compiled from, which are constant for what a
//! catalog holds. One kind of source is different in every space and yet has the same time and size: a relocated one.
//! A directory stands where its `.pyc` would be, so Python can neither find nor write one and compiles it each time.
//!
//! A space that was written to gets a directory of its own instead of the link. Nothing here is shared between users, and
//! all of it can be deleted at any time.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::rcc::home::Home;
use crate::space::Space;
use crate::store::index::{Index, Ino, NodeKind};
use crate::sys::fs::dir;

/// What ends the name of a source.
const SOURCE: &[u8] = b".py";
/// Python writes a file for each level of optimization.
const LEVELS: [&str; 3] = ["", ".opt-1", ".opt-2"];

/// The value of `PYTHONPYCACHEPREFIX` for `space`, with everything in place; `None` if the catalog has no Python that we know
/// the tag of.
pub fn prefix(home: &Home, space: &Space, index: &Index, uid: u32) -> io::Result<Option<PathBuf>> {
    let tags = tags(index);
    if tags.is_empty() {
        return Ok(None);
    }
    let prefix = space.state_dir.join("pyc");
    let mirror = mirror(&prefix, &space.root);
    let parent = mirror.parent().unwrap_or(&prefix);
    dir::ensure_private(parent)?;
    if is_written(space) {
        own(&mirror)?;
    } else {
        let shared = shared(home, index, uid, &tags)?;
        link(&shared, &mirror)?;
    }
    Ok(Some(prefix))
}

/// Where Python looks below `prefix` for the bytecode of what is in `root`: the same path, without what makes it absolute. (On
/// Windows to join an absolute path is to leave `prefix`, and what is linked and removed here would be the space itself.)
fn mirror(prefix: &Path, root: &Path) -> PathBuf {
    let names = root.components().filter(|part| matches!(part, Component::Normal(_)));
    prefix.join(names.collect::<PathBuf>())
}

/// Where the bytecode of all spaces of a catalog is, for one user.
pub fn shared_dir(home: &Home, index: &Index, uid: u32) -> PathBuf {
    let catalog: String = index.id().to_string().chars().take(16).collect();
    home.pyc_dir().join(catalog).join(uid.to_string())
}

/// More than this is not what a program imports, but what was compiled in advance: nothing is read ahead then.
const AHEAD_BYTES: u64 = 64 << 20;

/// Reads all bytecode in `shared` once, so that Python finds it in memory; links are not followed. How many bytes; 0 if there is
/// too much of it, or none.
pub fn read_ahead(shared: &Path) -> io::Result<u64> {
    let (mut files, mut total) = (Vec::new(), 0);
    let mut dirs = vec![shared.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                total += entry.metadata()?.len();
                files.push(entry.path());
            }
            if total > AHEAD_BYTES {
                return Ok(0);
            }
        }
    }
    files.iter().map(|file| io::copy(&mut fs::File::open(file)?, &mut io::sink())).sum()
}

/// True if the space holds more than its catalog.
fn is_written(space: &Space) -> bool {
    space.has_upper()
}

/// The tags of the interpreters in the tree, from the names of their libraries: `lib/python3.11` is `cpython-311`.
fn tags(index: &Index) -> Vec<String> {
    let directory = |dir: Ino, name: &[u8]| {
        let found = index.children(dir).find(|node| node.name.eq_ignore_ascii_case(name))?;
        matches!(found.kind, NodeKind::Dir { .. }).then_some(found.ino)
    };
    let Some(lib) = directory(Ino::ROOT, b"lib") else { return Vec::new() };
    let versions = index.children(lib).filter_map(|node| {
        let version = std::str::from_utf8(node.name).ok()?.strip_prefix("python3.")?;
        let is_dir = matches!(node.kind, NodeKind::Dir { .. });
        (is_dir && version.bytes().all(|byte| byte.is_ascii_digit())).then(|| format!("cpython-3{version}"))
    });
    versions.collect()
}

/// Makes the shared directory, with something in the way of what must not be shared.
fn shared(home: &Home, index: &Index, uid: u32, tags: &[String]) -> io::Result<PathBuf> {
    let shared = shared_dir(home, index, uid);
    let ready = shared.join(".ready");
    if ready.exists() {
        return Ok(shared);
    }
    dir::ensure_private(&shared)?;
    for (ino, _) in index.relocated() {
        for blocker in blockers(index, ino, tags) {
            dir::ensure_private(&shared.join(blocker))?;
        }
    }
    fs::write(ready, b"")?;
    Ok(shared)
}

/// The names under which Python would keep bytecode of the relocated file `ino`; none if it is no source.
fn blockers(index: &Index, ino: Ino, tags: &[String]) -> Vec<PathBuf> {
    let Some(path) = index.path_of(ino).map(|path| path.to_path()) else { return Vec::new() };
    let bytes = path.as_os_str().as_encoded_bytes();
    let Some(stem) = bytes.strip_suffix(SOURCE).and_then(|stem| std::str::from_utf8(stem).ok()) else {
        return Vec::new();
    };
    let names =
        tags.iter().flat_map(|tag| LEVELS.iter().map(move |level| format!("{stem}.{tag}{level}.pyc")));
    names.map(PathBuf::from).collect()
}

/// Makes `mirror` a link to `shared`.
fn link(shared: &Path, mirror: &Path) -> io::Result<()> {
    if fs::read_link(mirror).is_ok_and(|target| target == shared) {
        return Ok(());
    }
    remove(mirror)?;
    match dir::symlink(shared, mirror) {
        // Another run of this space was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes `mirror` a directory of the space's own.
fn own(mirror: &Path) -> io::Result<()> {
    if mirror.is_symlink() {
        dir::remove_symlink(mirror)?;
    }
    dir::ensure_private(mirror)
}

fn remove(mirror: &Path) -> io::Result<()> {
    let outcome = if mirror.is_symlink() { dir::remove_symlink(mirror) } else { fs::remove_dir_all(mirror) };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_mirror_of_a_space_is_below_the_prefix_whatever_the_space_is_called() {
        let mirror = |root: &str| mirror(Path::new("/state/pyc"), Path::new(root));
        assert_eq!(mirror("/home/user/ht/label"), Path::new("/state/pyc/home/user/ht/label"));
        assert_eq!(mirror("//srv/./ht/label/"), Path::new("/state/pyc/srv/ht/label"));
        assert_eq!(mirror("ht/label"), Path::new("/state/pyc/ht/label"));
    }

    #[test]
    #[cfg(windows)]
    fn the_mirror_of_a_space_is_below_the_prefix_and_on_no_drive() {
        let mirror = |root: &str| mirror(Path::new(r"D:\state\pyc"), Path::new(root));
        for root in [r"C:\ht\label", r"\\?\C:\ht\label", r"\ht\label", "C:/ht/label"] {
            assert_eq!(mirror(root), Path::new(r"D:\state\pyc\ht\label"), "{root}");
        }
    }

    #[test]
    fn a_mirror_goes_and_comes_back_and_what_it_leads_to_stays() {
        let temp = tempfile::tempdir().unwrap();
        let (shared, mirror) = (temp.path().join("shared"), temp.path().join("mirror"));
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("one.pyc"), "x").unwrap();
        if let Err(error) = link(&shared, &mirror) {
            return eprintln!("skipped: no symbolic links here: {error}");
        }
        own(&mirror).unwrap();
        assert!(!mirror.is_symlink() && mirror.is_dir());
        link(&shared, &mirror).unwrap();
        remove(&mirror).unwrap();
        assert!(shared.join("one.pyc").exists() && !mirror.is_symlink());
    }

    #[test]
    fn what_is_read_ahead_is_all_of_it_unless_it_is_too_much() {
        let temp = tempfile::tempdir().unwrap();
        let (shared, elsewhere) = (temp.path().join("shared"), temp.path().join("elsewhere"));
        fs::create_dir_all(shared.join("a/b")).unwrap();
        fs::write(&elsewhere, "not ours").unwrap();
        fs::write(shared.join("one.pyc"), [1; 1000]).unwrap();
        fs::write(shared.join("a/b/two.pyc"), [2; 234]).unwrap();
        dir::symlink(&elsewhere, &shared.join("a/link.pyc")).unwrap();
        assert_eq!(read_ahead(&shared).unwrap(), 1234);
        fs::File::create(shared.join("a/huge.pyc")).unwrap().set_len(AHEAD_BYTES).unwrap();
        assert_eq!(read_ahead(&shared).unwrap(), 0);
        assert!(read_ahead(&temp.path().join("none")).is_err());
    }
}
