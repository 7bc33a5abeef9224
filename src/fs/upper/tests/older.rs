//! State written by an older program: 634e337, the last one without epochs. `ended` was unmounted; `killed` was killed after further
//! changes.

use super::*;

/// A copy of that state, and its catalog.
fn older(name: &str) -> (Space, Digest) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state-634e337").join(name);
    let space = Space::new();
    copy_dir(&data, space.path());
    let catalog = written_catalog(space.path()).unwrap().unwrap();
    (space, catalog)
}

fn open(space: &Space, catalog: &Digest, access: Access) -> Upper {
    Upper::open(space.path(), catalog, &Options { access, ..OPTIONS }, space.tally.clone()).unwrap()
}

fn found(upper: &Upper, dir: Ino, text: &str) -> Ino {
    present(upper, dir, text).unwrap_or_else(|| panic!("{text} is missing"))
}

fn assert_as_left(upper: &Upper, note: &str, more: bool) {
    let created = found(upper, Ino::ROOT, "created.txt");
    let inode = upper.inode(created).unwrap();
    assert_eq!((inode.mode, inode.xattrs.get(b"user.note")), (0o751, Some(&b"kept"[..])));
    assert_eq!(content(upper, created), note.as_bytes());
    let moved = found(upper, Ino::ROOT, "moved");
    let below = found(upper, moved, "below");
    assert_eq!(present(upper, Ino::ROOT, "soft").is_some(), !more);
    let deep =
        if more { found(upper, Ino::ROOT, "after the mount") } else { found(upper, below, "deep.txt") };
    assert_eq!(content(upper, deep), b"deep\n");
    assert_eq!(upper.inode(deep).unwrap().nlink, if more { 1 } else { 2 });
    assert_eq!(present(upper, Ino::ROOT, "hard"), (!more).then_some(deep));
    assert!(found(upper, Ino::ROOT, "renamed-from-catalog").0 < FIRST_CREATED);
    assert!(content(upper, Ino(49)).ends_with(b"more\n"));
    assert_eq!(upper.has_bytes(Ino(54)), more);
    assert_eq!(upper.lost(), []);
}

#[test]
fn state_of_an_older_program_opens_however_that_ended() {
    for (name, note, more) in [("ended", "created\n", false), ("killed", "created\nsecond\n", true)] {
        let (space, catalog) = older(name);
        assert_as_left(&open(&space, &catalog, Access::ReadOnly), note, more);
        let upper = open(&space, &catalog, Access::Writable);
        assert_as_left(&upper, note, more);
        let new = create(&upper, Ino::ROOT, "new", b"1");
        assert_as_left(&open(&space.crashed(), &catalog, Access::Writable), note, more);
        upper.sync().unwrap();
        drop(upper);
        assert_eq!(content(&open(&space, &catalog, Access::Writable), new), b"1");
    }
}

#[test]
fn a_mount_that_outlives_its_server_leaves_state_that_older_programs_read() {
    let (space, catalog) = older("ended");
    let format = || {
        let database = rusqlite::Connection::open(space.path().join("state.db")).unwrap();
        database.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap()
    };
    let upper = open(&space, &catalog, Access::Outliving);
    let new = create(&upper, Ino::ROOT, "new", b"1");
    unlink(&upper, Ino::ROOT, "new", new);
    let again = space.crashed();
    let taken_over = open(&again, &catalog, Access::TakenOver);
    assert_eq!((content(&taken_over, new), taken_over.inode(new).unwrap().nlink), (b"1".to_vec(), 0));
    taken_over.forget(new).unwrap();
    taken_over.sync().unwrap();
    assert!(!again.bytes().contains(&new.to_string()));
    assert_eq!(open(&again.crashed(), &catalog, Access::TakenOver).inode(new), None);
    drop(upper);
    assert_eq!(format(), 2);
    drop(open(&space, &catalog, Access::Writable));
    assert_eq!(format(), 1);
    assert!(!space.bytes().contains(&new.to_string()));
}

#[test]
fn a_mount_that_nobody_wrote_to_is_taken_over_and_written_to() {
    let space = Space::new();
    let upper = open(&space, &catalog(), Access::TakenOver);
    let new = in_request(2, || create(&upper, Ino::ROOT, "new", b"1"));
    let again = space.crashed();
    let taken_over = open(&again, &catalog(), Access::TakenOver);
    assert_eq!((content(&taken_over, new), taken_over.was_done(2)), (b"1".to_vec(), true));
}

#[test]
fn what_was_done_and_not_answered_is_known_to_who_takes_over() {
    let (space, catalog) = older("ended");
    let upper = open(&space, &catalog, Access::Outliving);
    in_request(40, || create(&upper, Ino::ROOT, "first", b""));
    in_request(42, || create(&upper, Ino::ROOT, "second", b""));
    let other = std::thread::scope(|scope| {
        scope.spawn(|| in_request(44, || create(&upper, Ino(2), "third", b""))).join().unwrap()
    });
    assert!(upper.inode(other).is_some());
    let again = space.crashed();
    let taken_over = open(&again, &catalog, Access::TakenOver);
    let known = [40, 42, 44].map(|request| taken_over.was_done(request));
    assert_eq!(known, [false, true, true], "a directory is locked until the answer");
    in_request(46, || create(&taken_over, Ino(3), "fourth", b""));
    let last = open(&again.crashed(), &catalog, Access::TakenOver);
    assert_eq!([42, 44, 46].map(|request| last.was_done(request)), [true; 3]);
    // Another mount is another connection, with request numbers from the start.
    drop(open(&again, &catalog, Access::Outliving));
    assert!(!open(&again, &catalog, Access::TakenOver).was_done(46));
}

#[test]
fn changes_of_no_directory_are_known_to_who_takes_over() {
    let (space, catalog) = older("ended");
    let upper = open(&space, &catalog, Access::Outliving);
    let file = create(&upper, Ino::ROOT, "file", b"");
    let change = |request| {
        in_request(request, || {
            let mut transaction = upper.begin(&[file]);
            let mut inode = transaction.inode(file).unwrap();
            inode.xattrs.set(b"user.number", &[request as u8]);
            transaction.put(file, inode);
            transaction.commit().unwrap();
        });
    };
    change(40);
    std::thread::scope(|scope| scope.spawn(|| change(42)).join().unwrap());
    change(44);
    let taken_over = open(&space.crashed(), &catalog, Access::TakenOver);
    let known = [40, 42, 44].map(|request| taken_over.was_done(request));
    assert_eq!(known, [false, true, true], "a thread answers before it goes on");
}

#[test]
fn a_directory_does_not_show_the_request_that_changed_it() {
    let (space, catalog) = older("ended");
    let upper = open(&space, &catalog, Access::Outliving);
    in_request(40, || create(&upper, Ino::ROOT, "new", b""));
    let before = upper.inode(Ino::ROOT).unwrap();
    for access in [Access::ReadOnly, Access::TakenOver, Access::Writable] {
        assert_eq!(open(&space.crashed(), &catalog, access).inode(Ino::ROOT).unwrap(), before);
    }
}
