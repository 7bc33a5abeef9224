//! The law of `record`: a tree becomes exactly what RCC made of it. A tree for which this is impossible is refused with the name of the
//! entry, and nothing is published.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic, its helpers too

mod ahead;
mod refused;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flate2::read::MultiGzDecoder;
use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::rcc::home::{Environment, Home, blueprint_hash};
use holofs::space::record::{Options, RecordError, Recorded, record};
use holofs::store::observe::{Counter, Observer, Tally};

const IDENTITY: &str = "h59acff1_493f813dad24d3t";
const RECORDED_BASE: &str = "/tmp/holofs-golden/holotree";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

fn unpack(archive: &str, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let mut tar = Command::new("tar");
    let status = tar.arg("-xpzf").arg(golden(archive)).arg("-C").arg(target).status().unwrap();
    assert!(status.success(), "tar cannot unpack {archive}");
}

fn gunzip(stored: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    MultiGzDecoder::new(stored).read_to_end(&mut content).unwrap();
    content
}

/// A private home with a stage in its holotree.
struct Fixture {
    temp: tempfile::TempDir,
    home: Home,
}

impl Fixture {
    fn new() -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        let var = move |name: &str| match name {
            "HOME" => Some(OsString::from("/home/user")),
            "ROBOCORP_HOME" => Some(root.clone().into_os_string()),
            _ => None,
        };
        let home = Home::locate_with(&Environment { var: &var }, &temp.path().join("no-shared")).unwrap();
        fs::create_dir_all(home.holotree().join(IDENTITY)).unwrap();
        Fixture { temp, home }
    }

    fn raw() -> Fixture {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.home.catalog_dir()).unwrap();
        fs::write(fixture.home.catalog_dir().join("compress.no"), "present").unwrap();
        fixture
    }

    fn stage(&self) -> PathBuf {
        self.home.holotree().join(IDENTITY)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.stage().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn record(&self) -> Result<Recorded, RecordError> {
        record(&self.stage(), &self.home, &Options::new("a name"), &Tally::new())
    }

    /// Every file below the hololib with its bytes.
    fn hololib(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_below(self.home.hololib())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let text = digest.to_string();
        self.home.library().join(&text[..2]).join(&text[2..4]).join(&text[4..6]).join(text)
    }
}

fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

// --- against RCC ------------------------------------------------------------------------------------------------------

/// Unpacks the golden stage into the fixture; the two links with absolute targets then lead into this stage.
fn unpack_stage(fixture: &Fixture) {
    unpack("stage-source.tar.gz", fixture.home.holotree());
    for (link, target) in [("abs-into-stage", "plain/no-needle.txt"), ("abs-dir-into-stage", "plain")] {
        let path = fixture.stage().join("links").join(link);
        fs::remove_file(&path).unwrap();
        symlink(fixture.stage().join(target), path).unwrap();
    }
}

/// A text of the golden data, as if RCC had recorded in this home.
fn moved_here(text: &[u8], fixture: &Fixture) -> String {
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.replace(RECORDED_BASE, fixture.home.holotree().to_str().unwrap())
}

fn golden_is_recorded_as_rcc_did(fixture: &Fixture, regime: &str) {
    unpack_stage(fixture);
    let specification = fs::read_to_string(fixture.stage().join("identity.yaml")).unwrap();
    let options = Options { recorder: "v18.18.1".into(), ..Options::new(format!("\n{specification}\n")) };
    let tally = Tally::new();
    let recorded = record(&fixture.stage(), &fixture.home, &options, &tally).unwrap();

    let name = "14023a1f332a0231v12.linux_amd64";
    assert_eq!(recorded.catalog, fixture.home.catalog_dir().join(name));
    let ours = gunzip(&fs::read(&recorded.catalog).unwrap());
    let theirs = gunzip(&fs::read(golden(&format!("catalog-{regime}.json.gz"))).unwrap());
    assert_eq!(String::from_utf8(ours).unwrap(), moved_here(&theirs, fixture));
    let info = fs::read(fixture.home.catalog_dir().join(format!("{name}.info"))).unwrap();
    let golden_info = fs::read(golden(&format!("catalog-{regime}.info"))).unwrap();
    assert_eq!(String::from_utf8(info).unwrap(), moved_here(&golden_info, fixture));

    let theirs = tempfile::tempdir().unwrap();
    unpack(&format!("hololib-dir-{regime}.tar.gz"), theirs.path());
    let decode = |bytes: &Vec<u8>| if regime == "gz" { gunzip(bytes) } else { bytes.clone() };
    let blobs = |all: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<_, _> {
        let blobs =
            all.iter().filter(|(path, _)| path.components().any(|part| part.as_os_str() == "library"));
        blobs.map(|(path, bytes)| (path.file_name().unwrap().to_owned(), decode(bytes))).collect()
    };
    let (ours, theirs) = (blobs(fixture.hololib()), blobs(files_below(theirs.path())));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours == theirs, "a blob has another content");

    assert_eq!((recorded.files, recorded.directories, recorded.links), (115, 47, 13));
    assert_eq!((recorded.bytes, recorded.relocated_files), (22394215, 49));
    assert_eq!((recorded.blobs_written, recorded.blobs_present), (ours.len() as u64, 0));
    assert_eq!(tally.get(Counter::BlobsRecorded), ours.len() as u64);
    assert_eq!(recorded.warnings, Vec::<String>::new());
}

