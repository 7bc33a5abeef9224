//! The store as a whole: golden hololibs, parallel threads and processes, full disks; the raw store and its limits.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test may panic and say why it skips

mod raw_store;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use holofs::rcc::digest::{Digest, Regime};
use holofs::store::observe::{Counter, Tally};
use holofs::store::{
    BlobSource, Library, Limits, MOTHER_TIME, Sharing, Store, StoreError, Wanted, blob_path, publish,
};
use proptest::prelude::*;
use serde_json::Value;

/// Contents in a library, by digest and size.
struct Fixture {
    temp: tempfile::TempDir,
    tally: Arc<Tally>,
    contents: Vec<(Wanted, Vec<u8>)>,
}

impl Fixture {
    /// A SipHash-128 library of `count` contents of `size` bytes.
    fn new(count: u32, size: usize) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let contents = (0..count).map(|number| number.to_le_bytes().repeat(size / 4)).collect();
        let mut fixture = Fixture { temp, tally: Arc::default(), contents: Vec::new() };
        fixture.add(contents);
        fixture
    }

    fn add(&mut self, contents: Vec<Vec<u8>>) {
        for content in contents {
            let digest = Digest::of(Regime::SipHash128, &content);
            publish(&self.library(), &digest, Sharing::Private, &content).unwrap();
            let wanted = Wanted { digest, size: content.len() as u64, mode: 0o644 };
            self.contents.push((wanted, content));
        }
    }

    fn library(&self) -> PathBuf {
        self.temp.path().join("library")
    }

    fn raw(&self) -> PathBuf {
        self.temp.path().join("raw")
    }

    fn store(&self, limits: Limits) -> Store {
        self.store_at(&self.raw(), limits)
    }

    fn store_at(&self, raw: &Path, limits: Limits) -> Store {
        Store::open(Library::open(&self.library()).unwrap(), raw, limits, self.tally.clone())
    }

    fn assert_all_open(&self, store: &Store) {
        for (wanted, content) in &self.contents {
            assert!(store.open(wanted).unwrap().read_all().unwrap() == *content);
        }
    }

    /// The files in the raw store, with their sizes.
    fn raw_files(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.raw()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    dirs.push(entry.path());
                } else if entry.file_name() != "seals" {
                    found.insert(entry.file_name().into_string().unwrap(), metadata.len());
                }
            }
        }
        found
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

