//! The law of maintenance: `check` finds all damage and repairs without loss, `gc` removes only unused files, `delete` and
//! `remove` remove everything that they name and nothing else.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::golden::{self, Regime};
use crate::common::sandbox::Sandbox;
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

fn blobs(sandbox: &Sandbox) -> Vec<PathBuf> {
    files(&sandbox.hololib().join("library"))
}

/// The entries of the raw store.
fn raw(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found = files(&sandbox.home().join("holofs/raw"));
    found.retain(|path| !path.ends_with("seals"));
    found
}

/// `holofs check`, and whether it found damage.
fn check(sandbox: &Sandbox, more: &[&str]) -> (Value, bool) {
    let output = sandbox.holofs(&[&["check", "--json"], more].concat());
    let code = output.status.code();
    assert!(code == Some(exit::OK) || code == Some(exit::DAMAGE), "{}", said(&output));
    (json(&output), code == Some(exit::DAMAGE))
}

/// Fills the raw store by reading a mounted space.
fn fill_raw(sandbox: &Sandbox) {
    let mounted = sandbox.mount(golden::CATALOG, "reader", "user", &["--read-only"]);
    crate::common::compare::space_of(mounted.path());
    mounted.unmount();
    assert!(!raw(sandbox).is_empty());
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
        let sandbox = Sandbox::golden(regime);
        let (report, damaged) = check(&sandbox, &[]);
        assert!(!damaged, "{report:#}");
        assert_eq!(number_field(&report, "blobs"), blobs(&sandbox).len() as u64);
        let all = blobs(&sandbox);
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
        let before = blobs(&sandbox);
        let (report, damaged) = check(&sandbox, &[]);
        assert!(damaged);
        let found: Vec<String> =
            list(&report, "bad_blobs").iter().map(|bad| text_field(bad, "digest")).collect();
        let mut expected = vec![name(flipped), name(cut), name(gone)];
        expected.sort();
        assert_eq!(found, expected, "{regime:?}");
        let catalog = &list(&report, "catalogs")[0];
        assert_eq!((number_field(catalog, "missing"), number_field(catalog, "damaged")), (1, 2));
        assert_eq!(blobs(&sandbox), before, "a check without --repair changed the library");
        let told = stdout(&sandbox.holofs(&["check"]));
        assert!(
            told.contains(golden::CATALOG) && expected.iter().all(|digest| told.contains(digest)),
            "{told}"
        );
    }
}

#[test]
fn repair_moves_bad_blobs_aside_and_makes_anew_what_the_raw_store_has() {
    for regime in Regime::BOTH {
        let sandbox = Sandbox::golden(regime);
        fill_raw(&sandbox);
        let in_raw: Vec<String> = raw(&sandbox).iter().map(|path| name(path)).collect();
        let has_raw = |path: &PathBuf| in_raw.iter().any(|entry| entry.starts_with(&name(path)));
        let all = blobs(&sandbox);
        let healed = all.iter().find(|path| has_raw(path)).unwrap();
        let lost = all.iter().find(|path| !has_raw(path));
        damage(healed, |bytes| bytes.push(0));
        let lost = lost.inspect(|path| damage(path, |bytes| bytes.push(0)));
        let (report, _) = check(&sandbox, &["--repair"]);
        assert_eq!(list(&report, "bad_blobs").len(), 1 + usize::from(lost.is_some()));
        for bad in list(&report, "bad_blobs") {
            assert!(Path::new(&text_field(bad, "moved_to")).is_file());
            assert_eq!(bad["healed"].as_bool(), Some(text_field(bad, "digest") == name(healed)));
        }
        assert_eq!(sandbox.catalogs(), [golden::CATALOG], "a good catalog is gone");
        let (report, damaged) = check(&sandbox, &[]);
        assert_eq!(damaged, lost.is_some(), "{report:#}");
    }
}

