//! Planted blobs and decompression bombs cause an immediate I/O error, and never return a byte of other content.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::bounds::{limited, read_in_time, status_kib, within};
use crate::common::damage::blob_of;
use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, said, skip, stderr};

const EIO: i32 = 5;
const FILE: &str = "plain/inner.gz";
/// Inflating ten GiB takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Plants something in place of one blob: a mount gives EIO for this file only; materialize fails and leaves nothing.
fn assert_harmless(what: &str, plant: impl FnOnce(&Path)) {
    let test_home = TestHome::golden(Regime::Gzip);
    let blob = blob_of(&test_home, FILE);
    fs::remove_file(&blob).unwrap();
    plant(&blob);
    let digest = blob.file_name().unwrap().to_str().unwrap();
    let mut materialize = test_home.holofs_command(&["materialize", CATALOG, "x"]);
    let output = within(&mut materialize, LIMIT);
    assert_eq!(output.status.code(), Some(exit::DAMAGE), "{what}: {}", said(&output));
    assert!(
        stderr(&output).contains(digest) && stderr(&output).contains(FILE),
        "{what}: {}",
        stderr(&output)
    );
    let left = fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().all(|path| !path.is_dir()), "{what}: a space was made");
    let mounted = test_home.mount(CATALOG, "y", "user", &[]);
    assert_eq!(read_in_time(&mounted.path().join(FILE)), Err(EIO), "{what}");
    assert!(read_in_time(&mounted.path().join("bin/tool")).is_ok(), "{what}: others must work");
}

#[test]
fn read_of_a_planted_blob_is_an_error_at_once_and_never_followed() {
    let mkfifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    assert_harmless("a link to a file", |path| symlink("/etc/passwd", path).unwrap());
    assert_harmless("a link to an endless device", |path| symlink("/dev/zero", path).unwrap());
    assert_harmless("a link to itself", |path| symlink(path, path).unwrap());
    assert_harmless("a FIFO", mkfifo);
    assert_harmless("a directory", |path| fs::create_dir(path).unwrap());
    assert_harmless("a socket", |path| {
        // The path of a socket must be short.
        let short = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(short.path().join("s")).unwrap());
        fs::rename(short.path().join("s"), path).unwrap();
    });
    assert_harmless("an empty file", |path| fs::write(path, "").unwrap());
    if !is_root() {
        return skip("making a device node needs root");
    }
    let mknod = |path: &Path| Command::new("mknod").arg(path).args(["c", "1", "5"]).status().unwrap();
    assert_harmless("an endless device", |path| assert!(mknod(path).success()));
}

#[test]
fn read_of_a_bomb_costs_neither_time_nor_memory_nor_disk() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let ten_gib = encoder.finish().unwrap().repeat(160);
    let test_home = TestHome::golden(Regime::Gzip);
    fs::write(blob_of(&test_home, FILE), ten_gib).unwrap();
    let started = Instant::now();
    let output = within(&mut limited(&test_home, "-v 800000", &["materialize", CATALOG, "x"]), LIMIT);
    assert_eq!(output.status.code(), Some(exit::DAMAGE), "{}", said(&output));
    let mounted = test_home.mount(CATALOG, "y", "user", &[]);
    assert_eq!(read_in_time(&mounted.path().join(FILE)), Err(EIO));
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    let peak = mounted.daemons().iter().map(|pid| status_kib(*pid, "VmHWM")).max().unwrap();
    assert!(peak < 100_000, "{peak} KiB");
}
