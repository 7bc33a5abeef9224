//! The rules by which bytecode passes from one catalog to another, tested without Python.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::rcc::catalog::{Catalog, Dir, DirId, EntryKind, File, GoMode, Header};
use crate::rcc::digest::{Digest, Regime};
use crate::sys::fs::name::OwnedName;

/// A catalog's entries: path, and text. A text that begins with `->` is a link's target, one that begins with `!` is relocated.
type Tree = BTreeMap<String, String>;

const LIB: &str = "lib/python3.11";

/// A small environment whose interpreter has this text.
fn environment(interpreter: &str) -> Tree {
    let entries = [
        ("bin/python3", "->python3.11"),
        ("bin/python3.11", interpreter),
        ("bin/f2py", "!a script of a package"),
        ("identity.yaml", "one"),
        ("include/python3.11/Python.h", "header"),
        ("lib/libpython3.11.so", "library"),
        ("lib/python3.11/_sysconfigdata_linux.py", "!settings of one"),
        ("lib/python3.11/encodings/__init__.py", "encodings"),
        ("lib/python3.11/warnings.py", "warnings"),
        ("lib/python3.11/site-packages/a.py", "a package"),
        ("share/man/python.1", "manual"),
    ];
    entries.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

fn with(tree: &Tree, path: &str, text: &str) -> Tree {
    let mut tree = tree.clone();
    tree.insert(path.to_owned(), text.to_owned());
    tree
}

fn new_dir(name: Option<&str>, parent: Option<u32>) -> Dir {
    Dir {
        name: name.map(|name| OwnedName::new(name.as_bytes()).unwrap()),
        parent: parent.map(DirId),
        symlink: None,
        mode: GoMode::from_unix(EntryKind::Directory, 0o755),
        shadow: false,
        subdirs: Vec::new(),
        files: Vec::new(),
    }
}

fn new_file(name: &str, text: &str, regime: Regime) -> File {
    let link = text.strip_prefix("->");
    File {
        name: OwnedName::new(name.as_bytes()).unwrap(),
        symlink: link.map(Into::into),
        size: 100,
        mode: GoMode::from_unix(EntryKind::File, 0o644),
        digest: Some(Digest::of(regime, text.as_bytes())),
        rewrite: if text.starts_with('!') { vec![3] } else { Vec::new() },
    }
}

fn index_in(tree: &Tree, regime: Regime) -> Index {
    let (mut dirs, mut known) = (vec![new_dir(None, None)], BTreeMap::from([(String::new(), 0u32)]));
    for (path, text) in tree {
        let mut names: Vec<&str> = path.split('/').collect();
        let file = names.pop().unwrap();
        let (mut at, mut reached) = (0u32, String::new());
        for name in names {
            reached = format!("{reached}/{name}");
            let next = u32::try_from(dirs.len()).unwrap();
            if *known.entry(reached.clone()).or_insert(next) == next {
                dirs.push(new_dir(Some(name), Some(at)));
                dirs[at as usize].subdirs.push(DirId(next));
            }
            at = known[&reached];
        }
        dirs[at as usize].files.push(new_file(file, text, regime));
    }
    let identity = "h59acff1_493f813dad24d3t".to_owned();
    let path = format!("/base/{identity}");
    let (blueprint, platform) = ("0123456789abcdef".to_owned(), "linux_amd64".to_owned());
    let header = Header { identity, path, blueprint, platform, lifted: true, ..Header::default() };
    let catalog = Catalog::new(header, dirs).unwrap();
    let id = Digest::of(Regime::Sha256, format!("{tree:?}").as_bytes());
    Index::from_bytes(Index::build(&catalog, &id).unwrap()).unwrap()
}

fn index(tree: &Tree) -> Index {
    index_in(tree, Regime::Sha256)
}

fn identity(tree: &Tree) -> Option<Digest> {
    interpreter::identity(&index(tree))
}

/// The bytecode that the interpreter of `tree` makes of the source at `path`, as far as these tests need it.
fn bytecode(tree: &Tree, path: &str) -> Vec<u8> {
    let made = format!("{} {}", tree["bin/python3.11"], tree[path]);
    [&b"\xa7\r\r\n\x03\0\0\0hashhash"[..], made.as_bytes(), b"."].concat()
}

fn name(source: &str) -> CacheName {
    CacheName { source: source.to_owned(), tag: "cpython-311".to_owned(), level: String::new() }
}

/// All sources of a tree.
fn sources(tree: &Tree) -> Vec<String> {
    tree.keys().filter(|path| path.ends_with(".py")).cloned().collect()
}

/// Writes the pack of `tree` as the compiler does.
fn compile(place: &Place, tree: &Tree, imported: bool) {
    let index = index(tree);
    let interpreter = interpreter::identity(&index).unwrap();
    let shared = sources(tree).into_iter().filter(|path| name(path).is_shared_by(&index));
    let fresh = shared.map(|path| {
        let origin = interpreter::origin(&interpreter, &name(&path), &index).unwrap();
        Fresh { path: name(&path).path(), imported, origin, bytes: bytecode(tree, &path) }
    });
    pack::add(place, index.id(), fresh.collect(), &[]).unwrap();
}

/// The sources whose bytecode the catalog of `tree` takes over into the pack at `place`. That must be what compiling would give.
fn taken(place: &Place, tree: &Tree) -> Vec<String> {
    let index = index(tree);
    inherit(place, &index, &AtomicBool::new(false)).unwrap();
    let mut found = Vec::new();
    let mut pack = Pack::open(place, index.id()).unwrap().expect("a pack, though it may be empty");
    pack.for_each(|piece, bytes| {
        let name = CacheName::parse(&piece.path).unwrap();
        assert_eq!(bytes, Some(&bytecode(tree, &name.source)[..]), "{}", piece.path);
        assert!(name.is_shared_by(&index) && !piece.imported);
        found.push(name.source);
        Ok(true)
    })
    .unwrap();
    found
}

struct Packs(tempfile::TempDir);

impl Packs {
    fn new() -> Packs {
        Packs(tempfile::tempdir().unwrap())
    }

    fn of(&self, dir: &str) -> Place {
        Place::top(self.0.path().join("holofs")).below("pyc").below(dir).below("pack")
    }
}

#[test]
fn identity_is_the_same_whatever_packages_and_texts_differ() {
    let tree = environment("python");
    let expected = identity(&tree);
    assert!(expected.is_some());
    for (path, text) in [
        ("bin/f2py", "another"),
        ("bin/pytest", "!added"),
        ("identity.yaml", "two"),
        ("include/numpy/a.h", "added"),
        ("lib/python3.11/_sysconfigdata_linux.py", "!settings of two"),
        ("lib/python3.11/site-packages/a.py", "changed"),
        ("lib/python3.11/site-packages/os.py", "added"),
        ("lib/python3.11/site-packages/evil.pth", "added"),
        ("share/doc", "->../../anywhere"),
    ] {
        assert_eq!(identity(&with(&tree, path, text)), expected, "{path}");
    }
}

#[test]
fn identity_is_another_or_unknown_if_anything_that_compiles_differs() {
    let tree = environment("python");
    let expected = identity(&tree);
    for (path, text) in [
        ("bin/python3.11", "evil"),
        ("bin/python3", "a script"),
        ("bin/python3", "!a script"),
        ("bin/python3", "->f2py"),
        ("bin/python3", "->../share/python"),
        ("bin/python3", "->/usr/bin/python3"),
        ("bin/python311._pth", "../share"),
        ("bin/pybuilddir.txt", "../share"),
        ("bin/pyvenv.cfg", "home = ../share"),
        ("bin/libc.so.6", "evil"),
        ("pyvenv.cfg", "home = share"),
        ("rcc_activate.json", "{\"LD_PRELOAD\": \"evil.so\"}"),
        ("lib/libpython3.11.so", "evil"),
        ("lib/libc.so.6", "evil"),
        ("lib/glibc-hwcaps/x86-64-v3/libc.so.6", "evil"),
        ("lib/python311.zip", "evil"),
        ("lib/python3.11/warnings.py", "evil"),
        ("lib/python3.11/warnings.py", "!evil"),
        ("lib/python3.11/warnings.py", "->site-packages/a.py"),
        ("lib/python3.11/os", "->site-packages"),
        ("lib/python3.11/encodings/utf_8.py", "evil"),
        ("lib/python3.11/encodings/site-packages/utf_8.py", "evil"),
        ("lib/python3.11/lib-dynload/_struct.so", "evil"),
        ("lib/python3.11/_sysconfigdata_linux.py", "evil"),
        ("lib64/libc.so.6", "evil"),
        ("libs", "->lib"),
        ("unknown", "evil"),
    ] {
        assert_ne!(identity(&with(&tree, path, text)), expected, "{path} {text}");
    }
    assert_eq!(
        interpreter::identity(&index_in(&tree, Regime::SipHash128)),
        None,
        "a hash that can be forged"
    );
}

#[test]
fn program_is_what_the_links_in_bin_lead_to() {
    let tree = environment("python");
    let program = |tree: &Tree| interpreter::program(&index(tree)).map(|file| file.digest);
    assert_eq!(program(&tree), Some(Digest::of(Regime::Sha256, b"python")));
    for elsewhere in ["->python3", "->missing", "->../lib/libpython3.11.so", "->/bin/sh"] {
        assert_eq!(program(&with(&tree, "bin/python3", elsewhere)), None, "{elsewhere}");
    }
}

#[test]
fn unchanged_sources_bring_their_bytecode_and_changed_ones_do_not() {
    let packs = Packs::new();
    let old = environment("python");
    compile(&packs.of("1.0"), &old, true);
    assert!(may_inherit(&packs.of("2.0")));
    let new = with(&old, "lib/python3.11/site-packages/a.py", "changed");
    let new = with(&new, "lib/python3.11/site-packages/b.py", "added");
    assert_eq!(
        taken(&packs.of("2.0"), &new),
        [format!("{LIB}/encodings/__init__.py"), format!("{LIB}/warnings.py")]
    );
    assert!(!may_inherit(&packs.of("2.0")));
    // A third one takes over what the second one took over.
    fs::remove_dir_all(packs.of("1.0").parent().unwrap()).unwrap();
    assert_eq!(taken(&packs.of("3.0"), &old).len(), 2);
}

#[test]
fn what_another_interpreter_compiled_is_not_taken_over() {
    let packs = Packs::new();
    compile(&packs.of("1.0"), &environment("evil"), true);
    assert_eq!(taken(&packs.of("2.0"), &environment("python")), [""; 0]);
    assert!(!may_inherit(&packs.of("2.0")), "it is not tried again");
}

#[test]
fn what_was_compiled_in_advance_is_taken_over_if_nothing_was_imported() {
    let packs = Packs::new();
    let tree = environment("python");
    compile(&packs.of("1.0"), &tree, false);
    assert_eq!(taken(&packs.of("2.0"), &tree).len(), 3);
    let interpreter = identity(&tree).unwrap();
    let source = format!("{LIB}/warnings.py");
    let origin = interpreter::origin(&interpreter, &name(&source), &index(&tree)).unwrap();
    let fresh = Fresh { path: name(&source).path(), imported: true, origin, bytes: bytecode(&tree, &source) };
    fs::remove_file(packs.of("2.0")).unwrap();
    pack::add(&packs.of("1.0"), index(&tree).id(), vec![fresh], &[]).unwrap();
    assert_eq!(taken(&packs.of("2.0"), &tree), [source]);
}

#[test]
fn packs_of_other_users_and_packs_that_others_may_write_are_not_looked_at() {
    let packs = Packs::new();
    let tree = environment("python");
    compile(&packs.of("1.1000"), &tree, true);
    assert!(!may_inherit(&packs.of("2.0")));
    assert_eq!(taken(&packs.of("2.0"), &tree), [""; 0]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        compile(&packs.of("3.0"), &tree, true);
        assert_eq!(taken(&packs.of("4.0"), &tree).len(), 3);
        for dir in ["2.0", "4.0"] {
            fs::remove_dir_all(packs.of(dir).parent().unwrap()).unwrap();
        }
        fs::set_permissions(packs.of("3.0").parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(taken(&packs.of("4.0"), &tree), [""; 0]);
    }
}

#[test]
fn nothing_is_written_for_a_run_that_has_ended_or_while_another_process_compiles() {
    let packs = Packs::new();
    let tree = environment("python");
    compile(&packs.of("1.0"), &tree, true);
    let place = packs.of("2.0");
    assert_eq!(inherit(&place, &index(&tree), &AtomicBool::new(true)).unwrap(), 0);
    assert!(!place.is_there().unwrap());
    let held = lock::open_own(&place.with_extension("lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(inherit(&place, &index(&tree), &AtomicBool::new(false)).unwrap(), 0);
    assert!(!place.is_there().unwrap());
}

/// An environment with three modules of these texts; an even number is a text that is relocated.
fn random_tree() -> impl Strategy<Value = Tree> {
    (0..2u8, proptest::collection::vec(0..4u8, 3)).prop_map(|(interpreter, texts)| {
        let mut tree = environment(&format!("python {interpreter}"));
        for (number, text) in texts.into_iter().enumerate() {
            let mark = if text % 2 == 0 { "!" } else { "" };
            tree.insert(format!("{LIB}/site-packages/m{number}.py"), format!("{mark}{text}"));
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_taken_over_is_what_compiling_gives_even_from_damaged_packs(
        old in proptest::collection::vec((random_tree(), any::<bool>()), 1..4), new in random_tree(),
        at in any::<proptest::sample::Index>(), flip in proptest::option::of(1u8..=255),
    ) {
        let packs = Packs::new();
        for (number, (tree, imported)) in old.iter().enumerate() {
            compile(&packs.of(&format!("{number}.0")), tree, *imported);
        }
        if let Some(flip) = flip {
            let mut stored = fs::read(packs.of("0.0")).unwrap();
            let at = at.index(stored.len());
            stored[at] ^= flip;
            fs::write(packs.of("0.0"), &stored).unwrap();
        }
        // `taken` compares each with what compiling gives.
        let found = taken(&packs.of("new.0"), &new);
        let same = |path: &String, tree: &Tree| {
            tree.get(path) == new.get(path) && tree["bin/python3.11"] == new["bin/python3.11"]
        };
        let is_known = |path: &String| !new[path].starts_with('!') && old.iter().any(|(tree, _)| same(path, tree));
        let expected: Vec<String> = sources(&new).into_iter().filter(is_known).collect();
        let mut found = found;
        found.sort();
        prop_assert!(found.iter().all(|path| expected.contains(path)));
        prop_assert!(flip.is_some() || found == expected, "{:?} {:?}", found, expected);
    }
}
