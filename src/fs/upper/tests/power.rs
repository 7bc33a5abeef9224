//! The order of writes to disk: a power cut is modelled by a copy of the directory without unsynced data.

use super::*;

/// The space after a power cut in which the names of these files were lost.
fn without_names(space: &Space, inos: &[Ino]) -> Space {
    let cut = space.crashed();
    for ino in inos {
        fs::remove_file(cut.path().join("upper").join(ino.to_string())).unwrap();
    }
    cut
}

/// Copies up inode 7 of the catalog, as a write does.
fn copy_up(upper: &Upper) -> Ino {
    let ino = Ino(7);
    let mut source = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut source, b"of the catalog").unwrap();
    let time = Time { seconds: 1, nanos: 0 };
    let mut transaction = upper.begin(&[ino]);
    let source = Source { file: &source, patch: None, atime: time, mtime: time };
    transaction.copy_up(ino, &source, 14).unwrap();
    transaction.put(ino, Inode { has_bytes: true, ..Inode::new(Kind::File, 0o644) });
    transaction.commit().unwrap();
    ino
}

#[test]
fn dropped_bytes_stay_until_it_is_durable_that_they_are_dropped() {
    let space = Space::new();
    let upper = space.open();
    let (a, b) = (create(&upper, Ino::ROOT, "a", b"1"), create(&upper, Ino::ROOT, "b", b"2"));
    unlink(&upper, Ino::ROOT, "a", a);
    upper.forget(a).unwrap();
    assert_eq!(upper.inode(a), None);
    assert_eq!(space.bytes(), [a.to_string(), b.to_string()]);
    upper.sync_inode(b, false).unwrap();
    assert_eq!(space.bytes(), [b.to_string()]);
}

#[test]
fn a_row_that_outlived_the_name_of_its_new_file_is_an_empty_file_or_that_of_the_catalog() {
    let space = Space::new();
    let upper = space.open();
    let (new, copied) = (create(&upper, Ino::ROOT, "a", b"1"), copy_up(&upper));
    let cut = without_names(&space, &[new, copied]);
    for _ in 0..2 {
        let upper = cut.open();
        assert_eq!(upper.lost(), []);
        assert_eq!((upper.has_bytes(new), upper.has_bytes(copied)), (false, false));
        assert_eq!(present(&upper, Ino::ROOT, "a"), Some(new));
    }
}

#[test]
fn bytes_that_were_synced_are_never_taken_for_unborn() {
    let space = Space::new();
    let upper = space.open();
    let (old, copied) = (create(&upper, Ino::ROOT, "a", b"1"), copy_up(&upper));
    upper.sync_inode(old, false).unwrap();
    let new = create(&upper, Ino::ROOT, "b", b"2");
    let cut = without_names(&space, &[old, copied, new]);
    for _ in 0..2 {
        let upper = cut.open();
        assert_eq!(upper.lost(), [copied, old]);
        assert!(!upper.has_bytes(new));
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_still_young() {
    let space = Space::new();
    let upper = space.open();
    let new = create(&upper, Ino::ROOT, "a", b"1");
    let killed = space.crashed();
    let upper = killed.open();
    assert_eq!(content(&upper, new), b"1");
    let cut = without_names(&killed, &[new]);
    assert_eq!((cut.open().lost(), cut.open().has_bytes(new)), (&[][..], false));
    upper.sync().unwrap();
    assert_eq!(without_names(&killed, &[new]).open().lost(), [new]);
}

#[test]
fn numbers_are_durable_before_bytes_have_them() {
    let space = Space::new();
    let upper = space.open();
    let new = create(&upper, Ino::ROOT, "a", b"1");
    // The kernel has written the name of the file, but nothing of the log.
    let cut = space.crashed();
    fs::write(cut.path().join("state.db-wal"), b"").unwrap();
    let again = cut.open();
    assert_eq!((present(&again, Ino::ROOT, "a"), again.lost()), (None, &[][..]));
    assert_eq!(cut.bytes(), Vec::<String>::new());
    assert!(again.new_ino().unwrap() > new);
}

#[test]
fn a_space_of_a_program_without_epochs_opens_and_gets_them() {
    let space = Space::new();
    let upper = space.open();
    let old = create(&upper, Ino::ROOT, "a", b"1");
    upper.sync().unwrap();
    drop(upper);
    let database = rusqlite::Connection::open(space.path().join("state.db")).unwrap();
    database
        .execute_batch("ALTER TABLE space DROP COLUMN named; UPDATE inode SET has_bytes=has_bytes<>0")
        .unwrap();
    drop(database);
    let looking = space.try_open(&Options { access: Access::ReadOnly, ..OPTIONS }).unwrap();
    assert_eq!(content(&looking, old), b"1");
    drop(looking);
    let upper = space.open();
    let new = create(&upper, Ino::ROOT, "b", b"2");
    let cut = without_names(&space, &[old, new]);
    assert_eq!((cut.open().lost(), cut.open().has_bytes(new)), (&[old][..], false));
}

#[test]
fn a_full_disk_gets_the_room_of_dropped_bytes_at_once() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    unlink(&upper, Ino::ROOT, "a", a);
    upper.forget(a).unwrap();
    let mut tries = 0;
    let full = || Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull));
    let written = upper.with_room(|| {
        tries += 1;
        if space.bytes().is_empty() { Ok(()) } else { full() }
    });
    written.unwrap();
    assert_eq!(tries, 2);
    upper.with_room(full).unwrap_err();
}
