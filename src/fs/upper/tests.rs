//! The upper as its users see it, through crashes, damage and full disks.

use super::*;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::rcc::digest::Regime;
use crate::store::observe::{Counter, Tally};
use crate::sys::fs::bytes;

const OPTIONS: Options =
    Options { access: Access::Writable, descriptors: NonZeroUsize::new(4).expect("it is not zero") };

/// A directory of a space, and the tally that observes its upper.
struct Space {
    dir: tempfile::TempDir,
    tally: Arc<Tally>,
}

impl Space {
    fn new() -> Space {
        Space { dir: tempfile::tempdir().unwrap(), tally: Arc::new(Tally::new()) }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn try_open(&self, options: &Options) -> Result<Upper, UpperError> {
        Upper::open(self.path(), &catalog(), options, Arc::clone(&self.tally) as Arc<dyn Observer>)
    }

    fn open(&self) -> Upper {
        self.try_open(&OPTIONS).unwrap()
    }

    /// A copy of the space as if the process were killed now.
    fn crashed(&self) -> Space {
        let copy = Space::new();
        copy_dir(self.path(), copy.path());
        copy
    }

    fn bytes(&self) -> Vec<String> {
        let names = fs::read_dir(self.path().join("upper")).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn catalog() -> Digest {
    Digest::of(Regime::Sha256, b"a catalog")
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// Creates a file with content, as `vfs` does.
fn create(upper: &Upper, dir: Ino, text: &str, content: &[u8]) -> Ino {
    let mut transaction = upper.begin(&[dir]);
    let ino = upper.new_ino().unwrap();
    transaction.create_bytes(ino).unwrap().write_all_at(content, 0).unwrap();
    transaction.put(ino, Inode { has_bytes: true, ..Inode::new(Kind::File, 0o644) });
    transaction.link(dir, name(text), ino, Kind::File, None);
    transaction.put(dir, Inode::new(Kind::Dir, 0o750));
    transaction.commit().unwrap();
    ino
}

fn unlink(upper: &Upper, dir: Ino, text: &str, ino: Ino) {
    let mut transaction = upper.begin(&[dir, ino]);
    transaction.unlink(dir, name(text), ino.0 < FIRST_CREATED);
    let inode = transaction.inode(ino).unwrap();
    transaction.put(ino, Inode { nlink: inode.nlink - 1, ..inode });
    transaction.commit().unwrap();
}

fn content(upper: &Upper, ino: Ino) -> Vec<u8> {
    let size = upper.attributes(ino).unwrap().unwrap().1.unwrap().size;
    let mut content = vec![0; size.try_into().unwrap()];
    upper.file(ino).unwrap().read_exact_at(&mut content, 0).unwrap();
    content
}

fn present(upper: &Upper, dir: Ino, text: &str) -> Option<Ino> {
    match upper.entry(dir, name(text)) {
        Some(Entry::Present(present)) => Some(present.ino),
        _ => None,
    }
}

#[test]
fn a_space_that_was_never_written_costs_nothing() {
    let space = Space::new();
    let upper =
        Upper::open(&space.path().join("not there"), &catalog(), &OPTIONS, space.tally.clone()).unwrap();
    assert!(upper.is_pristine());
    assert_eq!(upper.inode(Ino::ROOT), None);
    upper.sync().unwrap();
    upper.sync_inode(Ino(1), false).unwrap();
    assert_eq!(fs::read_dir(space.path()).unwrap().count(), 0);
}

#[test]
fn what_was_committed_and_written_survives_a_crash() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"first");
    let mut transaction = upper.begin(&[Ino::ROOT, Ino(7)]);
    let mut inode = Inode { uid: 5, mtime: Time { seconds: -9, nanos: 8 }, ..Inode::new(Kind::Link, 0o777) };
    inode.xattrs.set(b"user.x", b"y");
    inode.target = Arc::from(&b"to/\xff"[..]);
    transaction.put(Ino(7), inode.clone());
    transaction.unlink(Ino::ROOT, name("old"), true);
    transaction.commit().unwrap();
    upper.file(a).unwrap().write_all_at(b"second", 0).unwrap();

    let again = space.crashed();
    let upper = again.open();
    assert!(!upper.is_pristine());
    assert_eq!(present(&upper, Ino::ROOT, "a"), Some(a));
    assert_eq!(content(&upper, a), b"second");
    assert_eq!(upper.entry(Ino::ROOT, name("old")), Some(Entry::Whiteout));
    assert_eq!(upper.inode(Ino(7)), Some(inode));
    assert_eq!(upper.lost(), []);
}

#[test]
fn what_was_committed_survives_a_clean_end_too() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    upper.sync().unwrap();
    drop(upper);
    assert!(!space.path().join("state.db-wal").exists(), "the log was not copied");
    assert_eq!(content(&space.open(), a), b"1");
}

#[test]
fn a_number_is_never_used_again() {
    let space = Space::new();
    let upper = space.open();
    let first = create(&upper, Ino::ROOT, "a", b"");
    assert_eq!(first, Ino(FIRST_CREATED));
    unlink(&upper, Ino::ROOT, "a", first);
    upper.forget(first).unwrap();
    assert!(upper.new_ino().unwrap() > first);
    let last = upper.new_ino().unwrap();
    assert!(space.crashed().open().new_ino().unwrap() > last);
}

#[test]
fn an_unlinked_file_lives_until_it_is_forgotten() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"still here");
    unlink(&upper, Ino::ROOT, "a", a);
    assert_eq!(upper.entry(Ino::ROOT, name("a")), None);
    assert_eq!(content(&upper, a), b"still here");

    let crashed = space.crashed();
    assert_eq!(crashed.open().inode(a), None);
    assert_eq!(crashed.bytes(), Vec::<String>::new());

    upper.forget(a).unwrap();
    assert_eq!(upper.inode(a), None);
    upper.sync().unwrap();
    assert_eq!(space.bytes(), Vec::<String>::new());
}