#[test]
fn record_of_the_golden_tree_is_as_rcc_recorded_it_compressed() {
    golden_is_recorded_as_rcc_did(&Fixture::new(), "gz");
}

#[test]
fn record_of_the_golden_tree_is_as_rcc_recorded_it_raw() {
    golden_is_recorded_as_rcc_did(&Fixture::raw(), "raw");
}

// --- the library ------------------------------------------------------------------------------------------------------

#[test]
fn recording_again_writes_no_blob_and_the_same_catalog() {
    for fixture in [Fixture::new(), Fixture::raw()] {
        fixture.put("a/file", "content");
        fixture.put("a/same", "content");
        fixture.put("empty", "");
        let first = fixture.record().unwrap();
        let before = fixture.hololib();
        let second = fixture.record().unwrap();
        assert_eq!((first.blobs_written, first.blobs_present), (2, 0));
        assert_eq!((second.blobs_written, second.blobs_present), (0, 2));
        assert_eq!(fixture.hololib(), before);
    }
}

#[test]
fn record_writes_a_truncated_blob_again() {
    for (fixture, regime) in [(Fixture::new(), Regime::Sha256), (Fixture::raw(), Regime::SipHash128)] {
        let content = "some content\n".repeat(1000);
        fixture.put("file", &content);
        fixture.record().unwrap();
        let blob = fixture.blob(&Digest::of(regime, content.as_bytes()));
        let good = fs::read(&blob).unwrap();
        for length in [0, 1, 20, good.len() - 1] {
            fs::write(&blob, &good[..length]).unwrap();
            assert_eq!(fixture.record().unwrap().blobs_written, 1, "{length} of {}", good.len());
            assert_eq!(fs::read(&blob).unwrap(), good);
        }
    }
}

#[test]
fn record_keeps_what_other_writers_left_in_the_library() {
    let fixture = Fixture::new();
    let content = b"some content";
    fixture.put("file", content);
    let blob = fixture.blob(&Digest::of(Regime::Sha256, content));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    let gzip = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    let members = [gzip(&content[..5]), gzip(&content[5..])].concat();
    for stored in [content.to_vec(), zstd::encode_all(&content[..], 3).unwrap(), gzip(content), members] {
        fs::write(&blob, &stored).unwrap();
        assert_eq!(fixture.record().unwrap().blobs_present, 1);
        assert_eq!(fs::read(&blob).unwrap(), stored);
    }
}

#[test]
fn record_has_a_blob_for_every_digest_even_behind_links_out_of_the_tree() {
    let fixture = Fixture::new();
    let outside = fixture.temp.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("sub/file"), "behind a link to a directory").unwrap();
    fs::write(outside.join("other"), "behind a link to a file").unwrap();
    symlink(&outside, fixture.stage().join("dir")).unwrap();
    symlink(outside.join("other"), fixture.stage().join("file")).unwrap();
    let recorded = fixture.record().unwrap();
    let (catalog, _) = Catalog::read(&recorded.catalog).unwrap();
    assert_eq!((recorded.links, recorded.files, recorded.directories), (2, 3, 3));
    for (digest, size) in catalog.digests() {
        let content = gunzip(&fs::read(fixture.blob(digest)).unwrap());
        assert_eq!((content.len() as u64, Digest::of(Regime::Sha256, &content)), (size, *digest));
    }
    let shadows: Vec<_> = catalog.dirs().iter().map(|dir| (dir.symlink.is_some(), dir.shadow)).collect();
    assert_eq!(shadows, [(false, false), (true, false), (false, true)]);
}

#[test]
fn record_streams_a_long_file_to_the_same_result() {
    for (fixture, regime) in [(Fixture::new(), Regime::Sha256), (Fixture::raw(), Regime::SipHash128)] {
        let mut content = vec![b'.'; 33 << 20];
        for offset in [0, (1 << 20) - 7, 5 << 20, (33 << 20) - 24] {
            content[offset..offset + 24].copy_from_slice(IDENTITY.as_bytes());
        }
        fixture.put("long", &content);
        let recorded = fixture.record().unwrap();
        let (catalog, _) = Catalog::read(&recorded.catalog).unwrap();
        let file = catalog.files().next().unwrap();
        let digest = Digest::of(regime, &content);
        assert_eq!(file.digest, Some(digest));
        assert_eq!(file.rewrite, [0, (1 << 20) - 7, 5 << 20, (33 << 20) - 24]);
        let stored = fs::read(fixture.blob(&digest)).unwrap();
        assert!(content == if regime == Regime::Sha256 { gunzip(&stored) } else { stored });
        assert_eq!((recorded.relocated_files, recorded.relocations), (1, 4));
    }
}

