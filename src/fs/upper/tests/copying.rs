//! Tests of copy-up.

use super::*;

const TIME: Time = Time { seconds: 1_610_000_000, nanos: 0 };

fn file(content: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(content, 0).unwrap();
    file
}

fn source(file: &File) -> Source<'_> {
    Source { file, patch: None, atime: TIME, mtime: TIME }
}

fn copy_up(upper: &Upper, ino: Ino, source: &Source<'_>, keep: u64) -> Result<(), UpperError> {
    let mut transaction = upper.begin(&[ino]);
    transaction.copy_up(ino, source, keep)?;
    transaction.put(ino, Inode { has_bytes: true, ..Inode::new(Kind::File, 0o4755) });
    transaction.commit()
}

#[test]
fn a_copy_up_has_the_bytes_the_patch_and_the_times() {
    let (space, original) = (Space::new(), file(b"0123456789"));
    let upper = space.open();
    let patch = |file: &File| file.write_all_at(b"ab", 3);
    copy_up(&upper, Ino(3), &Source { patch: Some(&patch), ..source(&original) }, 10).unwrap();
    let (inode, stat) = upper.attributes(Ino(3)).unwrap().unwrap();
    assert_eq!((inode.mode, inode.mtime, inode.atime, stat.unwrap().size), (0o4755, TIME, TIME, 10));
    assert_eq!(content(&upper, Ino(3)), b"012ab56789");
    assert_eq!(content(&space.crashed().open(), Ino(3)), b"012ab56789");
    let mut untouched = [0; 10];
    original.read_exact_at(&mut untouched, 0).unwrap();
    assert_eq!(&untouched, b"0123456789");
    assert_eq!(space.tally.get(Counter::CopiedUp), 1);
    assert_eq!(space.tally.get(Counter::Copied) + space.tally.get(Counter::Reflinked), 1);
}

#[test]
fn only_what_is_kept_is_copied_and_nothing_is_read_for_nothing() {
    let (space, original) = (Space::new(), file(b"0123456789"));
    let upper = space.open();
    let patch = |file: &File| file.write_all_at(b"abc", 3);
    copy_up(&upper, Ino(3), &Source { patch: Some(&patch), ..source(&original) }, 5).unwrap();
    assert_eq!(content(&upper, Ino(3)), b"012ab");
    let never = |_: &File| panic!("Nothing is left to patch");
    copy_up(&upper, Ino(4), &Source { patch: Some(&never), ..source(&original) }, 0).unwrap();
    assert_eq!(content(&upper, Ino(4)), b"");
    let tiers = space.tally.get(Counter::Copied) + space.tally.get(Counter::Reflinked);
    assert_eq!((tiers, space.tally.get(Counter::CopiedUp)), (1, 2));
}

#[test]
fn holes_stay_holes() {
    let (space, original) = (Space::new(), file(b"x"));
    original.set_len(64 << 20).unwrap();
    let upper = space.open();
    copy_up(&upper, Ino(3), &source(&original), 64 << 20).unwrap();
    let stat = upper.attributes(Ino(3)).unwrap().unwrap().1.unwrap();
    assert_eq!(stat.size, 64 << 20);
    assert!(stat.blocks * 512 <= 64 << 10, "{} blocks", stat.blocks);
}

#[test]
fn a_copy_up_that_fails_leaves_nothing() {
    let (space, original) = (Space::new(), file(b"0123456789"));
    let upper = space.open();
    let full = |_: &File| Err(std::io::ErrorKind::StorageFull.into());
    let error = copy_up(&upper, Ino(3), &Source { patch: Some(&full), ..source(&original) }, 10).unwrap_err();
    assert!(matches!(error, UpperError::Io { .. }), "{error}");
    assert!(copy_up(&upper, Ino(3), &source(&original), 11).is_err());
    assert_eq!(upper.inode(Ino(3)), None);
    assert_eq!(space.bytes(), Vec::<String>::new());
    copy_up(&upper, Ino(3), &source(&original), 10).unwrap();
}

#[test]
fn more_files_than_descriptors_can_be_open() {
    let space = Space::new();
    let upper = space.open();
    let inos: Vec<Ino> = (0..20).map(|at| create(&upper, Ino::ROOT, &at.to_string(), &[at])).collect();
    for (at, &ino) in (0..).zip(&inos) {
        assert_eq!(content(&upper, ino), [at]);
    }
}
