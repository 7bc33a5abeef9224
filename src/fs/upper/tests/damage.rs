//! State that is damaged, or has another catalog or format; and access to it by others.

use super::*;
use crate::error::Failure;

fn refused(space: &Space) -> UpperError {
    match space.try_open(&OPTIONS) {
        Ok(_) => panic!("It was opened"),
        Err(error) => error,
    }
}

/// A space with a file, closed cleanly.
fn written() -> Space {
    let space = Space::new();
    let upper = space.open();
    create(&upper, Ino::ROOT, "a", b"precious");
    drop(upper);
    space
}

#[test]
fn state_of_another_catalog_is_refused() {
    let space = written();
    let other = Digest::of(Regime::Sha256, b"another");
    let error = Upper::open(space.path(), &other, &OPTIONS, space.tally.clone()).err().unwrap();
    assert!(matches!(error, UpperError::OtherCatalog { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--fresh"), "{error}");
}

#[test]
fn state_of_a_newer_format_is_refused() {
    let space = written();
    let database = rusqlite::Connection::open(space.path().join("state.db")).unwrap();
    database.execute_batch("PRAGMA user_version=3").unwrap();
    drop(database);
    let error = refused(&space);
    assert!(matches!(error, UpperError::NewerFormat { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn a_database_that_is_none_is_never_an_empty_space() {
    for damage in [&b""[..], b"garbage", &[0; 8192]] {
        let space = written();
        fs::write(space.path().join("state.db"), damage).unwrap();
        let error = refused(&space);
        assert!(matches!(error, UpperError::Damaged { .. }), "{error}");
        assert!(error.hint().unwrap().contains("holofs reset"), "{error}");
        assert_eq!(space.bytes(), [FIRST_CREATED.to_string()], "bytes were touched");
    }
}

#[test]
fn a_database_that_is_cut_or_overwritten_in_any_page_is_refused() {
    let whole = fs::read(written().path().join("state.db")).unwrap();
    for page in 1..whole.len() / 1024 {
        let mut cut = whole.clone();
        cut.truncate(page * 1024);
        let mut zeroed = whole.clone();
        zeroed[page * 1024..(page + 1) * 1024].fill(0);
        for damaged in [cut, zeroed] {
            let space = written();
            fs::write(space.path().join("state.db"), damaged).unwrap();
            let error = refused(&space);
            assert!(matches!(error, UpperError::Damaged { .. }), "page {page}: {error}");
        }
    }
}

#[test]
fn a_missing_database_with_bytes_is_refused() {
    let space = written();
    fs::remove_file(space.path().join("state.db")).unwrap();
    assert!(matches!(refused(&space), UpperError::Damaged { .. }));
    assert_eq!(space.bytes().len(), 1);
}

#[test]
fn a_lost_log_is_found_out_by_the_bytes() {
    let space = Space::new();
    let upper = space.open();
    create(&upper, Ino::ROOT, "a", b"precious");
    let crashed = space.crashed();
    fs::remove_file(crashed.path().join("state.db-wal")).unwrap();
    let error = refused(&crashed);
    assert!(matches!(error, UpperError::Damaged { .. }), "{error}");
    assert_eq!(crashed.bytes().len(), 1, "bytes were touched");
}

#[test]
fn a_lost_log_is_found_out_when_only_rows_were_written() {
    let space = Space::new();
    create(&space.open(), Ino::ROOT, "a", b"precious");
    let upper = space.open();
    unlink(&upper, Ino::ROOT, "a", Ino(FIRST_CREATED));
    let crashed = space.crashed();
    fs::remove_file(crashed.path().join("state.db-wal")).unwrap();
    for access in [Access::ReadOnly, Access::Writable, Access::Writable] {
        let error = crashed.try_open(&Options { access, ..OPTIONS }).err().unwrap();
        assert!(matches!(error, UpperError::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("state.db-wal") && text.contains("state.db.open"), "{text}");
        assert_eq!(crashed.bytes().len(), 1, "bytes were touched");
    }
    // Following the hint in the message works: the older state is back.
    fs::remove_file(crashed.path().join("state.db.open")).unwrap();
    assert_eq!(present(&crashed.open(), Ino::ROOT, "a"), Some(Ino(FIRST_CREATED)));
}

#[test]
fn a_process_that_ended_needs_no_log() {
    let space = written();
    assert!(!space.path().join("state.db-wal").exists());
    assert!(!space.path().join("state.db.open").exists());
    // Killed at once, before anything was written.
    let upper = space.open();
    let crashed = space.crashed();
    drop(upper);
    assert_eq!(present(&crashed.open(), Ino::ROOT, "a"), Some(Ino(FIRST_CREATED)));
    // A read-only opening is no session, and does not remove the log of a dead process.
    let upper = space.open();
    unlink(&upper, Ino::ROOT, "a", Ino(FIRST_CREATED));
    let crashed = space.crashed();
    drop(crashed.try_open(&Options { access: Access::ReadOnly, ..OPTIONS }).unwrap());
    assert_eq!(present(&crashed.open(), Ino::ROOT, "a"), None);
}

#[test]
fn a_torn_end_of_the_log_loses_only_what_was_in_it() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    let log = space.path().join("state.db-wal");
    let before = fs::metadata(&log).unwrap().len();
    create(&upper, Ino::ROOT, "b", b"2");
    let crashed = space.crashed();
    let torn = fs::OpenOptions::new().write(true).open(crashed.path().join("state.db-wal")).unwrap();
    torn.set_len(before + 700).unwrap();
    let upper = crashed.open();
    assert_eq!((present(&upper, Ino::ROOT, "a"), present(&upper, Ino::ROOT, "b")), (Some(a), None));
    assert_eq!(crashed.bytes(), [a.to_string()]);
}

#[test]
fn bytes_without_a_row_are_collected_and_strangers_stay() {
    let space = written();
    for name in ["77", "77.part", "README"] {
        fs::write(space.path().join("upper").join(name), b"x").unwrap();
    }
    space.open();
    assert_eq!(space.bytes(), [FIRST_CREATED.to_string(), "README".to_owned()]);
}

#[test]
fn a_row_without_its_bytes_is_an_error_of_that_file_alone() {
    let space = Space::new();
    let upper = space.open();
    let (a, b) = (create(&upper, Ino::ROOT, "a", b"1"), create(&upper, Ino::ROOT, "b", b"2"));
    upper.sync().unwrap();
    drop(upper);
    fs::remove_file(space.path().join("upper").join(a.to_string())).unwrap();
    let upper = space.open();
    assert_eq!(upper.lost(), [a]);
    assert!(matches!(upper.attributes(a), Err(UpperError::Lost { .. })));
    assert!(matches!(upper.file(a), Err(UpperError::Lost { .. })));
    assert_eq!(content(&upper, b), b"2");
    unlink(&upper, Ino::ROOT, "a", a);
    upper.forget(a).unwrap();
}

#[test]
fn rows_that_contradict_each_other_are_damage() {
    let contradictions = [
        "UPDATE inode SET kind=3",
        "UPDATE inode SET nlink=0",
        "UPDATE inode SET mtime_ns=1000000000",
        "UPDATE inode SET xattrs=x'00'",
        "UPDATE inode SET mode=4096",
        "DELETE FROM inode",
        "UPDATE entry SET name=x'2e2e'",
        "UPDATE entry SET kind=4",
        "UPDATE entry SET dir=4294967296",
        "UPDATE space SET next_ino=5",
        "DELETE FROM space",
        "DROP TABLE entry",
    ];
    for contradiction in contradictions {
        let space = written();
        let database = rusqlite::Connection::open(space.path().join("state.db")).unwrap();
        database.execute_batch(contradiction).unwrap();
        drop(database);
        let error = refused(&space);
        assert!(matches!(error, UpperError::Damaged { .. }), "{contradiction}: {error}");
    }
}

#[test]
fn a_reset_drops_everything_and_goes_on_if_it_was_interrupted() {
    let space = written();
    reset(space.path()).unwrap();
    assert_eq!(fs::read_dir(space.path()).unwrap().count(), 0);
    reset(space.path()).unwrap();
    assert!(space.open().is_pristine());

    let interrupted = written();
    fs::rename(interrupted.path().join("state.db"), interrupted.path().join("state.db.dropped")).unwrap();
    assert!(interrupted.open().is_pristine());
    assert_eq!(fs::read_dir(interrupted.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_space_can_be_reset() {
    let space = written();
    fs::write(space.path().join("state.db"), b"").unwrap();
    reset(space.path()).unwrap();
    let upper = space.open();
    assert!(upper.is_pristine());
    create(&upper, Ino::ROOT, "a", b"new");
}

#[test]
fn looking_neither_changes_nor_disturbs() {
    let space = Space::new();
    let upper = space.open();
    let a = create(&upper, Ino::ROOT, "a", b"1");
    let looking = Options { access: Access::ReadOnly, ..OPTIONS };
    let look = space.try_open(&looking).unwrap();
    assert_eq!(content(&look, a), b"1");
    assert!(matches!(look.new_ino(), Err(UpperError::ReadOnly { .. })));
    let b = create(&upper, Ino::ROOT, "b", b"2");
    assert_eq!(present(&look, Ino::ROOT, "b"), None);
    assert_eq!(present(&space.try_open(&looking).unwrap(), Ino::ROOT, "b"), Some(b));
    let crashed = space.crashed();
    fs::write(crashed.path().join("upper/9"), b"orphan").unwrap();
    assert_eq!(present(&crashed.try_open(&looking).unwrap(), Ino::ROOT, "b"), Some(b));
    assert_eq!(crashed.bytes().len(), 3);
}

#[test]
fn nobody_else_can_read_anything() {
    let space = Space::new();
    let upper = space.open();
    create(&upper, Ino::ROOT, "a", b"1");
    for (name, mode) in
        [("upper", 0o700), ("upper/4294967296", 0o600), ("state.db", 0o600), ("state.db-wal", 0o600)]
    {
        let found = fs::metadata(space.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}
