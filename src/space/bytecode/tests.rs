//! The rules of the pack and of a space's own directory, tested without Python.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::pack::{self, Fresh, Pack};
use super::*;
use crate::rcc::catalog::CatalogId;
use crate::rcc::digest::{Digest, Regime};

fn id(text: &str) -> CatalogId {
    Digest::of(Regime::Sha256, text.as_bytes())
}

/// Bytes with the form of a checked hash-based `.pyc`.
fn pyc(content: &[u8]) -> Vec<u8> {
    [&b"\xa7\r\r\n\x03\0\0\0hashhash"[..], content, b"."].concat()
}

fn fresh(path: &str, imported: bool, content: &[u8]) -> Fresh {
    Fresh { path: path.to_owned(), imported, origin: String::new(), bytes: pyc(content) }
}

/// All pieces of the pack, in order; `None` for a damaged piece.
fn read(place: &Place, catalog: CatalogId) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    let mut all = Vec::new();
    Pack::open(place, catalog)
        .unwrap()?
        .for_each(|piece, bytes| {
            all.push((piece.path.clone(), bytes.map(<[u8]>::to_owned)));
            Ok(true)
        })
        .unwrap();
    Some(all)
}

fn pack_in(temp: &tempfile::TempDir) -> Place {
    Place::top(temp.path().join("holofs")).below("pyc/x.0/pack")
}

#[test]
fn pack_keeps_the_order_of_first_use_and_what_was_imported_comes_first() {
    let temp = tempfile::tempdir().unwrap();
    let place = pack_in(&temp);
    assert_eq!(read(&place, id("a")), None);
    let add = |list: Vec<Fresh>, imported: &[&str]| {
        let imported: Vec<String> = imported.iter().map(|&path| path.to_owned()).collect();
        pack::add(&place, id("a"), list, &imported).unwrap()
    };
    let paths = || read(&place, id("a")).unwrap().into_iter().map(|(path, _)| path).collect::<String>();
    assert_eq!(add(vec![fresh("a", false, b"a"), fresh("b", false, b"b"), fresh("c", true, b"c")], &[]), 3);
    assert_eq!(paths(), "cab");
    assert_eq!(add(vec![fresh("d", true, b"d")], &["b", "unknown"]), 4);
    assert_eq!(paths(), "cbda");
    assert_eq!(add(vec![fresh("c", true, b"new")], &[]), 4);
    assert_eq!(paths(), "bdca");
    assert_eq!(read(&place, id("b")), None, "it is of another catalog");
    // Abandoned parts are removed.
    let part = place.path().with_file_name(".part-x");
    fs::write(&part, "x").unwrap();
    pack::tidy(&place).unwrap();
    assert!(!part.exists() && place.is_there().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_pack_gives_the_right_bytes_or_none(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        at in any::<proptest::sample::Index>(), flip in 1u8..=255, cut in any::<bool>(),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let place = pack_in(&temp);
        let list: Vec<Fresh> =
            contents.iter().enumerate().map(|(n, content)| fresh(&n.to_string(), true, content)).collect();
        let right: BTreeMap<String, Vec<u8>> =
            list.iter().map(|fresh| (fresh.path.clone(), fresh.bytes.clone())).collect();
        pack::add(&place, id("a"), list, &[]).unwrap();
        let whole = read(&place, id("a")).unwrap();
        prop_assert!(whole.iter().all(|(path, bytes)| bytes.as_ref() == right.get(path)));
        let mut stored = fs::read(&place).unwrap();
        let at = at.index(stored.len());
        if cut { stored.truncate(at) } else { stored[at] ^= flip }
        fs::write(&place, &stored).unwrap();
        for (path, bytes) in read(&place, id("a")).unwrap_or_default() {
            // A damaged name is rejected later: it is of no source of the catalog, or Python compares its hash.
            if let (Some(bytes), Some(right)) = (bytes, right.get(&path)) {
                prop_assert!(&bytes == right || right_of_another(&bytes, &contents));
            }
        }
    }

    #[test]
    fn what_was_written_before_the_space_was_reset_is_never_found_after(
        steps in proptest::collection::vec(0u8..6, 1..25),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let state = Place::top(temp.path().join("state"));
        // What a program wrote, and in which directory of which catalog it should be found; leftover processes write into earlier
        // ones.
        let (mut model, mut former): (BTreeMap<&str, u32>, Vec<PathBuf>) = (BTreeMap::new(), Vec::new());
        let mut current = "one";
        for (number, step) in (0u32..).zip(steps) {
            match step {
                0 => { forget(&state).unwrap(); model.clear(); }
                1 | 2 => {
                    let other = if step == 1 { "one" } else { "two" };
                    if other != current { model.clear(); }
                    current = other;
                }
                3 => for tree in &former { fs::create_dir_all(tree).unwrap(); fs::write(tree.join("x.pyc"), "left over").unwrap(); },
                _ => {
                    let tree = own_tree(&state, current).unwrap();
                    fs::write(tree.join("x.pyc"), number.to_string()).unwrap();
                    model.insert(current, number);
                    former.retain(|former| *former != tree);
                }
            }
            if step != 3 {
                let tree = own_tree(&state, current).unwrap();
                let found = fs::read_to_string(tree.join("x.pyc")).ok();
                prop_assert_eq!(found, model.get(current).map(ToString::to_string));
                former.push(tree);
                if step > 3 { former.pop(); }
            }
            let now = own_tree(&state, current).unwrap();
            former.retain(|former| *former != now);
        }
    }
}

/// In a damaged head two pieces may be swapped; their bytes are still intact.
fn right_of_another(bytes: &[u8], contents: &[Vec<u8>]) -> bool {
    contents.iter().any(|content| pyc(content) == bytes)
}

#[test]
fn several_who_ask_at_once_get_the_same_directory() {
    let temp = tempfile::tempdir().unwrap();
    let state = Place::top(temp.path().join("state"));
    let trees: std::collections::BTreeSet<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| own_tree(&state, "one").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(trees.len(), 1);
}

#[test]
#[cfg(unix)]
fn directory_that_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let state = Place::top(temp.path().join("state"));
    let tree = own_tree(&state, "one").unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(own_tree(&state, "one").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

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
#[cfg(unix)]
fn what_a_program_put_in_the_place_of_the_mark_is_neither_waited_for_nor_read_without_end() {
    let temp = tempfile::tempdir().unwrap();
    let place = pack_in(&temp);
    pack::add(&place, id("a"), vec![fresh("a", true, b"a")], &[]).unwrap();
    let tree = temp.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mark = tree.join(".seeded");
    let may_seed = || {
        let (prefix, place) =
            (Prefix { path: tree.clone(), tree: tree.clone(), frozen: false }, place.clone());
        let (send, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(seed::may_seed(&prefix, &place)));
        received.recv_timeout(Duration::from_secs(10))
    };
    assert_eq!(may_seed(), Ok(true));
    fs::write(&mark, dir::file_state(&place).unwrap().text).unwrap();
    assert_eq!(may_seed(), Ok(false));
    fs::remove_file(&mark).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&mark).status().unwrap().success());
    assert_eq!(may_seed(), Ok(true));
    fs::remove_file(&mark).unwrap();
    dir::symlink(Path::new("/dev/zero"), &mark).unwrap();
    assert_eq!(may_seed(), Ok(true));
}