/// Every file of a golden catalog: path, and its content's digest and size.
fn golden_files(catalog: &str) -> Vec<(String, Wanted)> {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(File::open(golden(catalog)).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let catalog: Value = serde_json::from_str(&text).unwrap();
    let (mut files, mut dirs) = (Vec::new(), vec![(String::new(), &catalog["tree"])]);
    while let Some((path, dir)) = dirs.pop() {
        for (name, file) in dir["files"].as_object().unwrap() {
            let digest = file["digest"].as_str().unwrap().parse().unwrap();
            let (size, mode) =
                (file["size"].as_u64().unwrap(), file["mode"].as_u64().unwrap() as u16 & 0o777);
            files.push((format!("{path}/{name}"), Wanted { digest, size, mode }));
        }
        dirs.extend(
            dir["subdirs"].as_object().unwrap().iter().map(|(name, dir)| (format!("{path}/{name}"), dir)),
        );
    }
    files
}

#[test]
fn open_from_a_held_library_gives_old_and_replaced_content() {
    let mut fixture = Fixture::new(1, 4096);
    let held = Library::open(&fixture.library()).unwrap().hold().unwrap();
    let unheld = Library::open(&fixture.library()).unwrap();
    fs::rename(fixture.library(), fixture.temp.path().join("away")).unwrap();
    fs::create_dir(fixture.library()).unwrap();
    fixture.add(vec![b"came in its place".to_vec()]);
    let verify = |library: &Library, at: usize| {
        let wanted = fixture.contents[at].0;
        library.verify(&wanted.digest, wanted.size)
    };
    assert!(verify(&held, 0).is_ok() && verify(&held, 1).is_ok());
    assert!(verify(&unheld, 0).is_err() && verify(&unheld, 1).is_ok());
    fs::remove_dir_all(fixture.temp.path().join("away")).unwrap();
    assert!(matches!(verify(&held, 0), Err(StoreError::Missing { .. })), "{:?}", verify(&held, 0));
}

#[test]
fn open_gives_every_file_of_both_golden_hololibs_its_mode_and_mother_time() {
    for (archive, catalog) in
        [("hololib-dir-gz.tar.gz", "catalog-gz.json.gz"), ("hololib-dir-raw.tar.gz", "catalog-raw.json.gz")]
    {
        let temp = tempfile::tempdir().unwrap();
        let unpacked =
            Command::new("tar").arg("-xzf").arg(golden(archive)).arg("-C").arg(temp.path()).status();
        assert!(unpacked.unwrap().success());
        let library = Library::open(&temp.path().join("hololib/library")).unwrap();
        let tally = Arc::new(Tally::new());
        let store = Store::open(library, &temp.path().join("raw"), Limits::default(), tally.clone());
        let files = golden_files(catalog);
        assert!(files.len() > 100, "{}", files.len());
        for (path, wanted) in &files {
            let file = store.open(wanted).unwrap();
            let content = file.read_all().unwrap();
            assert_eq!(Digest::of(wanted.digest.regime(), &content), wanted.digest, "{path}");
            let metadata = fs::metadata(file.path().unwrap()).unwrap();
            assert_eq!(
                (metadata.mode() & 0o7777, metadata.mtime()),
                (u32::from(wanted.mode) | 0o400, MOTHER_TIME)
            );
            if path == "/plain/inner.gz" {
                assert_eq!(content[..2], [0x1f, 0x8b], "a gzip file inside of the tree stays one");
            }
        }
        assert_eq!(tally.counts().get("blob_errors"), None);
    }
}

#[test]
fn open_by_two_stores_with_eight_threads_each_shares_one_raw_store() {
    let fixture = Fixture::new(40, 100_000);
    let stores = [fixture.store(Limits::default()), fixture.store(Limits::default())];
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (fixture, store) = (&fixture, &stores[thread % 2]);
            scope.spawn(move || fixture.assert_all_open(store));
        }
    });
    let ingested = fixture.tally.get(Counter::BlobsIngested);
    assert!((40..=80).contains(&ingested), "each store decodes a blob once at most: {ingested}");
    assert_eq!(fixture.raw_files().len(), 40, "no temporary file is left");
    assert_eq!(fixture.tally.fallbacks(), BTreeMap::new());
}

#[test]
fn threads_that_want_the_same_blob_decode_it_once() {
    let fixture = Fixture::new(1, 20_000_000);
    let store = fixture.store(Limits::default());
    std::thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(|| fixture.assert_all_open(&store))));
    });
    assert_eq!(fixture.tally.get(Counter::BlobsIngested), 1);
    assert_eq!(fixture.tally.get(Counter::RawHits), 7);
}

#[test]
fn open_waits_for_a_blob_that_is_overwritten_in_place() {
    let fixture = Fixture::new(1, 4_000_000);
    let (wanted, content) = &fixture.contents[0];
    let path = fixture.library().join(blob_path(&wanted.digest));
    let half = content.len() / 2;
    let mut importer = File::create(&path).unwrap(); // truncates, as RCC's import does
    importer.write_all(&content[..half]).unwrap();
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| fixture.store(Limits::default()).open(wanted));
        for piece in content[half..].chunks(100_000) {
            std::thread::sleep(Duration::from_millis(1));
            importer.write_all(piece).unwrap();
        }
        // The reader may have given up if it saw no change while it looked, but it never has other bytes.
        match opened.join().unwrap() {
            Ok(file) => assert!(file.read_all().unwrap() == *content),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    });
    fixture.assert_all_open(&fixture.store(Limits::default()));
}

