//! `--paranoid`: content is hashed at each use, so that a forged entry of the raw store is detected even if it looks
//! unchanged, by a mount in the middle of a file and by materialize.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::MOTHER_TIME;
use holofs::store::index::Index;

use crate::common::compare::assert_same_space;
use crate::common::damage::blob_of;
use crate::common::golden::{self, CATALOG};
use crate::common::skip;
use crate::common::test_home::TestHome;

/// A file larger than the kernel's readahead.
const LARGE: &str = "plain/big-5MB.bin";

/// The entry of the raw store with the content of a golden file.
fn entry_of(test_home: &TestHome, path: &str) -> PathBuf {
    let digest = blob_of(test_home, path).file_name().unwrap().to_str().unwrap().to_owned();
    let dir = test_home.home().join("holofs/raw").join(&digest[..2]);
    let mut entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|entry| entry.file_name().unwrap().to_str().unwrap().starts_with(&digest)).unwrap()
}

/// Alters one byte, and restores every attribute of an unaltered entry.
fn forge(entry: &Path, at: u64) {
    let file = File::options().write(true).open(entry).unwrap();
    let mut byte = [0];
    File::open(entry).unwrap().read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    let mother = SystemTime::UNIX_EPOCH + Duration::from_secs(MOTHER_TIME.unsigned_abs());
    file.set_times(FileTimes::new().set_accessed(mother).set_modified(mother)).unwrap();
}

/// Like [`forge`], with a matching seal.
fn forge_all(entry: &Path, at: u64) {
    forge(entry, at);
    let (meta, name) = (fs::metadata(entry).unwrap(), entry.file_name().unwrap().to_str().unwrap());
    let seal = format!("{name} {} {} {}\n", meta.ino(), meta.ctime(), meta.ctime_nsec());
    let seals = entry.with_file_name("seals");
    File::options().append(true).create(true).open(seals).unwrap().write_all(seal.as_bytes()).unwrap();
}

/// A home whose raw store contains the large file, and the file's content.
fn ingested() -> (TestHome, PathBuf, Vec<u8>) {
    let test_home = TestHome::golden(golden::Regime::Gzip);
    let right = {
        let mounted = test_home.mount(CATALOG, "first", "golden", &["--mode", "mount"]);
        fs::read(mounted.path().join(LARGE)).unwrap()
    };
    let entry = entry_of(&test_home, LARGE);
    assert!(fs::read(&entry).unwrap() == right);
    (test_home, entry, right)
}

#[test]
fn paranoid_mount_hashes_again_at_each_use() {
    if !crate::common::is_root() {
        return skip("an entry of the raw store is read-only to others than root");
    }
    let (test_home, entry, right) = ingested();
    let last = right.len() as u64 - 10;
    forge_all(&entry, last);
    {
        // Without --paranoid an entry that looks right is trusted; otherwise this test would prove nothing.
        let mounted = test_home.mount(CATALOG, "trusting", "golden", &["--mode", "mount"]);
        assert!(fs::read(mounted.path().join(LARGE)).unwrap() != right);
    }
    let mounted = test_home.mount(
        CATALOG,
        "paranoid",
        "golden",
        &["--mode", "mount", "--profile", "off", "--paranoid"],
    );
    let file = File::open(mounted.path().join(LARGE)).unwrap();
    let mut piece = [0; 10];
    file.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, right[..10], "at the first use");
    assert!(fs::read(&entry).unwrap() == right, "it was not made again");
    forge_all(&entry, last);
    file.read_exact_at(&mut piece, last).unwrap();
    assert_eq!(piece, right[right.len() - 10..], "at the second use, by the same descriptor");
    // Without a good copy there is no content at all.
    forge_all(&entry, 2 << 20);
    fs::remove_file(blob_of(&test_home, LARGE)).unwrap();
    let lost = file.read_exact_at(&mut piece, 2 << 20).map_err(|error| error.raw_os_error());
    assert_eq!(lost, Err(Some(5)), "wrong bytes, and no blob to heal them");
}

