//! The law of maintenance: `check` finds all damage and repairs without loss, `gc` removes only unused files, `delete` and
//! `remove` remove everything that they name and nothing else.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::golden::{self, Regime};
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, said, stderr, stdout, text_field};
use serde_json::Value;

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn blobs(test_home: &TestHome) -> Vec<PathBuf> {
    files(&test_home.hololib().join("library"))
}

/// The entries of the raw store.
fn raw(test_home: &TestHome) -> Vec<PathBuf> {
    let mut found = files(&test_home.home().join("holofs/raw"));
    found.retain(|path| !path.ends_with("seals"));
    found
}

/// `holofs check`, and whether it found damage.
fn check(test_home: &TestHome, more: &[&str]) -> (Value, bool) {
    let output = test_home.holofs(&[&["check", "--json"], more].concat());
    let code = output.status.code();
    assert!(code == Some(exit::OK) || code == Some(exit::DAMAGE), "{}", said(&output));
    (json(&output), code == Some(exit::DAMAGE))
}

/// Fills the raw store by reading a mounted space.
fn fill_raw(test_home: &TestHome) {
    let mounted = test_home.mount(golden::CATALOG, "reader", "user", &["--read-only"]);
    crate::common::compare::space_of(mounted.path());
    mounted.unmount();
    assert!(!raw(test_home).is_empty());
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn list<'v>(report: &'v Value, field: &str) -> &'v Vec<Value> {
    report[field].as_array().unwrap_or_else(|| panic!("No list '{field}' in {report:#}"))
}

/// Overwrites a file in place, regardless of its mode.
fn damage(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    let mut permissions = path.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions).unwrap();
    File::create(path).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn check_names_exactly_the_blobs_that_are_wrong_and_the_catalogs_that_lack_them() {
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let (report, damaged) = check(&test_home, &[]);
        assert!(!damaged, "{report:#}");
        assert_eq!(number_field(&report, "blobs"), blobs(&test_home).len() as u64);
        let all = blobs(&test_home);
        let long = |path: &&PathBuf| path.metadata().unwrap().len() > 40;
        let mut victims = all.iter().filter(long);
        let (flipped, cut, gone) =
            (victims.next().unwrap(), victims.next().unwrap(), victims.next().unwrap());
        damage(flipped, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        damage(cut, |bytes| bytes.truncate(bytes.len() - 1));
        fs::remove_file(gone).unwrap();
        let before = blobs(&test_home);
        let (report, damaged) = check(&test_home, &[]);
        assert!(damaged);
        let found: Vec<String> =
            list(&report, "bad_blobs").iter().map(|bad| text_field(bad, "digest")).collect();
        let mut expected = vec![name(flipped), name(cut), name(gone)];
        expected.sort();
        assert_eq!(found, expected, "{regime:?}");
        let catalog = &list(&report, "catalogs")[0];
        assert_eq!((number_field(catalog, "missing"), number_field(catalog, "damaged")), (1, 2));
        assert_eq!(blobs(&test_home), before, "a check without --repair changed the library");
        let shown = stdout(&test_home.holofs(&["check"]));
        assert!(
            shown.contains(golden::CATALOG) && expected.iter().all(|digest| shown.contains(digest)),
            "{shown}"
        );
    }
}

#[test]
fn repair_moves_bad_blobs_aside_and_recreates_what_the_raw_store_has() {
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        fill_raw(&test_home);
        let in_raw: Vec<String> = raw(&test_home).iter().map(|path| name(path)).collect();
        let has_raw = |path: &PathBuf| in_raw.iter().any(|entry| entry.starts_with(&name(path)));
        let all = blobs(&test_home);
        let healed = all.iter().find(|path| has_raw(path)).unwrap();
        let lost = all.iter().find(|path| !has_raw(path));
        damage(healed, |bytes| bytes.push(0));
        let lost = lost.inspect(|path| damage(path, |bytes| bytes.push(0)));
        let (report, _) = check(&test_home, &["--repair"]);
        assert_eq!(list(&report, "bad_blobs").len(), 1 + usize::from(lost.is_some()));
        for bad in list(&report, "bad_blobs") {
            assert!(Path::new(&text_field(bad, "moved_to")).is_file());
            assert_eq!(bad["healed"].as_bool(), Some(text_field(bad, "digest") == name(healed)));
        }
        assert_eq!(test_home.catalogs(), [golden::CATALOG], "a good catalog is gone");
        let (report, damaged) = check(&test_home, &[]);
        assert_eq!(damaged, lost.is_some(), "{report:#}");
    }
}