#[test]
fn open_of_one_content_in_two_modes_makes_two_entries() {
    let fixture = Fixture::new(1, 100);
    let store = fixture.store(Limits::default());
    let wanted = fixture.contents[0].0;
    let modes = [0o644, 0o755, 0o4755, 0o000].map(|mode| {
        let file = store.open(&Wanted { mode, ..wanted }).unwrap();
        fs::metadata(file.path().unwrap()).unwrap().mode() & 0o7777
    });
    assert_eq!(modes, [0o644, 0o755, 0o755, 0o400]);
    assert_eq!(fixture.raw_files().len(), 3);
}

#[test]
fn directories_of_ours_are_private() {
    let fixture = Fixture::new(1, 100);
    let file = fixture.store(Limits::default()).open(&fixture.contents[0].0).unwrap();
    for dir in file.path().unwrap().ancestors().skip(1).take(2) {
        assert_eq!(fs::metadata(dir).unwrap().mode() & 0o7777, 0o700, "{}", dir.display());
    }
}

#[test]
fn open_does_not_use_a_raw_store_that_others_may_write() {
    let fixture = Fixture::new(1, 100);
    fs::create_dir(fixture.raw()).unwrap();
    fs::set_permissions(fixture.raw(), fs::Permissions::from_mode(0o777)).unwrap();
    let store = fixture.store(Limits::default());
    assert!(store.raw().is_none());
    fixture.assert_all_open(&store);
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 1);
    assert!(fixture.tally.fallbacks()["raw store"].reason.contains("others may write"));
}

#[test]
fn open_without_a_raw_store_serves_from_memory_and_reports_it_once() {
    let fixture = Fixture::new(5, 100);
    fs::write(fixture.raw(), "a file").unwrap();
    let store = fixture.store(Limits::default());
    fixture.assert_all_open(&store);
    fixture.assert_all_open(&store);
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 5);
    assert_eq!(fixture.tally.fallbacks()["raw store"].count, 1);
    let file = store.ensure_raw(&fixture.contents[0].0).unwrap();
    assert_eq!(file.path(), None);
}

#[test]
fn memory_is_bounded_and_evicted_content_is_decoded_again() {
    let fixture = Fixture::new(10, 1000);
    fs::write(fixture.raw(), "a file").unwrap();
    let store = fixture.store(Limits { memory_bytes: 3000, ..Limits::default() });
    fixture.assert_all_open(&store);
    fixture.assert_all_open(&store);
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 20);
}

#[test]
fn open_inflates_a_file_above_the_memory_limit_once_however_often_it_is_opened() {
    let fixture = Fixture::new(2, 300_000);
    fs::write(fixture.raw(), "a file").unwrap();
    let store = fixture.store(Limits { memory_bytes: 100_000, ..Limits::default() });
    let (large, other) = (&fixture.contents[0], &fixture.contents[1]);
    for offset in (0..299_000).step_by(4096) {
        let mut piece = [0; 1000];
        store.open(&large.0).unwrap().read_exact_at(&mut piece, offset).unwrap();
        assert_eq!(piece[..], large.1[offset as usize..][..1000]);
    }
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 1);
    store.open(&other.0).unwrap();
    store.open(&other.0).unwrap();
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 2);
}

/// True if this test may mount; prints a message if it is skipped.
fn may_mount() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: mounting a tmpfs needs root");
    }
    root
}

/// A mounted file system, unmounted when dropped.
struct Volume(PathBuf);

impl Volume {
    fn tmpfs(at: PathBuf, size: &str) -> Volume {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        assert!(mounted.unwrap().success());
        Volume(at)
    }