#[test]
fn forgetting_a_file_with_names_changes_nothing() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    upper.forget(a).unwrap();
    upper.forget(Ino(12)).unwrap();
    assert_eq!(content(&upper, a), b"1");
}

#[test]
fn an_operation_that_is_not_committed_leaves_nothing() {
    let space = Space::new();
    let upper = space.open();
    let ino = upper.new_ino().unwrap();
    let mut transaction = upper.begin(&[Ino::ROOT]);
    transaction.create_bytes(ino).unwrap();
    transaction.put(ino, Inode::new(Kind::File, 0o644));
    transaction.link(Ino::ROOT, name("a"), ino, Kind::File, None);
    assert_eq!(transaction.inode(ino).unwrap().mode, 0o644);
    assert_eq!(space.bytes(), [ino.to_string()]);
    drop(transaction);
    assert_eq!(space.bytes(), Vec::<String>::new());
    assert_eq!(upper.inode(ino), None);
    assert_eq!(upper.entry(Ino::ROOT, name("a")), None);
}

#[test]
fn a_commit_that_fails_has_changed_nothing_and_the_next_one_works() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    upper.journal().unwrap().limit_pages(1);
    let ino = upper.new_ino().unwrap();
    let mut transaction = upper.begin(&[Ino::ROOT]);
    transaction.create_bytes(ino).unwrap();
    let mut inode = Inode::new(Kind::File, 0o644);
    inode.xattrs.set(b"user.big", &[1; 60_000]);
    transaction.put(ino, inode);
    transaction.link(Ino::ROOT, name("b"), ino, Kind::File, None);
    let error = transaction.commit().unwrap_err();
    assert_eq!(error.as_io().kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!((upper.inode(ino), upper.entry(Ino::ROOT, name("b"))), (None, None));
    assert_eq!(space.bytes(), [a.to_string(), ino.to_string()], "they go when the log is known");
    upper.sync().unwrap();
    assert_eq!(space.bytes(), [a.to_string()]);

    unlink(&upper, Ino::ROOT, "a", a);
    upper.journal().unwrap().limit_pages(1_000_000);
    let b = create(&upper, Ino::ROOT, "b", b"2");
    let crashed = space.crashed();
    let upper = crashed.open();
    assert_eq!((present(&upper, Ino::ROOT, "a"), present(&upper, Ino::ROOT, "b")), (None, Some(b)));
}