#[test]
fn check_finds_and_removes_a_bad_raw_entry_which_is_created_again() {
    let test_home = TestHome::golden(Regime::Gzip);
    let first = test_home.materialize(golden::CATALOG, "s", "user");
    fill_raw(&test_home);
    let entry = raw(&test_home).into_iter().find(|path| path.metadata().unwrap().len() > 0).unwrap();
    let mother = entry.metadata().unwrap().modified().unwrap();
    let mode = entry.metadata().unwrap().permissions();
    damage(&entry, |bytes| bytes[0] ^= 1);
    // Restore the mode and time, so that only the content differs.
    fs::set_permissions(&entry, mode).unwrap();
    File::open(&entry).unwrap().set_modified(mother).unwrap();
    let (report, damaged) = check(&test_home, &[]);
    assert!(damaged && list(&report, "bad_blobs").is_empty(), "{report:#}");
    assert_eq!(text_field(&list(&report, "bad_raw")[0], "entry"), name(&entry));
    check(&test_home, &["--repair"]);
    assert!(!check(&test_home, &[]).1);
    assert_same_space(&first, &test_home.materialize(golden::CATALOG, "t", "user"));
}

#[test]
fn check_reports_strays_unnamed_blobs_and_bad_catalogs_and_leaves_them() {
    let test_home = TestHome::golden(Regime::Gzip);
    let library = test_home.hololib().join("library");
    fs::write(library.join("notes.txt"), "mine").unwrap();
    let catalogs = test_home.hololib().join("catalog");
    fs::write(catalogs.join("00000000000000aav12.linux_amd64"), "cut off").unwrap();
    let (report, damaged) = check(&test_home, &["--repair"]);
    assert!(damaged);
    assert_eq!(list(&report, "strays").len(), 1);
    assert_eq!(list(&report, "catalogs").iter().filter(|verdict| !verdict["problem"].is_null()).count(), 1);
    assert!(
        library.join("notes.txt").is_file() && catalogs.join("00000000000000aav12.linux_amd64").is_file()
    );
    fs::remove_file(catalogs.join("00000000000000aav12.linux_amd64")).unwrap();
    fs::remove_file(catalogs.join(golden::CATALOG)).unwrap();
    let (report, damaged) = check(&test_home, &[]);
    assert!(!damaged);
    assert_eq!(number_field(&report, "unreferenced"), number_field(&report, "blobs"));
}

fn gc(test_home: &TestHome, more: &[&str]) -> Value {
    json(&test_home.holofs_ok(&[&["gc", "--json"], more].concat()))
}

/// All of HoloFS's own files, and the library.
fn everything(test_home: &TestHome) -> Vec<PathBuf> {
    let mut all = files(&test_home.home().join("holofs"));
    all.extend(blobs(test_home));
    all
}

#[test]
fn gc_keeps_everything_that_a_catalog_names() {
    let test_home = TestHome::golden(Regime::Gzip);
    fill_raw(&test_home);
    test_home.materialize(golden::CATALOG, "s", "user");
    let before = everything(&test_home);
    let report = gc(&test_home, &["--hololib"]);
    assert_eq!(everything(&test_home), before, "{report:#}");
}

#[test]
fn gc_dry_run_reports_what_a_run_does_and_changes_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    fill_raw(&test_home);
    test_home.materialize(golden::CATALOG, "s", "user");
    test_home.holofs_ok(&["remove", golden::BLUEPRINT]);
    let before = everything(&test_home);
    let dry = gc(&test_home, &["--hololib", "--dry-run"]);
    assert_eq!(everything(&test_home), before);
    let done = gc(&test_home, &["--hololib"]);
    for field in ["raw_entries", "raw_bytes", "raw_bytes_left", "blobs", "blob_bytes"] {
        assert_eq!(dry[field], done[field], "{field}");
    }
    assert_eq!(dry["derived"], done["derived"]);
    assert!(number_field(&done, "raw_entries") > 0 && number_field(&done, "blobs") > 0);
    assert_eq!(blobs(&test_home), Vec::<PathBuf>::new());
    assert_eq!(files(&test_home.home().join("holofs/raw")), Vec::<PathBuf>::new());
    assert_eq!(files(&test_home.home().join("holofs/index")), Vec::<PathBuf>::new());
}

#[test]
fn gc_keeps_what_a_mounted_space_uses_without_its_catalog() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "live", "user", &[]);
    test_home.holofs_ok(&["remove", golden::BLUEPRINT]);
    let report = gc(&test_home, &["--hololib", "--max-size", "0", "--unused", "0"]);
    assert_eq!(list(&report, "leases").len(), 1);
    assert_eq!(text_field(&list(&report, "leases")[0], "mountpoint"), mounted.path().to_str().unwrap());
    assert_same_space(&golden::unpack_restored(Regime::Gzip, &test_home.scratch()), mounted.path());
    mounted.unmount();
    let report = gc(&test_home, &["--hololib"]);
    assert!(list(&report, "leases").is_empty());
    assert_eq!(blobs(&test_home), Vec::<PathBuf>::new());
}