    fn remount_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
fn open_on_a_full_disk_costs_memory_but_no_wrong_or_missing_byte() {
    if !may_mount() {
        return;
    }
    let fixture = Fixture::new(8, 100_000);
    let _tmpfs = Volume::tmpfs(fixture.raw(), "512k");
    let store = fixture.store(Limits::default());
    fixture.assert_all_open(&store);
    let (ingested, memory) =
        (fixture.tally.get(Counter::BlobsIngested), fixture.tally.get(Counter::ServedFromMemory));
    assert_eq!(ingested + memory, 8);
    assert!(ingested > 0 && memory > 0, "{ingested} on disk, {memory} in memory");
    let fallback = &fixture.tally.fallbacks()["raw store"];
    assert_eq!(fallback.count, 1);
    assert!(fallback.reason.contains("No space left"), "{}", fallback.reason);
    assert!(fixture.raw_files().values().all(|&size| size == 100_000), "no half entry is left");
}

#[test]
fn open_reads_a_read_only_raw_store_and_the_rest_from_memory() {
    if !may_mount() {
        return;
    }
    let fixture = Fixture::new(4, 1000);
    let tmpfs = Volume::tmpfs(fixture.raw(), "4m");
    let store = fixture.store(Limits::default());
    store.open(&fixture.contents[0].0).unwrap();
    tmpfs.remount_read_only();
    let store = fixture.store(Limits::default());
    fixture.assert_all_open(&store);
    assert_eq!(fixture.tally.get(Counter::RawHits), 1);
    assert_eq!(fixture.tally.get(Counter::ServedFromMemory), 3);
}

#[test]
fn open_shares_the_blocks_of_a_raw_blob_and_still_verifies_it() {
    if !may_mount() || Command::new("mkfs.btrfs").arg("--version").output().is_err() {
        eprintln!("skipped: needs mkfs.btrfs");
        return;
    }
    let mut fixture = Fixture::new(0, 0);
    let image = fixture.temp.path().join("image");
    File::create(&image).unwrap().set_len(256 << 20).unwrap();
    assert!(Command::new("mkfs.btrfs").arg("-q").arg(&image).status().unwrap().success());
    let volume = fixture.temp.path().join("volume");
    fs::create_dir(&volume).unwrap();
    assert!(Command::new("mount").args(["-o", "loop"]).args([&image, &volume]).status().unwrap().success());
    let _unmounts = Volume(volume.clone());
    std::os::unix::fs::symlink("volume/library", fixture.library()).unwrap();
    fs::create_dir(volume.join("library")).unwrap();
    fixture.add(vec![vec![1; 1 << 20], vec![2; 1 << 20]]);
    let store = fixture.store_at(&volume.join("raw"), Limits::default());
    let (good, bad) = (&fixture.contents[0], &fixture.contents[1]);

    let file = store.open(&good.0).unwrap();
    let extents = Command::new("filefrag").arg("-v").arg(file.path().unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&extents.stdout).contains("shared"), "{extents:?}");
    File::options().write(true).open(blob_in(&fixture, &good.0)).unwrap().write_all(b"overwritten").unwrap();
    assert!(file.read_all().unwrap() == good.1);

    File::options().write(true).open(blob_in(&fixture, &bad.0)).unwrap().write_all(b"overwritten").unwrap();
    let error = store.open(&bad.0).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    assert_eq!(fixture.tally.get(Counter::BlobsIngested), 1);
}

fn blob_in(fixture: &Fixture, wanted: &Wanted) -> PathBuf {
    fixture.library().join(blob_path(&wanted.digest))
}

#[test]
fn open_with_a_wrong_size_is_an_error_and_harms_nothing() {
    let fixture = Fixture::new(1, 1000);
    let store = fixture.store(Limits::default());
    let right = fixture.contents[0].0;
    store.open(&right).unwrap();
    for size in [0, 999, 1001, u64::MAX] {
        assert!(store.open(&Wanted { size, ..right }).is_err());
        fixture.assert_all_open(&store);
    }
    assert_eq!(fixture.tally.get(Counter::BlobsIngested), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn open_returns_any_content_unchanged(contents in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..3000), 1..6)
    ) {
        let mut fixture = Fixture::new(0, 0);
        fs::create_dir_all(fixture.library()).unwrap();
        fixture.add(contents);
        fixture.assert_all_open(&fixture.store(Limits::default()));
        fixture.assert_all_open(&fixture.store(Limits::default()));
    }
}
