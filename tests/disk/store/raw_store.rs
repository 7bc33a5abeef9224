//! The raw store: its limits, what leaves it, what is linked from it, and the descriptors that it takes.

use std::fs::{self, File, FileTimes};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use holofs::store::observe::Counter;
use holofs::store::{BlobSource, Limits, NameOf, Store, Wanted};
use holofs::sys::fs::at::TreeDir;
use holofs::sys::fs::name::Name;

use super::Fixture;

#[test]
fn evict_keeps_the_raw_store_within_its_limit_and_open_files_alive() {
    let fixture = Fixture::new(10, 1000);
    let store = fixture.store(Limits { raw_bytes: 3000, ..Limits::default() });
    let files: Vec<_> = fixture.contents.iter().map(|(wanted, _)| store.open(wanted).unwrap()).collect();
    assert_eq!(fixture.raw_files().values().sum::<u64>(), 3000);
    for (file, (_, content)) in files.iter().zip(&fixture.contents) {
        assert!(file.read_all().unwrap() == *content);
    }
    assert!(!files[0].path().unwrap().exists());
    assert!(store.ensure_raw(&fixture.contents[0].0).unwrap().path().unwrap().exists());
}

#[test]
fn link_uses_only_an_unaltered_entry() {
    let fixture = Fixture::new(5, 1000);
    let store = fixture.store(Limits::default());
    let wanted: Vec<Wanted> = fixture.contents.iter().map(|(wanted, _)| *wanted).collect();
    let place = fixture.temp.path().join("place");
    fs::create_dir(&place).unwrap();
    let dir = TreeDir::open(&place).unwrap();
    let link = |store: &Store, number: usize| {
        let name = number.to_string();
        store.link_ready(&wanted[number], NameOf::Entry, &dir, Name::new(name.as_bytes()).unwrap()).unwrap()
    };
    assert!(!link(&store, 0), "nothing is there yet");
    let entries: Vec<PathBuf> =
        wanted.iter().map(|wanted| store.ensure_raw(wanted).unwrap().path().unwrap().to_owned()).collect();
    assert!(link(&store, 0));
    assert_eq!(place.join("0").metadata().unwrap().ino(), entries[0].metadata().unwrap().ino());
    fs::write(&entries[1], vec![7; 1000]).unwrap(); // its time reveals the change
    fs::set_permissions(&entries[2], fs::Permissions::from_mode(0o600)).unwrap();
    let outside = fixture.temp.path().join("outside");
    fs::rename(&entries[3], &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &entries[3]).unwrap();
    let moved = fixture.temp.path().join("moved");
    fs::rename(entries[4].parent().unwrap(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, entries[4].parent().unwrap()).unwrap();
    for number in 1..5 {
        assert!(!link(&store, number), "{number}");
        assert!(place.join(number.to_string()).symlink_metadata().is_err(), "{number} left its name");
    }
    fs::remove_file(place.join("0")).unwrap();
    assert!(!link(&fixture.store(Limits::default()).with_paranoia(true), 0), "it has to be hashed first");
}

#[test]
fn evict_by_a_new_process_removes_the_oldest() {
    let fixture = Fixture::new(10, 1000);
    fixture.assert_all_open(&fixture.store(Limits::default()));
    let store = fixture.store(Limits { raw_bytes: 4000, ..Limits::default() });
    store.open(&fixture.contents[0].0).unwrap();
    let upkeep = store.raw().unwrap().seed().unwrap();
    assert_eq!((upkeep.entries, upkeep.bytes, upkeep.evicted), (4, 4000, 6));
    assert_eq!(fixture.raw_files().len(), 4);
    assert!(store.open(&fixture.contents[0].0).unwrap().path().unwrap().exists(), "the one in use stays");
}

#[test]
fn temporary_files_of_dead_processes_are_collected_and_no_others() {
    let fixture = Fixture::new(1, 1000);
    let store = fixture.store(Limits::default());
    let entry = store.open(&fixture.contents[0].0).unwrap().path().unwrap().to_owned();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    for (name, is_old) in [
        (format!("tmp-{}-0-0", dead.id()), true),
        (format!("tmp-{}-1-0", dead.id()), false),
        (format!("tmp-{}-2-0", std::process::id()), true),
    ] {
        let file = File::create(entry.with_file_name(name)).unwrap();
        if is_old {
            file.set_times(FileTimes::new().set_modified(old)).unwrap();
        }
    }
    assert_eq!(store.raw().unwrap().gc().unwrap().temps_removed, 1);
    assert_eq!(fixture.raw_files().len(), 3);
    assert!(entry.exists());
}

#[test]
fn few_descriptors_are_enough() {
    let this_test = std::env::current_exe().unwrap();
    let script = "ulimit -n 32 && exec \"$0\" --exact --ignored --test-threads 1 store::raw_store::open_works_with_32_descriptors";
    let status = Command::new("sh").args(["-c", script]).arg(this_test).status().unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "few_descriptors_are_enough runs it with a low limit"]
fn open_works_with_32_descriptors() {
    let fixture = Fixture::new(200, 100);
    let descriptors = NonZeroUsize::new(1024).unwrap();
    let store = fixture.store(Limits { descriptors, ..Limits::default() });
    fixture.assert_all_open(&store);
    fixture.assert_all_open(&store);
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 0);
}

#[test]
fn limits_leave_descriptors_to_others() {
    let limits = Limits::default();
    assert!((1..=1024).contains(&limits.descriptors.get()));
}