#[test]
fn check_finds_and_removes_a_bad_raw_entry_which_is_created_again() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let first = sandbox.materialize(golden::CATALOG, "s", "user");
    fill_raw(&sandbox);
    let entry = raw(&sandbox).into_iter().find(|path| path.metadata().unwrap().len() > 0).unwrap();
    let mother = entry.metadata().unwrap().modified().unwrap();
    let mode = entry.metadata().unwrap().permissions();
    damage(&entry, |bytes| bytes[0] ^= 1);
    // Restore the mode and time, so that only the content differs.
    fs::set_permissions(&entry, mode).unwrap();
    File::open(&entry).unwrap().set_modified(mother).unwrap();
    let (report, damaged) = check(&sandbox, &[]);
    assert!(damaged && list(&report, "bad_blobs").is_empty(), "{report:#}");
    assert_eq!(text_field(&list(&report, "bad_raw")[0], "entry"), name(&entry));
    check(&sandbox, &["--repair"]);
    assert!(!check(&sandbox, &[]).1);
    assert_same_space(&first, &sandbox.materialize(golden::CATALOG, "t", "user"));
}

#[test]
fn check_tells_strays_unnamed_blobs_and_bad_catalogs_and_leaves_them() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let library = sandbox.hololib().join("library");
    fs::write(library.join("notes.txt"), "mine").unwrap();
    let catalogs = sandbox.hololib().join("catalog");
    fs::write(catalogs.join("00000000000000aav12.linux_amd64"), "cut off").unwrap();
    let (report, damaged) = check(&sandbox, &["--repair"]);
    assert!(damaged);
    assert_eq!(list(&report, "strays").len(), 1);
    assert_eq!(list(&report, "catalogs").iter().filter(|verdict| !verdict["problem"].is_null()).count(), 1);
    assert!(
        library.join("notes.txt").is_file() && catalogs.join("00000000000000aav12.linux_amd64").is_file()
    );
    fs::remove_file(catalogs.join("00000000000000aav12.linux_amd64")).unwrap();
    fs::remove_file(catalogs.join(golden::CATALOG)).unwrap();
    let (report, damaged) = check(&sandbox, &[]);
    assert!(!damaged);
    assert_eq!(number_field(&report, "unreferenced"), number_field(&report, "blobs"));
}

fn gc(sandbox: &Sandbox, more: &[&str]) -> Value {
    json(&sandbox.holofs_ok(&[&["gc", "--json"], more].concat()))
}

/// All of HoloFS's own files, and the library.
fn everything(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut all = files(&sandbox.home().join("holofs"));
    all.extend(blobs(sandbox));
    all
}

#[test]
fn gc_takes_nothing_that_a_catalog_names() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    fill_raw(&sandbox);
    sandbox.materialize(golden::CATALOG, "s", "user");
    let before = everything(&sandbox);
    let report = gc(&sandbox, &["--hololib"]);
    assert_eq!(everything(&sandbox), before, "{report:#}");
}

#[test]
fn gc_dry_run_reports_what_a_run_does_and_changes_nothing() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    fill_raw(&sandbox);
    sandbox.materialize(golden::CATALOG, "s", "user");
    sandbox.holofs_ok(&["remove", golden::BLUEPRINT]);
    let before = everything(&sandbox);
    let dry = gc(&sandbox, &["--hololib", "--dry-run"]);
    assert_eq!(everything(&sandbox), before);
    let done = gc(&sandbox, &["--hololib"]);
    for field in ["raw_entries", "raw_bytes", "raw_bytes_left", "blobs", "blob_bytes"] {
        assert_eq!(dry[field], done[field], "{field}");
    }
    assert_eq!(dry["derived"], done["derived"]);
    assert!(number_field(&done, "raw_entries") > 0 && number_field(&done, "blobs") > 0);
    assert_eq!(blobs(&sandbox), Vec::<PathBuf>::new());
    assert_eq!(files(&sandbox.home().join("holofs/raw")), Vec::<PathBuf>::new());
    assert_eq!(files(&sandbox.home().join("holofs/index")), Vec::<PathBuf>::new());
}

#[test]
fn gc_keeps_what_a_mounted_space_uses_without_its_catalog() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(golden::CATALOG, "live", "user", &[]);
    sandbox.holofs_ok(&["remove", golden::BLUEPRINT]);
    let report = gc(&sandbox, &["--hololib", "--max-size", "0", "--unused", "0"]);
    assert_eq!(list(&report, "leases").len(), 1);
    assert_eq!(text_field(&list(&report, "leases")[0], "mountpoint"), mounted.path().to_str().unwrap());
    assert_same_space(&golden::unpack_restored(Regime::Gzip, &sandbox.scratch()), mounted.path());
    mounted.unmount();
    let report = gc(&sandbox, &["--hololib"]);
    assert!(list(&report, "leases").is_empty());
    assert_eq!(blobs(&sandbox), Vec::<PathBuf>::new());
}