/// A process that holds a space's lock like a materialize that has not recorded itself yet.
fn hold(test_home: &TestHome, state_dir: &Path) -> Child {
    fs::create_dir_all(state_dir).unwrap();
    let lock = state_dir.join("lock");
    let mut holder = test_home.command("flock");
    holder.arg(&lock).args(["sh", "-c", "echo held; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = holder.spawn().unwrap();
    let mut shown = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut shown).unwrap();
    child
}

fn release(mut holder: Child) {
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn gc_keeps_everything_that_an_unknown_running_command_could_use() {
    let test_home = TestHome::golden(Regime::Gzip);
    fill_raw(&test_home);
    test_home.materialize(golden::CATALOG, "s", "user");
    test_home.holofs_ok(&["remove", golden::BLUEPRINT]);
    let before = (raw(&test_home), blobs(&test_home), files(&test_home.home().join("holofs/index")));
    let holder = hold(&test_home, &test_home.home().join("holofs/spaces/59acff1_5a1fac3_00000000"));
    let report = gc(&test_home, &["--hololib", "--max-size", "0", "--unused", "0"]);
    assert!(!list(&report, "kept").is_empty(), "{report:#}");
    assert_eq!((raw(&test_home), blobs(&test_home), files(&test_home.home().join("holofs/index"))), before);
    release(holder);
    assert!(number_field(&gc(&test_home, &["--hololib"]), "blobs") > 0);
}

#[test]
fn gc_shrinks_the_raw_store_by_size_oldest_first_and_by_age() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = test_home.materialize(golden::CATALOG, "s", "user");
    fill_raw(&test_home);
    let total: u64 = raw(&test_home).iter().map(|path| path.metadata().unwrap().len()).sum();
    let limit = total / 2;
    let report = gc(&test_home, &["--max-size", &limit.to_string()]);
    let left: u64 = raw(&test_home).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(
        left <= limit && left == number_field(&report, "raw_bytes_left"),
        "{left} of {total}: {report:#}"
    );
    assert_eq!(number_field(&gc(&test_home, &["--unused", "1"]), "raw_entries"), 0);
    gc(&test_home, &["--max-size", "0"]);
    assert_eq!(raw(&test_home), Vec::<PathBuf>::new());
    assert_same_space(&space, &test_home.materialize(golden::CATALOG, "t", "user"));
}

#[test]
fn gc_keeps_all_blobs_if_a_catalog_cannot_be_read() {
    let test_home = TestHome::golden(Regime::Gzip);
    let catalog = test_home.hololib().join("catalog").join(golden::CATALOG);
    damage(&catalog, |bytes| bytes.truncate(bytes.len() / 2));
    let before = blobs(&test_home);
    let report = gc(&test_home, &["--hololib"]);
    assert_eq!(blobs(&test_home), before);
    assert!(list(&report, "kept")[0].as_str().unwrap().contains(golden::CATALOG));
}

#[test]
fn gc_removes_an_abandoned_part_of_a_blob_and_keeps_a_fresh_one() {
    let test_home = TestHome::golden(Regime::Gzip);
    let dir = blobs(&test_home)[0].parent().unwrap().to_owned();
    let (old, fresh) = (dir.join("x.part#1"), dir.join("y.part#2"));
    for part in [&old, &fresh] {
        fs::write(part, "part").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    File::options().append(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    gc(&test_home, &["--hololib"]);
    assert!(!old.exists() && fresh.exists());
}

#[test]
fn gc_removes_an_unfinished_file_of_ours_once_its_process_has_ended() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", "user", &[]);
    let state = test_home.home().join("holofs/spaces").join(mounted.report()["label"].as_str().unwrap());
    mounted.unmount();
    let remote = test_home.home().join("holofs/remote").join("a".repeat(64));
    DirBuilder::new().recursive(true).mode(0o700).create(&remote).unwrap();
    let nobody = 1 << 30;
    let left = [state, test_home.home().join("holofs/index"), remote]
        .map(|dir| dir.join(format!(".part-{nobody}-0-ab")));
    let kept = left[0].with_file_name(format!(".part-{}-0-ab", std::process::id()));
    for part in left.iter().chain([&kept]) {
        let minutes_ago = SystemTime::now() - Duration::from_secs(200);
        File::create(part).unwrap().set_modified(minutes_ago).unwrap();
    }
    gc(&test_home, &["--dry-run"]);
    assert!(left.iter().all(|part| part.exists()));
    assert_eq!(list(&gc(&test_home, &[]), "trash").len(), 3);
    assert!(left.iter().all(|part| !part.exists()) && kept.exists());
}

#[test]
fn gc_removes_what_was_written_with_its_space_and_not_before() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "precious").unwrap();
    mounted.unmount();
    assert!(list(&gc(&test_home, &[]), "spaces").is_empty());
    let again = test_home.mount(golden::CATALOG, "s", "user", &[]);
    assert_eq!(fs::read_to_string(root.join("written")).unwrap(), "precious");
    again.unmount();
    // The state that `rcc holotree delete` leaves.
    fs::remove_dir(&root).unwrap();
    fs::remove_file(root.with_extension("meta")).unwrap();
    let report = gc(&test_home, &[]);
    assert_eq!(list(&report, "spaces").len(), 1, "{report:#}");
    let fresh = test_home.mount(golden::CATALOG, "s", "user", &[]);
    assert!(!root.join("written").exists());
    fresh.unmount();
}