#[test]
fn paranoid_materialize_trusts_no_raw_entry() {
    if !crate::common::is_root() {
        return skip("an entry of the raw store is read-only to others than root");
    }
    let (test_home, entry, right) = ingested();
    let expected = golden::unpack_restored(golden::Regime::Gzip, &test_home.scratch());
    let place = |space: &str, more: &[&str]| {
        let args = [
            "materialize",
            CATALOG,
            space,
            "--controller",
            "golden",
            "--allow-setuid",
            "--strategy",
            "copy",
            "--json",
        ];
        let output = test_home.holofs_ok(&[&args, more].concat());
        crate::common::space_path(&crate::common::json(&output))
    };
    forge_all(&entry, 100);
    let trusting = place("trusting", &[]);
    let paranoid = place("interop", &["--paranoid"]);
    assert_same_space(&paranoid, &expected);
    assert!(fs::read(&entry).unwrap() == right, "it was not made again");
    assert!(
        fs::read(trusting.join(LARGE)).unwrap() != right,
        "nobody believes it anyway: this test shows nothing"
    );
}

/// The only index of a home, changed to name a file differently, with a valid checksum.
fn forge_index(test_home: &TestHome) {
    let stored = fs::read(test_home.hololib().join("catalog").join(CATALOG)).unwrap();
    let id = Digest::of(Regime::Sha256, &stored);
    let text = golden::inflate(&stored).replace("\"tool\"", "\"evil\"");
    let forged = Index::build(&Catalog::parse(&golden::deflate(&text)).unwrap(), &id).unwrap();
    let path = test_home.home().join("holofs/index").join(id.to_string());
    assert!(path.exists());
    fs::write(path, forged).unwrap();
}

#[test]
fn paranoid_command_compiles_the_catalog_again() {
    let test_home = TestHome::golden(golden::Regime::Gzip);
    test_home.materialize(CATALOG, "first", "user");
    forge_index(&test_home);
    let trusting = test_home.materialize(CATALOG, "trusting", "user");
    assert!(trusting.join("bin/evil").exists(), "nobody believes it anyway: this test shows nothing");
    let mounted = test_home.mount(CATALOG, "mounted", "user", &["--paranoid"]);
    assert!(mounted.path().join("bin/tool").exists() && !mounted.path().join("bin/evil").exists());
    // The index that it compiled is available to others.
    assert!(test_home.materialize(CATALOG, "next", "user").join("bin/tool").exists());
}

#[test]
fn paranoid_mount_patches_relocated_files_again() {
    if !crate::common::is_root() {
        return skip("a patched file is read-only to others than root");
    }
    let test_home = TestHome::golden(golden::Regime::Gzip);
    let (right, patched) = patched(&test_home);
    patched.iter().for_each(|file| forge_all(file, 0));
    let pause =
        [10, 100, 1000, 5000].into_iter().find(|pause| differing(&test_home, &right, *pause, &[]) > 0);
    let pause = pause.expect("nobody believes them anyway: this test shows nothing");
    assert_eq!(differing(&test_home, &right, pause, &["--paranoid"]), 0);
}

/// A clean space, and its patched files.
fn patched(test_home: &TestHome) -> (PathBuf, Vec<PathBuf>) {
    let mounted = test_home.mount(CATALOG, "interop", "golden", &["--profile", "off"]);
    let state = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
    let right = test_home.scratch().join("right");
    crate::common::run(Command::new("cp").arg("-a").args([mounted.path(), &right]));
    let patched = || -> Vec<PathBuf> {
        let find = Command::new("find").arg(state.join("relocated")).args(["-type", "f"]).output().unwrap();
        let found = String::from_utf8(find.stdout).unwrap();
        let is_one = |path: &&str| !path.contains(".patch-") && !path.ends_with("/seals");
        found.lines().filter(is_one).map(PathBuf::from).collect()
    };
    crate::common::until(|| !patched().is_empty());
    mounted.unmount();
    (right, patched())
}

/// How many files of the space differ from `right` after the patching thread ran for that many milliseconds.
fn differing(test_home: &TestHome, right: &Path, pause: u64, more: &[&str]) -> usize {
    let mounted = test_home.mount(CATALOG, "interop", "golden", &[&["--profile", "off"], more].concat());
    std::thread::sleep(Duration::from_millis(pause));
    let diff = Command::new("diff").arg("-rq").args([right, mounted.path()]).output().unwrap();
    String::from_utf8_lossy(&diff.stdout).lines().filter(|line| line.contains("differ")).count()
}