/// A process that holds a space's lock like a materialize that has not recorded itself yet.
fn hold(sandbox: &Sandbox, state_dir: &Path) -> Child {
    fs::create_dir_all(state_dir).unwrap();
    let lock = state_dir.join("lock");
    let mut holder = sandbox.command("flock");
    holder.arg(&lock).args(["sh", "-c", "echo held; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = holder.spawn().unwrap();
    let mut told = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut told).unwrap();
    child
}

fn release(mut holder: Child) {
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn gc_keeps_everything_that_an_unknown_running_command_could_use() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    fill_raw(&sandbox);
    sandbox.materialize(golden::CATALOG, "s", "user");
    sandbox.holofs_ok(&["remove", golden::BLUEPRINT]);
    let before = (raw(&sandbox), blobs(&sandbox), files(&sandbox.home().join("holofs/index")));
    let holder = hold(&sandbox, &sandbox.home().join("holofs/spaces/59acff1_5a1fac3_00000000"));
    let report = gc(&sandbox, &["--hololib", "--max-size", "0", "--unused", "0"]);
    assert!(!list(&report, "kept").is_empty(), "{report:#}");
    assert_eq!((raw(&sandbox), blobs(&sandbox), files(&sandbox.home().join("holofs/index"))), before);
    release(holder);
    assert!(number_field(&gc(&sandbox, &["--hololib"]), "blobs") > 0);
}

#[test]
fn gc_shrinks_the_raw_store_by_size_oldest_first_and_by_age() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let space = sandbox.materialize(golden::CATALOG, "s", "user");
    fill_raw(&sandbox);
    let total: u64 = raw(&sandbox).iter().map(|path| path.metadata().unwrap().len()).sum();
    let limit = total / 2;
    let report = gc(&sandbox, &["--max-size", &limit.to_string()]);
    let left: u64 = raw(&sandbox).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(
        left <= limit && left == number_field(&report, "raw_bytes_left"),
        "{left} of {total}: {report:#}"
    );
    assert_eq!(number_field(&gc(&sandbox, &["--unused", "1"]), "raw_entries"), 0);
    gc(&sandbox, &["--max-size", "0"]);
    assert_eq!(raw(&sandbox), Vec::<PathBuf>::new());
    assert_same_space(&space, &sandbox.materialize(golden::CATALOG, "t", "user"));
}

#[test]
fn gc_keeps_all_blobs_if_a_catalog_cannot_be_read() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let catalog = sandbox.hololib().join("catalog").join(golden::CATALOG);
    damage(&catalog, |bytes| bytes.truncate(bytes.len() / 2));
    let before = blobs(&sandbox);
    let report = gc(&sandbox, &["--hololib"]);
    assert_eq!(blobs(&sandbox), before);
    assert!(list(&report, "kept")[0].as_str().unwrap().contains(golden::CATALOG));
}

#[test]
fn gc_removes_an_abandoned_part_of_a_blob_and_keeps_a_fresh_one() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let dir = blobs(&sandbox)[0].parent().unwrap().to_owned();
    let (old, fresh) = (dir.join("x.part#1"), dir.join("y.part#2"));
    for part in [&old, &fresh] {
        fs::write(part, "part").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    File::options().append(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    gc(&sandbox, &["--hololib"]);
    assert!(!old.exists() && fresh.exists());
}

#[test]
fn a_part_of_a_file_of_ours_goes_when_its_process_has_ended() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    let state = sandbox.home().join("holofs/spaces").join(mounted.report()["label"].as_str().unwrap());
    mounted.unmount();
    let nobody = 1 << 30;
    let left =
        [state, sandbox.home().join("holofs/index")].map(|dir| dir.join(format!(".part-{nobody}-0-ab")));
    let kept = left[0].with_file_name(format!(".part-{}-0-ab", std::process::id()));
    for part in left.iter().chain([&kept]) {
        let minutes_ago = SystemTime::now() - Duration::from_secs(200);
        File::create(part).unwrap().set_modified(minutes_ago).unwrap();
    }
    gc(&sandbox, &["--dry-run"]);
    assert!(left.iter().all(|part| part.exists()));
    assert_eq!(list(&gc(&sandbox, &[]), "trash").len(), 2);
    assert!(left.iter().all(|part| !part.exists()) && kept.exists());
}

