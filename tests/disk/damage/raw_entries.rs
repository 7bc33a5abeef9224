//! Damage to entries of the raw store: damaged entries are never used, and are recreated from the blob.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use holofs::store::observe::Counter;
use holofs::store::{BlobSource, MOTHER_TIME, StoreError};

use super::hololib::{FORMS, Form, Hololib};
use crate::common::golden::gzip;
use crate::common::is_root;

/// Opens the good blob of `form`, damages its raw entry, and opens it again in this and in a fresh store. Checks that the
/// right bytes are returned, and that `healed` entries were recreated.
fn damaged(form: Form, healed: u64, paranoid: bool, damage: impl Fn(&Path)) {
    let hololib = Hololib::new();
    let wanted = form.wanted(&form.good());
    let entry = hololib.store.open(&wanted).unwrap().path().unwrap().to_owned();
    damage(&entry);
    let store = hololib.reopened(paranoid);
    let file = store.open(&wanted).unwrap();
    assert!(file.read_all().unwrap() == form.good(), "{form:?}: wrong bytes");
    assert_eq!(hololib.tally.get(Counter::RawHealed), healed, "{form:?}");
    let metadata = fs::symlink_metadata(&entry).unwrap();
    assert!(metadata.is_file());
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.len()), (0o644, MOTHER_TIME, 50_000));
    assert!(fs::read(&entry).unwrap() == form.good());
    hololib.assert_neighbours_open(&store);
    if !paranoid {
        // The store that had the file open notices the damage, or still has the old bytes, which are right, too.
        assert!(hololib.store.open(&wanted).unwrap().read_all().unwrap() == form.good());
    }
}

fn set_mother_time(path: &Path) {
    let mother = SystemTime::UNIX_EPOCH + Duration::from_secs(MOTHER_TIME as u64);
    let times = FileTimes::new().set_accessed(mother).set_modified(mother);
    File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn open_creates_a_missing_entry_again() {
    for form in FORMS {
        damaged(form, 0, false, |entry| fs::remove_file(entry).unwrap());
    }
}

#[test]
fn open_heals_a_truncated_entry_even_with_the_right_time() {
    for form in FORMS {
        damaged(form, 1, false, |entry| {
            File::options().write(true).open(entry).unwrap().set_len(49_999).unwrap();
            set_mother_time(entry);
        });
    }
}

#[test]
fn open_detects_a_flipped_bit_by_the_time() {
    for form in FORMS {
        damaged(form, 1, false, |entry| {
            File::options().write(true).open(entry).unwrap().write_all_at(b"\0", 25_000).unwrap();
        });
    }
}

#[test]
fn open_paranoid_detects_a_flipped_bit_with_a_forged_time() {
    for form in FORMS {
        damaged(form, 1, true, |entry| {
            let byte = fs::read(entry).unwrap()[25_000];
            File::options().write(true).open(entry).unwrap().write_all_at(&[byte ^ 1], 25_000).unwrap();
            set_mother_time(entry);
        });
    }
}

#[test]
fn open_heals_an_entry_in_another_codec_or_longer() {
    for form in FORMS {
        damaged(form, 1, false, |entry| {
            fs::write(entry, gzip(&form.good())).unwrap();
            set_mother_time(entry);
        });
        damaged(form, 1, false, |entry| {
            fs::write(entry, [&form.good()[..], b"x"].concat()).unwrap();
            set_mother_time(entry);
        });
    }
}

#[test]
fn open_heals_an_entry_with_another_mode_or_owner() {
    damaged(Form::Gzip, 1, false, |entry| fs::set_permissions(entry, Permissions::from_mode(0o666)).unwrap());
    damaged(Form::Gzip, 1, false, |entry| {
        fs::set_permissions(entry, Permissions::from_mode(0o4644)).unwrap()
    });
    if !is_root() {
        eprintln!("skipped in part: giving a file away needs root");
        return;
    }
    damaged(Form::Gzip, 1, false, |entry| std::os::unix::fs::chown(entry, Some(12_345), None).unwrap());
}

#[test]
fn open_replaces_anything_but_a_regular_file() {
    damaged(Form::Gzip, 1, false, |entry| {
        fs::remove_file(entry).unwrap();
        symlink("/etc/passwd", entry).unwrap();
    });
    damaged(Form::Raw, 1, false, |entry| {
        fs::remove_file(entry).unwrap();
        assert!(Command::new("mkfifo").arg(entry).status().unwrap().success());
    });
}

#[test]
fn open_works_around_a_directory_in_the_place_of_an_entry() {
    let hololib = Hololib::new();
    let wanted = Form::Gzip.wanted(&Form::Gzip.good());
    let entry = hololib.store.open(&wanted).unwrap().path().unwrap().to_owned();
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    let file = hololib.reopened(false).open(&wanted).unwrap();
    assert!(file.read_all().unwrap() == Form::Gzip.good());
    assert_eq!(file.path(), None);
    assert_eq!(hololib.tally.get(Counter::ServedFromMemory), 1);
}

#[test]
fn open_detects_a_change_through_an_open_descriptor() {
    let hololib = Hololib::new();
    let wanted = Form::Gzip.wanted(&Form::Gzip.good());
    let entry = hololib.store.open(&wanted).unwrap().path().unwrap().to_owned();
    File::options().write(true).open(entry).unwrap().write_all_at(b"\0\0\0", 7).unwrap();
    assert!(hololib.store.open(&wanted).unwrap().read_all().unwrap() == Form::Gzip.good());
    assert_eq!(hololib.tally.get(Counter::RawHealed), 1);
}

#[test]
fn open_of_a_damaged_entry_whose_blob_is_gone_is_an_error_and_no_bytes() {
    let hololib = Hololib::new();
    let wanted = Form::Gzip.wanted(&Form::Gzip.good());
    let entry = hololib.store.open(&wanted).unwrap().path().unwrap().to_owned();
    fs::remove_file(hololib.blob(&wanted.digest)).unwrap();
    assert!(hololib.reopened(false).open(&wanted).is_ok(), "the entry alone is enough");
    fs::write(entry, b"short").unwrap();
    let error = hololib.reopened(false).open(&wanted).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    hololib.assert_neighbours_open(&hololib.store);
}

#[test]
fn read_of_an_open_file_outlives_its_entry_and_its_blob() {
    let hololib = Hololib::new();
    let wanted = Form::Raw.wanted(&Form::Raw.good());
    let file = hololib.store.open(&wanted).unwrap();
    fs::remove_file(file.path().unwrap()).unwrap();
    hololib.edit_blob(&wanted.digest, |stored| stored.fill(0));
    assert!(file.read_all().unwrap() == Form::Raw.good());
}