#[test]
fn operations_in_parallel_are_all_there_after_a_crash() {
    let space = Space::new();
    let upper = space.open();
    let create_some =
        |dir: u64| (0..200).map(|at| (at, create(&upper, Ino(dir), &at.to_string(), b"x"))).collect();
    let made: Vec<(u64, Vec<(i32, Ino)>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|dir| scope.spawn(move || (dir, create_some(dir)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let crashed = space.crashed();
    let again = crashed.open();
    for (dir, files) in made {
        for (at, ino) in files {
            assert_eq!(present(&again, Ino(dir), &at.to_string()), Some(ino));
        }
        assert_eq!(again.directory(Ino(dir), |directory| directory.unwrap().present()), 200);
    }
}

#[test]
fn a_name_that_is_taken_over_keeps_its_place_in_the_listing() {
    let space = Space::new();
    let upper = space.open();
    let (a, b) = (create(&upper, Ino::ROOT, "z", b""), create(&upper, Ino::ROOT, "b", b""));
    let mut transaction = upper.begin(&[Ino::ROOT]);
    transaction.link(Ino::ROOT, name("z"), b, Kind::File, None);
    transaction.unlink(Ino::ROOT, name("b"), false);
    transaction.link(Ino::ROOT, name("c"), a, Kind::File, None);
    transaction.commit().unwrap();
    let listed = |upper: &Upper| {
        let names = |directory: &Directory| {
            directory.before(u64::MAX).map(|(name, present)| (name.to_vec(), present.ino)).collect::<Vec<_>>()
        };
        upper.directory(Ino::ROOT, |directory| names(directory.unwrap()))
    };
    assert_eq!(listed(&upper), [(b"c".to_vec(), a), (b"z".to_vec(), b)]);
    assert_eq!(listed(&space.crashed().open()), [(b"c".to_vec(), a), (b"z".to_vec(), b)]);
}

#[test]
fn a_removed_directory_leaves_no_rows() {
    let space = Space::new();
    let upper = space.open();
    let mut transaction = upper.begin(&[Ino(5)]);
    transaction.unlink(Ino(5), name("a"), true);
    transaction.unlink(Ino(5), name("b"), true);
    transaction.commit().unwrap();
    assert_eq!(upper.directory(Ino(5), |directory| directory.unwrap().whiteouts()), 2);
    let mut transaction = upper.begin(&[Ino::ROOT, Ino(5)]);
    transaction.clear(Ino(5));
    transaction.put(Ino(5), Inode { nlink: 0, ..Inode::new(Kind::Dir, 0o750) });
    transaction.unlink(Ino::ROOT, name("five"), true);
    assert_eq!(transaction.entry(Ino(5), name("a")), None);
    transaction.commit().unwrap();
    let crashed = space.crashed();
    let upper = crashed.open();
    assert_eq!(upper.inode(Ino(5)), None);
    assert!(upper.directory(Ino(5), |directory| directory.is_none()));
    assert_eq!(upper.entry(Ino::ROOT, name("five")), Some(Entry::Whiteout));
}

#[test]
fn times_of_a_file_with_bytes_are_those_of_its_bytes() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    let (early, late) = (Time { seconds: -1, nanos: 5 }, Time { seconds: 4_000_000_000, nanos: 0 });
    let file = upper.file(a).unwrap();
    bytes::set_times(&file, Some(early.into()), None).unwrap();
    bytes::set_times(&file, None, Some(late.into())).unwrap();
    upper.file(a).unwrap().read_exact_at(&mut [0], 0).unwrap();
    let shown = |upper: &Upper| upper.attributes(a).unwrap().unwrap().0;
    assert_eq!((shown(&upper).atime, shown(&upper).mtime), (early, late));
    assert!(shown(&upper).ctime > Time { seconds: 1_700_000_000, nanos: 0 });
    let row = Inode { ctime: late, ..upper.inode(a).unwrap() };
    let mut transaction = upper.begin(&[a]);
    transaction.put(a, row);
    transaction.commit().unwrap();
    drop(upper);
    let upper = space.open();
    assert_eq!((shown(&upper).atime, shown(&upper).mtime, shown(&upper).ctime), (early, late, late));
}

mod copying;
mod damage;
mod older;
mod power;
mod prepared;

#[test]
fn long_log_of_a_killed_process_is_copied_after_the_first_change() {
    let space = Space::new();
    let open = |space: &Space, access| space.try_open(&Options { access, ..OPTIONS }).unwrap();
    let upper = open(&space, Access::Outliving);
    let length =
        |space: &Space, name: &str| fs::metadata(space.path().join(name)).map_or(0, |file| file.len());
    let mut at = 0;
    while length(&space, "state.db-wal") < 8 << 20 {
        create(&upper, Ino::ROOT, &at.to_string(), b"1");
        at += 1;
    }
    let killed = space.crashed();
    let database = length(&killed, "state.db");
    let taken_over = open(&killed, Access::TakenOver);
    create(&taken_over, Ino::ROOT, "new", b"1");
    let started = std::time::Instant::now();
    while length(&killed, "state.db") == database {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "the log is not copied");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let again = killed.crashed().open();
    assert!(["0", "new"].iter().all(|name| present(&again, Ino::ROOT, name).is_some()));
}

#[test]
fn a_log_that_was_copied_begins_again() {
    let space = Space::new();
    let upper = space.open();
    for name in ["a", "b", "c", "d"] {
        create(&upper, Ino::ROOT, name, b"1");
    }
    let log = || fs::metadata(space.path().join("state.db-wal")).unwrap().len();
    upper.disk.sync(true).unwrap();
    let long = log();
    create(&upper, Ino::ROOT, "e", b"1");
    assert_eq!(log(), long);
    assert!(present(&space.crashed().open(), Ino::ROOT, "e").is_some());
}