#[test]
fn paranoid_materialize_reads_what_is_in_place() {
    let test_home = TestHome::golden(golden::Regime::Gzip);
    let place = |more: &[&str]| {
        let args = ["materialize", CATALOG, "space", "--allow-setuid", "--json", "--strategy", "copy"];
        crate::common::space_path(&crate::common::json(&test_home.holofs_ok(&[&args, more].concat())))
    };
    let root = place(&["--warm"]);
    let (file, right) = (root.join(LARGE), fs::read(root.join(LARGE)).unwrap());
    // The change time cannot be set back, and a refresh compares it; with --paranoid it reads the file.
    forge_all(&file, 100);
    place(&["--paranoid"]);
    assert!(fs::read(&file).unwrap() == right);
    // Files that were laid out before are not trusted either.
    let pristine = test_home.home().join("holofs/pristine");
    let found = Command::new("find").arg(pristine).args(["-name", "big-5MB.bin"]).output().unwrap();
    for path in String::from_utf8(found.stdout).unwrap().lines() {
        forge_all(Path::new(path), 100);
    }
    fs::remove_file(&file).unwrap();
    place(&["--paranoid"]);
    assert!(fs::read(&file).unwrap() == right);
}

#[test]
fn paranoid_run_takes_no_bytecode_that_was_there_before() {
    let test_home = TestHome::golden(golden::Regime::Gzip);
    let script = "find -L \"$PYTHONPYCACHEPREFIX\" -name '*.pyc' | wc -l";
    let found = |more: &[&str]| {
        let args =
            [&["run"], more, &["--mode", "materialize", CATALOG, "space", "--", "sh", "-c", script]].concat();
        crate::common::stdout(&test_home.holofs_ok(&args)).trim().to_owned()
    };
    assert_eq!(found(&[]), "0");
    let spaces = test_home.home().join("holofs/spaces");
    let own = Command::new("sh")
        .arg("-c")
        .arg("ls -d \"$1\"/*/bytecode/*/")
        .arg("sh")
        .arg(&spaces)
        .output()
        .unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    assert!(!own.is_empty());
    own.lines().for_each(|dir| fs::write(Path::new(dir).join("planted.pyc"), "x").unwrap());
    assert_eq!(found(&[]), "1", "nobody finds it anyway: this test shows nothing");
    assert_eq!(found(&["--paranoid"]), "0");
}

#[test]
fn open_does_not_use_a_raw_entry_that_was_altered_and_given_its_old_time() {
    if !crate::common::is_root() {
        return skip("an entry of the raw store is read-only to others than root");
    }
    let (test_home, entry, right) = ingested();
    let mounted = test_home.mount(CATALOG, "live", "golden", &["--profile", "off"]);
    let file = File::open(mounted.path().join(LARGE)).unwrap();
    let mut piece = [0; 10];
    file.read_exact_at(&mut piece, 0).unwrap();
    // Written by a program in a space, while another mounted space has the entry open.
    forge(&entry, 3 << 20);
    file.read_exact_at(&mut piece, 3 << 20).unwrap();
    assert_eq!(piece, right[3 << 20..][..10], "in a live mount");
    assert!(fs::read(&entry).unwrap() == right, "it was not made again");
    drop(file);
    mounted.unmount();
    let shown = |args: &[&str]| {
        forge(&entry, 100);
        let script = format!("cat \"$RCC_HOLOTREE_SPACE_ROOT/{LARGE}\"");
        let output = test_home.holofs_ok(&[&["run", CATALOG], args, &["--", "sh", "-c", &script]].concat());
        assert!(output.stdout == right, "{args:?}");
    };
    shown(&["live"]);
    shown(&["live", "--fresh"]);
    shown(&["laid", "--mode", "materialize"]);
    shown(&["other", "--isolate"]);
    // A new file in its place, with every attribute right except the inode.
    forge(&entry, 200);
    let copy = entry.with_extension("copy");
    crate::common::run(Command::new("cp").arg("-a").args([&entry, &copy]));
    fs::rename(&copy, &entry).unwrap();
    let mounted = test_home.mount(CATALOG, "live", "golden", &["--profile", "off"]);
    assert!(fs::read(mounted.path().join(LARGE)).unwrap() == right);
}

#[test]
fn open_does_not_use_a_patched_file_that_was_altered_and_given_its_old_time() {
    if !crate::common::is_root() {
        return skip("a patched file is read-only to others than root");
    }
    let test_home = TestHome::golden(golden::Regime::Gzip);
    let (right, patched) = patched(&test_home);
    patched.iter().for_each(|file| forge(file, 0));
    for pause in [10, 500] {
        assert_eq!(differing(&test_home, &right, pause, &[]), 0);
    }
}
