//! Listing a large directory in small pieces while eight threads change it: every permanent entry appears exactly once, always at the
//! same offset, and no entry appears twice.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holofs::fs::upper::{Access, Options, Upper};
use holofs::fs::vfs::{Listed, Listing, New, RenameMode, Vfs, View};
use holofs::rcc::catalog::{Catalog, Dir, DirId, EntryKind, GoMode, Header};
use holofs::rcc::digest::{Digest, Regime};
use holofs::space::relocated::Relocated;
use holofs::store::index::{Index, Ino};
use holofs::store::memory::MemorySource;
use holofs::store::observe::Tally;
use holofs::sys::fs::name::OwnedName;

use super::bare::{CALLER, LABEL, file_entry};
use super::tree::{DIR_MODE, IDENTITY};
use crate::common::soak::amount;

/// Permanent names, from the catalog and created. Other names in the directory are created and removed.
const KEPT: usize = 1250;
const WRITERS: usize = 8;
/// The number of entries that fit in a reply.
const PIECE: usize = 7;

/// A space with one directory of `2 * KEPT` files, half of which will be changed.
fn space(dir: &std::path::Path) -> Vfs {
    let mut source = MemorySource::new();
    let names = (0..KEPT).flat_map(|at| [format!("catalog-{at:05}"), format!("changed-{at:05}")]);
    let catalog = large(names, &mut source);
    let id = Digest::of(Regime::Sha256, b"a catalog with a large directory");
    let index = Index::from_bytes(Index::build(&catalog, &id).unwrap()).unwrap();
    space_of(dir, index, source)
}

/// A catalog with one directory, `many`, with these files.
pub fn large(names: impl Iterator<Item = String>, source: &mut MemorySource) -> Catalog {
    let mut files: Vec<_> = names.map(|name| file_entry(source, &name, 0o644, b"x")).collect();
    files.sort_by(|left, right| left.name.cmp(&right.name));
    let dirs = [None, Some("many")].map(|name| Dir {
        name: name.map(|name| OwnedName::new(name.as_bytes()).unwrap()),
        parent: name.map(|_| DirId(0)),
        symlink: None,
        mode: GoMode::from_unix(EntryKind::Directory, 0o755),
        shadow: false,
        subdirs: if name.is_none() { vec![DirId(1)] } else { Vec::new() },
        files: if name.is_none() { Vec::new() } else { std::mem::take(&mut files) },
    });
    let header = Header {
        identity: IDENTITY.into(),
        path: format!("/base/{IDENTITY}"),
        platform: "linux_amd64".into(),
        blueprint: "14023a1f332a0231".into(),
        rcc: "v18".into(),
        lifted: true,
        ..Header::default()
    };
    Catalog::new(header, dirs.into()).unwrap()
}

/// A space of this catalog with its state in `dir`.
pub fn space_of(dir: &std::path::Path, index: Index, source: MemorySource) -> Vfs {
    let (index, tally) = (Arc::new(index), Arc::new(Tally::new()));
    let options = Options { access: Access::Writable, descriptors: NonZeroUsize::new(64).unwrap() };
    let upper = Upper::open(dir, &index.id(), &options, Arc::clone(&tally) as _).unwrap();
    let relocated = Relocated::new(dir, &index, LABEL, Arc::new(source), tally);
    let view = View { uid: 0, gid: 0, dir_mode: DIR_MODE };
    Vfs::with_upper(index, Arc::new(relocated), Arc::new(upper), view, true)
}

#[derive(Default)]
struct Piece(Vec<(String, u64)>);

impl Listing for Piece {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        if self.0.len() == PIECE {
            return true;
        }
        self.0.push((String::from_utf8(entry.name.to_vec()).unwrap(), entry.next));
        false
    }
}

/// The whole directory, piece by piece: each name with its offset.
fn list(vfs: &Vfs, dir: Ino) -> BTreeMap<String, u64> {
    let (mut all, mut offset) = (BTreeMap::new(), 0);
    loop {
        let mut piece = Piece::default();
        vfs.list(dir, offset, false, &mut piece).unwrap();
        let Some((_, last)) = piece.0.last() else { return all };
        assert!(*last > offset, "an offset goes back from {offset} to {last}");
        offset = *last;
        for (name, next) in piece.0 {
            assert_eq!(all.insert(name.clone(), next), None, "{name} is listed twice");
        }
    }
}

/// Creates, renames and removes names of its own, and removes and recreates names of the catalog.
fn write(vfs: &Vfs, dir: Ino, writer: usize, stop: &AtomicBool) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let own = |what: &str| format!("{what}-{writer}-{}", done % 50).into_bytes();
        let changed = format!("changed-{:05}", writer + WRITERS * (done % (KEPT / WRITERS))).into_bytes();
        let made = vfs.make(CALLER, dir, &own("new"), 0o644, New::File).unwrap();
        vfs.forget(made.ino, 1);
        vfs.rename(dir, &own("new"), dir, &own("renamed"), RenameMode::Replace).unwrap();
        vfs.unlink(dir, &changed).unwrap();
        vfs.rename(dir, &own("renamed"), dir, &changed, RenameMode::NoReplace).unwrap();
        done += 1;
    }
    done
}