#[test]
fn record_reads_one_file_under_many_names_once() {
    let fixture = Fixture::new();
    fixture.put("lib/file", format!("#!/{IDENTITY}/x\n"));
    fs::hard_link(fixture.stage().join("lib/file"), fixture.stage().join("lib/twin")).unwrap();
    symlink("lib", fixture.stage().join("lib64")).unwrap();
    let progress = Progress::default();
    let recorded = record(&fixture.stage(), &fixture.home, &Options::new("x"), &progress).unwrap();
    assert_eq!((recorded.files, recorded.relocated_files, recorded.relocations), (4, 4, 4));
    assert_eq!(*progress.0.lock().unwrap(), [30, 30], "30 bytes expected, and done");
}

/// Keeps the announced total and the completed work.
#[derive(Default)]
struct Progress(Mutex<[u64; 2]>);

impl Observer for Progress {
    fn count(&self, _: Counter, _: u64) {}
    fn fallback(&self, what: &'static str, reason: &str) {
        panic!("{what}: {reason}");
    }
    fn expect(&self, total: u64) {
        self.0.lock().unwrap()[0] += total;
    }
    fn advance(&self, steps: u64) {
        self.0.lock().unwrap()[1] += steps;
    }
}

// --- what is reported -------------------------------------------------------------------------------------------------

#[test]
fn record_only_reads_the_directory() {
    let fixture = Fixture::new();
    fixture.put("a/b", "x");
    let before = files_below(&fixture.stage());
    fixture.record().unwrap();
    assert_eq!(files_below(&fixture.stage()), before);
}

#[test]
fn record_warns_of_a_missing_or_foreign_specification_and_an_unusual_place() {
    let fixture = Fixture::new();
    let recorded = fixture.record().unwrap();
    assert_eq!(recorded.blueprint, blueprint_hash("a name"));
    assert!(recorded.warnings.len() == 1 && recorded.warnings[0].contains("identity.yaml"));
    fixture.put("identity.yaml", "another name");
    let recorded = fixture.record().unwrap();
    assert!(recorded.warnings.len() == 1 && recorded.warnings[0].contains("not the text of the blueprint"));
    fixture.put("identity.yaml", "a name\n");
    assert_eq!(fixture.record().unwrap().warnings, Vec::<String>::new());
    let elsewhere = fixture.temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(fixture.stage(), elsewhere.join(IDENTITY)).unwrap();
    let moved =
        record(&elsewhere.join("x/..").join(IDENTITY), &fixture.home, &Options::new("a name"), &Tally::new());
    assert!(moved.is_err(), "x does not exist");
    let dotted = elsewhere.join("./").join(IDENTITY).join("");
    let moved = record(&dotted, &fixture.home, &Options::new("a name"), &Tally::new()).unwrap();
    assert_eq!(moved.base, elsewhere);
    assert!(moved.warnings.len() == 1 && moved.warnings[0].contains("elsewhere"), "{:?}", moved.warnings);
}

#[test]
fn record_leaves_only_the_catalog_and_its_info_in_the_catalog_directory() {
    let fixture = Fixture::new();
    fixture.put("file", "x");
    let recorded = fixture.record().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(fixture.home.catalog_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let name = recorded.catalog.file_name().unwrap().to_str().unwrap();
    assert_eq!(names, [name, &format!("{name}.info")]);
    assert_eq!(fixture.home.find_catalog(&recorded.blueprint).unwrap(), recorded.catalog);
}

/// Sets a flag after some contents.
struct Interrupting {
    flag: Arc<AtomicBool>,
    after: AtomicU64,
}

impl Observer for Interrupting {
    fn count(&self, _counter: Counter, _amount: u64) {}

    fn fallback(&self, _what: &'static str, _reason: &str) {}

    fn advance(&self, _steps: u64) {
        if self.after.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.flag.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn record_that_is_interrupted_leaves_what_was_there() {
    let mut interrupted = 0;
    for after in [1, 2, 5, 10, 20, 40, 80] {
        let fixture = Fixture::new();
        unpack_stage(&fixture);
        // Another catalog uses this content already.
        let shared = fs::read(fixture.stage().join("plain/no-needle.txt")).unwrap();
        let other = fixture.home.holotree().join("h59acff1_493f813dad24d3u");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("shared"), shared).unwrap();
        record(&other, &fixture.home, &Options::new("another name"), &Tally::new()).unwrap();
        let before = fixture.hololib();
        let flag = Arc::new(AtomicBool::new(false));
        let observer = Interrupting { flag: Arc::clone(&flag), after: AtomicU64::new(after) };
        let options = Options { interrupted: flag, ..Options::new("a name") };
        match record(&fixture.stage(), &fixture.home, &options, &observer) {
            Err(RecordError::Interrupted) => {
                interrupted += 1;
                assert_eq!(fixture.hololib(), before, "after {after}");
                fixture.record().unwrap();
            }
            outcome => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
    assert!(interrupted >= 4, "{interrupted}");
}
