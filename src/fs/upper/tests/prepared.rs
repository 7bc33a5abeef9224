//! Files that are prepared for the next creation.

use super::*;

/// Creates an empty file, as `vfs` does, and prepares the next one.
fn make(upper: &Upper, text: &str) -> Ino {
    let mut transaction = upper.begin(&[Ino::ROOT]);
    let ino = transaction.create_file().unwrap();
    transaction.put(ino, Inode { has_bytes: true, ..Inode::new(Kind::File, 0o644) });
    transaction.link(Ino::ROOT, name(text), ino, Kind::File, None);
    transaction.commit().unwrap();
    upper.prepare_file();
    ino
}

/// Creates files until one is prepared: a slow machine may be too slow for the first two. Returns its number, and theirs.
fn prepared(space: &Space, upper: &Upper) -> (String, Vec<Ino>) {
    let mut made = vec![make(upper, "0")];
    assert_eq!(space.bytes(), [made[0].to_string()], "one creation says nothing about a second one");
    while space.bytes().len() == made.len() {
        made.push(make(upper, &made.len().to_string()));
    }
    let is_made = |name: &String| made.iter().any(|ino| ino.to_string() == *name);
    (space.bytes().into_iter().find(|name| !is_made(name)).unwrap(), made)
}

#[test]
fn the_next_creation_takes_the_file_and_it_is_as_new() {
    let space = Space::new();
    let upper = space.open();
    let (number, made) = prepared(&space, &upper);
    std::thread::sleep(std::time::Duration::from_millis(50)); // longer than the kernel's clock of files stands still
    let before = Time::now();
    let taken = make(&upper, "taken");
    assert_eq!(taken.to_string(), number);
    let (inode, file) = upper.attributes(taken).unwrap().unwrap();
    assert!(inode.mtime >= before && inode.atime >= before && inode.ctime >= before, "{inode:?} {before:?}");
    assert_eq!(file.unwrap().size, 0);
    upper.file(taken).unwrap().write_all_at(b"1", 0).unwrap();
    let again = space.crashed();
    let upper = again.open();
    assert_eq!(content(&upper, taken), b"1");
    assert_eq!(again.bytes().len(), made.len() + 1, "nobody needs the one that was prepared meanwhile");
}

#[test]
fn a_file_that_nobody_takes_goes_at_the_next_sync_or_opening() {
    let space = Space::new();
    let upper = space.open();
    let (number, made) = prepared(&space, &upper);
    let again = space.crashed();
    drop(again.open());
    for ended in [&again, &space] {
        upper.sync().unwrap();
        assert!(!ended.bytes().contains(&number));
        assert_eq!(ended.bytes().len(), made.len());
    }
    assert!(make(&upper, "next").0.to_string() > number, "a number is used once");
}

#[test]
fn a_prepared_file_that_is_lost_does_not_fail_the_creation() {
    let space = Space::new();
    let upper = space.open();
    let (number, _) = prepared(&space, &upper);
    upper.disk.files.remove(Ino(number.parse().unwrap())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let made = make(&upper, "made");
    assert_ne!(made.to_string(), number);
    assert_eq!(content(&upper, made), b"");
}

#[test]
fn who_takes_over_leaves_deleting_it_to_the_next_sync() {
    let opened = |space: &Space, access| space.try_open(&Options { access, ..OPTIONS }).unwrap();
    let space = Space::new();
    let upper = opened(&space, Access::Outliving);
    let (number, made) = prepared(&space, &upper);
    let again = space.crashed();
    let taken_over = opened(&again, Access::TakenOver);
    assert!(again.bytes().contains(&number), "programs wait, so nothing waits for the disk");
    let next = make(&taken_over, "next");
    assert!(next.to_string() > number);
    taken_over.sync().unwrap();
    assert!(!again.bytes().contains(&number) && again.bytes().contains(&next.to_string()));
    assert_eq!(again.bytes().len(), made.len() + 1);
}