#[test]
fn readdir_in_pieces_is_right_while_eight_threads_change_the_directory() {
    let temp = tempfile::tempdir().unwrap();
    let vfs = space(temp.path());
    let dir = vfs.lookup(Ino::ROOT, b"many").unwrap().ino;
    for at in 0..KEPT {
        let made = vfs.make(CALLER, dir, format!("created-{at:05}").as_bytes(), 0o644, New::File).unwrap();
        vfs.forget(made.ino, 1);
    }
    let stays =
        |name: &str| name.starts_with("catalog-") || name.starts_with("created-") || name.starts_with('.');
    let kept = |mut all: BTreeMap<String, u64>| {
        all.retain(|name, _| stays(name));
        all
    };
    let before = kept(list(&vfs, dir));
    assert_eq!(before.len(), 2 * KEPT + 2);
    let stop = AtomicBool::new(false);
    let done: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                scope.spawn({
                    let (vfs, stop) = (&vfs, &stop);
                    move || write(vfs, dir, number, stop)
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..amount(5, 100) {
                        let all = list(&vfs, dir);
                        let strange: BTreeSet<&String> = all
                            .keys()
                            .filter(|name| {
                                !stays(name)
                                    && !["changed-", "new-", "renamed-"]
                                        .iter()
                                        .any(|own| name.starts_with(own))
                            })
                            .collect();
                        assert!(strange.is_empty(), "{strange:?}");
                        assert_eq!(kept(all), before, "an unchanged entry was listed differently");
                    }
                })
            })
            .collect();
        let read = readers.into_iter().map(|reader| reader.join()).collect::<Vec<_>>();
        stop.store(true, Ordering::Relaxed);
        let done = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert!(read.iter().all(Result::is_ok));
        done
    });
    assert!(done > 0, "nobody wrote");
    assert_eq!(list(&vfs, dir).len(), 3 * KEPT + 2);
    eprintln!("{done} rounds of four operations");
}

/// Lists the directory, and after each piece applies `then` to its names; returns how often each name appeared.
fn list_and(vfs: &Vfs, dir: Ino, mut then: impl FnMut(&str)) -> BTreeMap<String, usize> {
    let (mut all, mut offset) = (BTreeMap::new(), 0);
    loop {
        let mut piece = Piece::default();
        vfs.list(dir, offset, false, &mut piece).unwrap();
        let Some((_, last)) = piece.0.last() else { return all };
        offset = *last;
        for (name, _) in piece.0 {
            if !name.starts_with('.') {
                then(&name);
            }
            *all.entry(name).or_default() += 1;
        }
        assert!(all.len() < 20 * KEPT, "it does not end");
    }
}

#[test]
fn readdir_ends_while_each_listed_name_is_renamed_and_copied() {
    let temp = tempfile::tempdir().unwrap();
    let vfs = space(temp.path());
    let dir = vfs.lookup(Ino::ROOT, b"many").unwrap().ino;
    let made = |name: &str| {
        let made = vfs.make(CALLER, dir, name.as_bytes(), 0o644, New::File).unwrap();
        vfs.forget(made.ino, 1);
    };
    (0..KEPT).for_each(|at| made(&format!("created-{at:05}")));
    let rename = |from: &str, to: &str| {
        vfs.rename(dir, from.as_bytes(), dir, to.as_bytes(), RenameMode::Replace).unwrap();
    };
    // A name of the catalog has no offset except that of the name, so a renamed file may appear again under its new name.
    let entries_seen = list_and(&vfs, dir, |name| {
        rename(name, &format!("{name}-renamed"));
        made(&format!("{name}-copy"));
    });
    let own = |name: &&String| name.starts_with("created-") && !name.contains("copy");
    assert_eq!(
        entries_seen.keys().filter(own).count(),
        KEPT,
        "each of ours is listed once, under one of its names"
    );
    assert!(entries_seen.values().all(|&times| times == 1));

    // Another thread renames the same 20 files over and over: permanent names appear once, and so do renamed ones.
    let (mut round, mut seen) = (0, 0);
    let all = list(&vfs, dir).len();
    let entries_seen = list_and(&vfs, dir, |_| {
        seen += 1;
        if seen % 50 != 0 {
            return;
        }
        for at in 0..20 {
            let name = |round: usize| {
                if round == 0 { format!("created-{at:05}-renamed") } else { format!("{at}-{round}") }
            };
            rename(&name(round), &name(round + 1));
        }
        round += 1;
    });
    assert_eq!(entries_seen.values().sum::<usize>(), all);
}
