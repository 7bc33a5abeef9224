//! What a recorder stores while the tree is still being created.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holofs::rcc::digest::{Digest, Regime};
use holofs::space::record::{Options, RecordError, Recorder};
use holofs::store::observe::Tally;

use super::{Fixture, IDENTITY, files_below};

/// A recorder that has stored every file of the stage; those are so many.
fn followed(fixture: &Fixture, files: usize) -> Recorder<'_> {
    let (mut recorder, ended) = (Recorder::new(&fixture.home), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| recorder.follow(&fixture.stage(), &ended));
        let blobs = || files_below(&fixture.home.library()).into_keys().filter(|path| !is_part(path)).count();
        let (started, limit) = (Instant::now(), Duration::from_secs(60));
        while blobs() < files && started.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(blobs(), files, "after {:?}", started.elapsed());
        ended.store(true, Ordering::Relaxed);
    });
    recorder
}

/// True for a blob that is being written.
fn is_part(path: &Path) -> bool {
    path.to_string_lossy().contains(".part#")
}

#[test]
fn record_of_files_read_ahead_is_the_tree_as_it_is() {
    for fixture in [Fixture::new(), Fixture::raw()] {
        let names = ["kept", "changed", "removed", "replaced", "lib/kept", "lib/long"];
        for name in names {
            let lines = if name == "lib/long" { 2000 } else { 1 };
            fixture.put(name, format!("{name} in {IDENTITY}\n").repeat(lines));
        }
        let recorder = followed(&fixture, names.len());
        fixture.put("changed", format!("{IDENTITY} 1"));
        fs::remove_file(fixture.stage().join("removed")).unwrap();
        fs::rename(fixture.put("new", "of another file"), fixture.stage().join("replaced")).unwrap();
        fixture.put("lib/added", "content");
        let recorded = recorder.record(&fixture.stage(), &Options::new("a name"), &Tally::new()).unwrap();
        assert_eq!(recorded.blobs_written, 6);
        let with_ahead = fixture.hololib();
        fs::remove_dir_all(fixture.home.library()).unwrap();
        fixture.record().unwrap();
        assert_eq!(fixture.hololib(), with_ahead, "neither more nor other blobs");
    }
}

#[test]
fn reading_ahead_without_a_recording_leaves_the_blobs_that_were_there() {
    let fixture = Fixture::new();
    fixture.put("lib/known", "known");
    fixture.record().unwrap();
    let before = fixture.hololib();
    for number in 0..50 {
        fixture.put(&format!("lib/{number}"), format!("new {number}"));
    }
    drop(followed(&fixture, 51));
    assert_eq!(fixture.hololib(), before);
    // A recording that fails does the same; a damaged blob is whole again.
    let known = fixture.blob(&Digest::of(Regime::Sha256, b"known"));
    fs::write(&known, &fs::read(&known).unwrap()[..20]).unwrap();
    let recorder = followed(&fixture, 51);
    symlink("nowhere", fixture.stage().join("dangling")).unwrap();
    let error = recorder.record(&fixture.stage(), &Options::new("another"), &Tally::new()).unwrap_err();
    assert!(matches!(error, RecordError::Dangling { .. }), "{error}");
    assert_eq!(fixture.hololib(), before);
}

#[test]
fn record_puts_large_files_into_the_raw_store_up_to_a_limit_and_only_if_they_are_the_same_in_every_space() {
    let fixture = Fixture::new();
    for (name, letter) in [("a.so", b'a'), ("b.so", b'b'), ("c.so", b'c')] {
        fixture.put(name, vec![letter; 200 << 10]);
    }
    fixture.put("small.py", "small");
    fixture.put("relocated.so", format!("{IDENTITY}/lib ").repeat(10_000));
    let recorder = Recorder::new(&fixture.home).for_use(500 << 10);
    recorder.record(&fixture.stage(), &Options::new("a name"), &Tally::new()).unwrap();
    let raw = files_below(fixture.home.raw_dir().path());
    let contents: BTreeSet<u8> =
        raw.iter().filter(|(path, _)| is_entry(path)).map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(contents.len(), 2, "{:?}", raw.keys());
    for (path, bytes) in raw.iter().filter(|(path, _)| is_entry(path)) {
        let digest = Digest::of(Regime::Sha256, bytes);
        assert_eq!(path.file_name().unwrap().to_str(), Some(&*format!("{digest}.0644")));
        assert_eq!(bytes.len(), 200 << 10);
    }
}

/// True for the path of an entry of the raw store.
fn is_entry(path: &Path) -> bool {
    path.extension().is_some_and(|mode| mode == "0644")
}

#[test]
fn record_of_files_followed_while_they_are_written_is_the_tree_as_it_is() {
    for is_known in [false, true] {
        let fixture = Fixture::new();
        let long = format!("long in {IDENTITY}\n").repeat(2000);
        let put = |name: &str, text: &str| drop(fixture.put(name, text));
        put("lib/long", &long);
        if is_known {
            // The library has this blob, so it is not written again until it turns out to be gone.
            fixture.record().unwrap();
        }
        let (mut recorder, ended) = (Recorder::new(&fixture.home), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| recorder.follow(&fixture.stage(), &ended));
            put("kept", &format!("kept in {IDENTITY}"));
            // Written in place, always of one size.
            for number in 0..100 {
                put("busy", &format!("{number:04} {IDENTITY}"));
                std::thread::sleep(Duration::from_millis(if number % 20 == 0 { 80 } else { 2 }));
            }
            ended.store(true, Ordering::Relaxed);
        });
        fs::remove_dir_all(fixture.home.library()).unwrap();
        recorder.record(&fixture.stage(), &Options::new("a name"), &Tally::new()).unwrap();
        let with_ahead = fixture.hololib();
        fs::remove_dir_all(fixture.home.library()).unwrap();
        fixture.record().unwrap();
        assert_eq!(fixture.hololib(), with_ahead);
    }
}