#[test]
fn gc_removes_what_was_written_with_its_space_and_not_before() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "precious").unwrap();
    mounted.unmount();
    assert!(list(&gc(&sandbox, &[]), "spaces").is_empty());
    let again = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    assert_eq!(fs::read_to_string(root.join("written")).unwrap(), "precious");
    again.unmount();
    // The state that `rcc holotree delete` leaves.
    fs::remove_dir(&root).unwrap();
    fs::remove_file(root.with_extension("meta")).unwrap();
    let report = gc(&sandbox, &[]);
    assert_eq!(list(&report, "spaces").len(), 1, "{report:#}");
    let fresh = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    assert!(!root.join("written").exists());
    fresh.unmount();
}

#[test]
fn delete_takes_a_space_with_all_that_belongs_to_it() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let kept = sandbox.materialize(golden::CATALOG, "kept", "user");
    let gone = sandbox.materialize(golden::CATALOG, "gone", "other");
    sandbox.holofs_fails(&["delete", "gone"], exit::NOT_FOUND);
    sandbox.holofs_ok(&["delete", "gone", "--controller", "other", "--dry-run"]);
    assert!(gone.is_dir());
    sandbox.holofs_ok(&["delete", "gone", "--controller", "other"]);
    let left: Vec<PathBuf> =
        fs::read_dir(sandbox.holotree()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of_gone = left.iter().filter(|path| name(path).starts_with(&name(&gone))).collect::<Vec<_>>();
    assert!(of_gone.is_empty(), "{of_gone:?}");
    assert!(!sandbox.home().join("holofs/spaces").join(name(&gone)).exists());
    assert!(kept.is_dir() && kept.with_extension("meta").is_file());
    // By label, as in RCC's own list.
    sandbox.holofs_ok(&["delete", &name(&kept)]);
    assert!(!kept.exists());
    assert_eq!(json(&sandbox.holofs_ok(&["list", "--json"])), serde_json::json!({}));
}

#[test]
fn delete_leaves_a_mounted_space_alone_and_takes_it_with_its_writes_afterwards() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let mounted = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("written"), "x").unwrap();
    let pid = number_field(mounted.report(), "pid");
    let output = sandbox.holofs_fails(&["delete", "s"], exit::BUSY);
    assert!(stderr(&output).contains(&pid.to_string()), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(root.join("written")).unwrap(), "x");
    mounted.unmount();
    sandbox.holofs_ok(&["delete", "s"]);
    assert!(!root.exists());
    let fresh = sandbox.mount(golden::CATALOG, "s", "user", &[]);
    assert!(!root.join("written").exists());
    fresh.unmount();
}

#[test]
fn lock_that_rcc_holds_is_waited_for_no_longer_than_requested() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let space = sandbox.materialize(golden::CATALOG, "s", "user");
    let lock = space.with_extension("lck");
    let mut holder = sandbox.command("flock");
    holder.arg(&lock).args(["sh", "-c", "echo; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = holder.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    let started = Instant::now();
    let output = sandbox.holofs_fails(&["delete", "s", "--wait", "2"], exit::BUSY);
    assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < Duration::from_secs(20));
    assert!(stderr(&output).contains("Waiting for"), "{}", stderr(&output));
    assert!(space.is_dir());
    sandbox.holofs_fails(&["delete", "s", "--wait", "0"], exit::BUSY);
    drop(child.stdin.take());
    child.wait().unwrap();
    sandbox.holofs_ok(&["delete", "s", "--wait", "0"]);
}

#[test]
fn remove_takes_the_catalog_and_leaves_blobs_and_spaces() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let space = sandbox.materialize(golden::CATALOG, "s", "user");
    let before = (blobs(&sandbox), files(&space));
    sandbox.holofs_ok(&["remove", golden::BLUEPRINT, "--dry-run"]);
    assert_eq!(sandbox.catalogs(), [golden::CATALOG]);
    sandbox.holofs_ok(&["remove", golden::BLUEPRINT]);
    assert_eq!(sandbox.catalogs(), Vec::<String>::new());
    assert!(!sandbox.hololib().join("catalog").join(format!("{}.info", golden::CATALOG)).exists());
    assert_eq!((blobs(&sandbox), files(&space)), before);
    sandbox.holofs_fails(&["remove", golden::BLUEPRINT], exit::NOT_FOUND);
}