#[test]
fn delete_removes_a_space_with_everything_that_belongs_to_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    let kept = test_home.materialize(golden::CATALOG, "kept", "user");
    let gone = test_home.materialize(golden::CATALOG, "gone", "other");
    test_home.holofs_fails(&["delete", "gone"], exit::NOT_FOUND);
    test_home.holofs_ok(&["delete", "gone", "--controller", "other", "--dry-run"]);
    assert!(gone.is_dir());
    test_home.holofs_ok(&["delete", "gone", "--controller", "other"]);
    let left: Vec<PathBuf> =
        fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of_gone = left.iter().filter(|path| name(path).starts_with(&name(&gone))).collect::<Vec<_>>();
    assert!(of_gone.is_empty(), "{of_gone:?}");
    assert!(!test_home.home().join("holofs/spaces").join(name(&gone)).exists());
    assert!(kept.is_dir() && kept.with_extension("meta").is_file());
    // By label, as in RCC's own list.
    test_home.holofs_ok(&["delete", &name(&kept)]);
    assert!(!kept.exists());
    assert_eq!(json(&test_home.holofs_ok(&["list", "--json"])), serde_json::json!({}));
}

#[test]
fn delete_refuses_a_mounted_space_and_removes_it_with_its_writes_afterwards() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(golden::CATALOG, "s", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "x").unwrap();
    let pid = number_field(mounted.report(), "pid");
    let output = test_home.holofs_fails(&["delete", "s"], exit::BUSY);
    assert!(stderr(&output).contains(&pid.to_string()), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(root.join("written")).unwrap(), "x");
    mounted.unmount();
    test_home.holofs_ok(&["delete", "s"]);
    assert!(!root.exists());
    let fresh = test_home.mount(golden::CATALOG, "s", "user", &[]);
    assert!(!root.join("written").exists());
    fresh.unmount();
}

#[test]
fn lock_that_rcc_holds_is_waited_for_no_longer_than_requested() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = test_home.materialize(golden::CATALOG, "s", "user");
    let lock = space.with_extension("lck");
    let mut holder = test_home.command("flock");
    holder.arg(&lock).args(["sh", "-c", "echo; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = holder.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    let started = Instant::now();
    let output = test_home.holofs_fails(&["delete", "s", "--wait", "2"], exit::BUSY);
    assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < Duration::from_secs(20));
    assert!(stderr(&output).contains("Waiting for"), "{}", stderr(&output));
    assert!(space.is_dir());
    test_home.holofs_fails(&["delete", "s", "--wait", "0"], exit::BUSY);
    drop(child.stdin.take());
    child.wait().unwrap();
    test_home.holofs_ok(&["delete", "s", "--wait", "0"]);
}

#[test]
fn remove_deletes_the_catalog_and_keeps_blobs_and_spaces() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = test_home.materialize(golden::CATALOG, "s", "user");
    let before = (blobs(&test_home), files(&space));
    test_home.holofs_ok(&["remove", golden::BLUEPRINT, "--dry-run"]);
    assert_eq!(test_home.catalogs(), [golden::CATALOG]);
    test_home.holofs_ok(&["remove", golden::BLUEPRINT]);
    assert_eq!(test_home.catalogs(), Vec::<String>::new());
    assert!(!test_home.hololib().join("catalog").join(format!("{}.info", golden::CATALOG)).exists());
    assert_eq!((blobs(&test_home), files(&space)), before);
    test_home.holofs_fails(&["remove", golden::BLUEPRINT], exit::NOT_FOUND);
}
