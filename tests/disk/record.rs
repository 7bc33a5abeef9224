//! The law of `record`: a tree becomes exactly what RCC made of it. A tree for which this is impossible is refused with the name of the
//! entry, and nothing is published.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic, its helpers too

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use holofs::error::line;
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
        let mut content = vec![b'.'; 17 << 20];
        for offset in [0, (1 << 20) - 7, 5 << 20, (17 << 20) - 24] {
            content[offset..offset + 24].copy_from_slice(IDENTITY.as_bytes());
        }
        fixture.put("long", &content);
        let recorded = fixture.record().unwrap();
        let (catalog, _) = Catalog::read(&recorded.catalog).unwrap();
        let file = catalog.files().next().unwrap();
        let digest = Digest::of(regime, &content);
        assert_eq!(file.digest, Some(digest));
        assert_eq!(file.rewrite, [0, (1 << 20) - 7, 5 << 20, (17 << 20) - 24]);
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

// --- what is refused --------------------------------------------------------------------------------------------------

/// Something that cannot be recorded, put into a stage.
type Plant = fn(&Path);

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn record_names_what_it_cannot_record_and_publishes_nothing() {
    let cases: [(&str, &str, Plant); 8] = [
        ("bad", "leads nowhere", |path| symlink("missing", path).unwrap()),
        ("bad", "leads nowhere", |path| symlink("bad", path).unwrap()),
        ("bad", "contains itself", |path| symlink(".", path).unwrap()),
        ("bad", "contains itself", |path| symlink("../..", path).unwrap()),
        ("bad", "a FIFO", make_fifo),
        ("bad", "a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("bad", "a device", |path| symlink("/dev/null", path).unwrap()),
        ("bad", "a FIFO", |path| {
            make_fifo(&path.with_extension("pyc")); // dropped by name, but visible through the link
            symlink("bad.pyc", path).unwrap();
        }),
    ];
    for (name, reason, plant) in cases {
        let fixture = Fixture::new();
        fixture.put("sub/good", "content");
        plant(&fixture.stage().join("sub").join(name));
        let error = fixture.record().unwrap_err().to_string();
        assert!(error.contains("sub/bad") && error.contains(reason), "{error}");
        assert!(!fixture.home.hololib().exists(), "{error}");
    }
}

#[test]
fn names_and_link_texts_that_are_not_utf8_are_refused() {
    let fixture = Fixture::new();
    let odd = fixture.stage().join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&odd, "x").unwrap();
    assert!(matches!(fixture.record(), Err(RecordError::NotUtf8 { path }) if path == odd));
    fs::remove_file(&odd).unwrap();
    let target = fixture.temp.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&target, "x").unwrap();
    symlink(&target, fixture.stage().join("link")).unwrap();
    assert!(matches!(fixture.record(), Err(RecordError::NotUtf8 { .. })));
}

#[test]
fn killed_names_are_not_even_looked_at() {
    let fixture = Fixture::new();
    symlink("missing", fixture.stage().join("gone.pyc")).unwrap();
    fs::create_dir(fixture.stage().join("repo.git")).unwrap();
    make_fifo(&fixture.stage().join(".gitignore"));
    fixture.put("kept.pyo", "x");
    let recorded = fixture.record().unwrap();
    assert_eq!((recorded.files, recorded.directories), (1, 1));
}

#[test]
fn record_refuses_a_directory_whose_name_no_label_can_replace_with_advice() {
    let fixture = Fixture::new();
    for (name, expected) in [
        ("env", "24 letters"),
        ("h59acff1_493f813dad24d3t0", "24 letters"),
        ("h59acff1-493f813dad24d3t", "24 letters"),
        ("t59acff1_493f813dad24d3t", "never finds"),
        ("59acff1_5a1fac3_9fcd2535", "never finds"),
    ] {
        let dir = fixture.temp.path().join(name);
        fs::create_dir(&dir).unwrap();
        let error = record(&dir, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
        let error = line(&error).to_string();
        let advice =
            if cfg!(all(target_os = "linux", target_arch = "x86_64")) { IDENTITY } else { "h59acff1_" };
        assert!(error.contains(expected) && error.contains(advice) && error.contains(name), "{error}");
    }
    let missing = fixture.temp.path().join("missing");
    let error = record(&missing, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
    assert!(matches!(error, RecordError::Io { .. }), "{error}");
    let file = fixture.put("file", "x");
    let error = record(&file, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
    assert!(matches!(error, RecordError::NotADirectory { .. }), "{error}");
}

/// Changes the tree at a certain moment of the recording.
struct Meddler {
    at_start: Box<dyn Fn() + Send + Sync>,
    at_end: Box<dyn Fn() + Send + Sync>,
}

impl Observer for Meddler {
    fn count(&self, _: Counter, _: u64) {}
    fn fallback(&self, _: &'static str, _: &str) {}
    fn expect(&self, _: u64) {
        (self.at_start)();
    }
    fn advance(&self, _: u64) {
        (self.at_end)();
    }
}

#[test]
fn record_refuses_a_tree_that_changes_by_name() {
    type Change = fn(&Path);
    let append: Change = |file| {
        let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(b"more").unwrap();
    };
    let changes: [(Change, Change, &str); 7] = [
        (append, |_| {}, "file"),
        (|file| fs::write(file, "CONTENT").unwrap(), |_| {}, "file"),
        (|file| fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap(), |_| {}, "file"),
        (|file| fs::write(file, "").unwrap(), |_| {}, "file"),
        (|file| fs::remove_file(file).unwrap(), |_| {}, "file"),
        (
            |file| {
                fs::remove_file(file).unwrap();
                make_fifo(file);
            },
            |_| {},
            "file",
        ),
        (|_| {}, |file| fs::write(file.with_extension("new"), "").unwrap(), IDENTITY),
    ];
    for (at_start, at_end, named) in changes {
        let fixture = Fixture::new();
        let file = fixture.put("file", "content");
        let (first, second) = (file.clone(), file);
        let meddler = Meddler {
            at_start: Box::new(move || at_start(&first)),
            at_end: Box::new(move || at_end(&second)),
        };
        let error = record(&fixture.stage(), &fixture.home, &Options::new("x"), &meddler).unwrap_err();
        let expected =
            matches!(error, RecordError::Changed { .. } | RecordError::Io { doing: "Opening", .. });
        assert!(expected && error.to_string().contains(named), "{error}");
        assert!(!fixture.home.catalog_dir().exists(), "{error}");
        assert!(fixture.hololib().keys().all(|path| !path.to_string_lossy().contains(".part#")));
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
