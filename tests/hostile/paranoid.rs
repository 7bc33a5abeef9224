//! `--paranoid`: content is hashed at each use, so that even an entry of the raw store that was altered and made to look unaltered is
//! found out, by a mount in the middle of a file as by materialize.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use holofs::store::MOTHER_TIME;

use crate::common::compare::assert_same_space;
use crate::common::damage::blob_of;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::sandbox::Sandbox;
use crate::common::skip;

/// A file larger than what the kernel reads ahead.
const LARGE: &str = "plain/big-5MB.bin";

/// The entry of the raw store with the content of a golden file.
fn entry_of(sandbox: &Sandbox, path: &str) -> PathBuf {
    let digest = blob_of(sandbox, path).file_name().unwrap().to_str().unwrap().to_owned();
    let dir = sandbox.home().join("holofs/raw").join(&digest[..2]);
    let mut entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|entry| entry.file_name().unwrap().to_str().unwrap().starts_with(&digest)).unwrap()
}

/// Alters one byte, and leaves every mark of an unaltered entry.
fn forge(entry: &Path, at: u64) {
    let file = File::options().write(true).open(entry).unwrap();
    let mut byte = [0];
    File::open(entry).unwrap().read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    let mother = SystemTime::UNIX_EPOCH + Duration::from_secs(MOTHER_TIME.unsigned_abs());
    file.set_times(FileTimes::new().set_accessed(mother).set_modified(mother)).unwrap();
}

/// A home whose raw store holds the large file, and what that file is.
fn ingested() -> (Sandbox, PathBuf, Vec<u8>) {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let right = {
        let mounted = sandbox.mount(CATALOG, "first", "golden", &["--mode", "mount"]);
        fs::read(mounted.path().join(LARGE)).unwrap()
    };
    let entry = entry_of(&sandbox, LARGE);
    assert!(fs::read(&entry).unwrap() == right);
    (sandbox, entry, right)
}

#[test]
fn a_paranoid_mount_hashes_again_at_each_use() {
    if !crate::common::is_root() {
        return skip("an entry of the raw store is read-only to others than root");
    }
    let (sandbox, entry, right) = ingested();
    let last = right.len() as u64 - 10;
    forge(&entry, last);
    {
        // Who is not paranoid believes what looks right, or this test would show nothing.
        let mounted = sandbox.mount(CATALOG, "trusting", "golden", &["--mode", "mount"]);
        assert!(fs::read(mounted.path().join(LARGE)).unwrap() != right);
    }
    let mounted =
        sandbox.mount(CATALOG, "paranoid", "golden", &["--mode", "mount", "--profile", "off", "--paranoid"]);
    let file = File::open(mounted.path().join(LARGE)).unwrap();
    let mut piece = [0; 10];
    file.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, right[..10], "at the first use");
    assert!(fs::read(&entry).unwrap() == right, "it was not made anew");
    forge(&entry, last);
    file.read_exact_at(&mut piece, last).unwrap();
    assert_eq!(piece, right[right.len() - 10..], "at the second use, by the same descriptor");
    // And where nothing good is left, there is no content at all.
    forge(&entry, 2 << 20);
    fs::remove_file(blob_of(&sandbox, LARGE)).unwrap();
    let lost = file.read_exact_at(&mut piece, 2 << 20).map_err(|error| error.raw_os_error());
    assert_eq!(lost, Err(Some(5)), "wrong bytes, and no blob to heal them");
}

#[test]
fn a_paranoid_materialize_believes_no_raw_entry() {
    if !crate::common::is_root() {
        return skip("an entry of the raw store is read-only to others than root");
    }
    let (sandbox, entry, right) = ingested();
    let expected = golden::unpack_restored(Regime::Gzip, &sandbox.scratch());
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
        let output = sandbox.holofs_ok(&[&args, more].concat());
        crate::common::space_path(&crate::common::json(&output))
    };
    forge(&entry, 100);
    let trusting = place("trusting", &[]);
    let paranoid = place("interop", &["--paranoid"]);
    assert_same_space(&paranoid, &expected);
    assert!(fs::read(&entry).unwrap() == right, "it was not made anew");
    assert!(
        fs::read(trusting.join(LARGE)).unwrap() != right,
        "nobody believes it anyway: this test shows nothing"
    );
}
