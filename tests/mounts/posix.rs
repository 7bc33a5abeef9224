//! A mounted space behaves like an ordinary file system: through the kernel, across remounts, and without changes to the store.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::Mounted;
use crate::common::test_home::TestHome;
use crate::common::{copy_program, exit, is_root, json, number_field, run, skip, stderr, stdout};

const SPACE: &str = "written";

fn mount(test_home: &TestHome) -> Mounted<'_> {
    test_home.mount(CATALOG, SPACE, "user", &[])
}

fn remount<'a>(test_home: &'a TestHome, mounted: Mounted<'a>) -> Mounted<'a> {
    mounted.unmount();
    mount(test_home)
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.collect()
}

/// Every file of the store, with all attributes that a write could change.
fn store_of(test_home: &TestHome) -> Vec<(PathBuf, u32, i64, u64, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![test_home.hololib().join("library")]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                left.push(path);
            } else {
                found.push((path.clone(), meta.mode(), meta.mtime(), meta.nlink(), fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn holofs_json(test_home: &TestHome, command: &str) -> serde_json::Value {
    json(&test_home.holofs_ok(&[command, SPACE, "--json"]))
}

#[test]
fn write_stays_in_its_space_and_never_reaches_the_store() {
    let test_home = TestHome::golden(Regime::Gzip);
    let before = store_of(&test_home);
    let mounted = mount(&test_home);
    let other = test_home.mount(CATALOG, "other", "user", &[]);
    let untouched = fs::read(other.path().join("plain/inner.gz")).unwrap();
    append(&mounted.path().join("plain/inner.gz"), "more");
    fs::set_permissions(mounted.path().join("bin"), Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(mounted.path().join("bin/tool")).unwrap();
    fs::write(mounted.path().join("new"), "new").unwrap();
    assert!(fs::read(other.path().join("plain/inner.gz")).unwrap() == untouched);
    assert!(other.path().join("bin/tool").is_file() && !other.path().join("new").exists());
    let mounted = remount(&test_home, mounted);
    assert!(fs::read(mounted.path().join("plain/inner.gz")).unwrap() == [&untouched[..], b"more"].concat());
    assert_eq!(fs::metadata(mounted.path().join("bin")).unwrap().mode() & 0o7777, 0o700);
    assert!(!mounted.path().join("bin/tool").exists());
    assert_eq!(fs::read(mounted.path().join("new")).unwrap(), b"new");
    assert!(store_of(&test_home) == before, "the store changed");
}

#[test]
fn copy_up_keeps_the_inode_number_and_open_descriptors_see_the_new_bytes() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, "user", &["--io", "no-open"]); // see tests/mounts/passthrough.rs
    let path = mounted.path().join("bin/tool");
    let (number, content) = (fs::metadata(&path).unwrap().ino(), fs::read_to_string(&path).unwrap());
    let mut open = File::open(&path).unwrap();
    append(&path, "# more\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), number);
    let mut seen = String::new();
    open.read_to_string(&mut seen).unwrap();
    let label = mounted.path().file_name().unwrap().to_str().unwrap();
    assert!(seen.contains(label), "a relocated file lost its label when it was copied up");
    assert_eq!(seen, content + "# more\n");
    drop(open);
    assert_eq!(number, fs::metadata(remount(&test_home, mounted).path().join("bin/tool")).unwrap().ino());
}

#[test]
fn rename_moves_a_directory_of_the_catalog_with_all_that_is_in_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let within = names(&mounted.path().join("plain"));
    fs::create_dir(mounted.path().join("elsewhere")).unwrap();
    fs::rename(mounted.path().join("plain"), mounted.path().join("elsewhere/moved")).unwrap();
    fs::create_dir(mounted.path().join("plain")).unwrap();
    let mounted = remount(&test_home, mounted);
    assert_eq!(names(&mounted.path().join("elsewhere/moved")), within);
    assert_eq!(names(&mounted.path().join("plain")), BTreeSet::new());
    assert_eq!(fs::metadata(mounted.path().join("elsewhere")).unwrap().nlink(), 3);
}

#[test]
fn remove_of_a_tree_of_the_catalog_is_final() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    fs::remove_dir_all(mounted.path().join("plain")).unwrap();
    let mounted = remount(&test_home, mounted);
    assert!(!names(mounted.path()).contains("plain"));
    fs::create_dir(mounted.path().join("plain")).unwrap();
    assert_eq!(names(&remount(&test_home, mounted).path().join("plain")), BTreeSet::new());
}

#[test]
fn readdir_lists_every_untouched_name_exactly_once_while_others_come_and_go() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let dir = mounted.path().join("many");
    fs::create_dir(&dir).unwrap();
    for number in 0..3000 {
        File::create(dir.join(format!("kept-{number}"))).unwrap();
        File::create(dir.join(format!("gone-{number}"))).unwrap();
    }
    let mut kept = 0;
    for (number, entry) in fs::read_dir(&dir).unwrap().enumerate() {
        kept += u32::from(entry.unwrap().file_name().to_str().unwrap().starts_with("kept"));
        if number < 3000 {
            fs::remove_file(dir.join(format!("gone-{number}"))).unwrap();
            File::create(dir.join(format!("new-{number}"))).unwrap();
        }
    }
    assert_eq!(kept, 3000);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 6000);
}

#[test]
fn unlink_keeps_a_file_usable_until_it_is_closed() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    for name in ["new", "plain/inner.gz"] {
        let path = mounted.path().join(name);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b"written after").unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        file.seek(SeekFrom::End(-5)).unwrap();
        let mut end = String::new();
        file.read_to_string(&mut end).unwrap();
        assert_eq!((end.as_str(), file.metadata().unwrap().nlink()), ("after", 0));
        assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn hard_links_of_catalog_files_stay_one_file_over_a_remount() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    fs::hard_link(mounted.path().join("bin/tool"), mounted.path().join("second")).unwrap();
    let mounted = remount(&test_home, mounted);
    append(&mounted.path().join("second"), "seen by both");
    let (first, second) = (mounted.path().join("bin/tool"), mounted.path().join("second"));
    assert!(fs::read_to_string(&first).unwrap().ends_with("seen by both"));
    assert_eq!(fs::metadata(&first).unwrap().ino(), fs::metadata(&second).unwrap().ino());
    fs::remove_file(first).unwrap();
    assert_eq!(fs::metadata(second).unwrap().nlink(), 1);
}

#[test]
fn create_takes_a_name_of_255_bytes_and_not_one_more() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    for name in ["n".repeat(255), ".wh.x".to_owned(), "ä".repeat(127)] {
        fs::write(mounted.path().join(&name), "x").unwrap();
        assert!(names(mounted.path()).contains(&name));
    }
    let error = fs::write(mounted.path().join("n".repeat(256)), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFilename);
}

#[test]
fn write_by_another_user_drops_setuid_and_create_gives_ownership() {
    if !is_root() {
        return skip("only root can act as another user");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, "user", &["--allow-other"]);
    // The path to the space is private: the other user gets one of its directories by descriptor.
    let dir = mounted.path().join("open");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, None, Some(4321)).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o2777)).unwrap();
    for name in ["written", "emptied", "chowned"] {
        fs::write(dir.join(name), "x").unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o6777)).unwrap();
    }
    let script = "echo more >> written; : > emptied; echo x > made; mkdir sub";
    let mut shell = Command::new("setpriv");
    shell.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script]);
    run(shell.current_dir(&dir));
    std::os::unix::fs::chown(dir.join("chowned"), Some(7), None).unwrap();
    for name in ["written", "emptied", "chowned"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().mode() & 0o7777, 0o777, "{name}");
    }
    let made = fs::metadata(dir.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (65534, 4321));
    assert_eq!(fs::metadata(dir.join("sub")).unwrap().mode() & 0o2000, 0o2000);
}

#[test]
fn mount_read_only_shows_earlier_changes_and_refuses_new_ones() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    fs::write(mounted.path().join("new"), "new").unwrap();
    mounted.unmount();
    let mounted = test_home.mount(CATALOG, SPACE, "user", &["--read-only"]);
    assert_eq!(fs::read(mounted.path().join("new")).unwrap(), b"new");
    let error = fs::write(mounted.path().join("other"), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn mount_refuses_a_space_written_on_another_catalog_unless_it_may_be_dropped() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    fs::write(mounted.path().join("new"), "new").unwrap();
    mounted.unmount();
    let catalog = test_home.hololib().join("catalog").join(CATALOG);
    let text = golden::inflate(&fs::read(&catalog).unwrap());
    fs::write(&catalog, golden::deflate(&format!("{text}\n"))).unwrap();
    let refused = test_home.holofs_fails(&["mount", CATALOG, SPACE], exit::BUSY);
    assert!(stderr(&refused).contains("--fresh"), "{}", stderr(&refused));
    let mounted = test_home.mount(CATALOG, SPACE, "user", &["--fresh"]);
    assert!(!mounted.path().join("new").exists());
}

#[test]
fn reading_attributes_writes_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let mother = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_610_000_000);
    let times = fs::FileTimes::new().set_accessed(mother).set_modified(mother);
    for path in ["bin", "bin/tool", "plain"] {
        let path = mounted.path().join(path);
        File::open(&path).unwrap().set_times(times).unwrap();
        fs::set_permissions(&path, fs::metadata(&path).unwrap().permissions()).unwrap();
    }
    assert_eq!(number_field(&holofs_json(&test_home, "du"), "written_files"), 0);
    let spaces = fs::read_dir(test_home.home().join("holofs/spaces")).unwrap();
    for space in spaces {
        assert!(!space.unwrap().path().join("state.db").exists(), "a state was begun for nothing");
    }
}

#[test]
fn write_on_a_full_disk_is_an_error_and_harms_nothing() {
    if !is_root() {
        return skip("only root can mount a small disk");
    }
    let test_home = TestHome::new();
    let stage = test_home.holotree().join("h0c0ffee_493f813dad24d3t");
    fs::create_dir(&stage).unwrap();
    fs::write(stage.join("large"), vec![7; 6 << 20]).unwrap();
    fs::write(stage.join("small"), "small").unwrap();
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::write(&blueprint, "channels: []\n").unwrap();
    let catalog = test_home.record(&stage, &blueprint);
    let disk = test_home.home().join("holofs/spaces");
    fs::create_dir_all(&disk).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "small"]).arg(&disk));
    let mounted = test_home.mount(&catalog, SPACE, "user", &[]);
    let large = OpenOptions::new().read(true).write(true).open(mounted.path().join("large")).unwrap();
    assert_eq!(large.write_all_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    let mut start = [0; 100];
    large.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, [7; 100]);
    drop(large);
    append(&mounted.path().join("small"), " and more");
    assert_eq!(fs::read(mounted.path().join("small")).unwrap(), b"small and more");
    assert_eq!(number_field(&holofs_json(&test_home, "du"), "written_files"), 1);
    mounted.unmount();
    run(Command::new("umount").arg(&disk));
}

#[test]
fn holes_are_kept_and_found() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mounted.path().join("holes"))
        .unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(b"x", 4 << 20).unwrap();
    assert!(file.metadata().unwrap().blocks() <= 64);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap(), 4 << 20);
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 4 << 20, 4096).unwrap();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(4 << 20)).unwrap();
    file.read_to_end(&mut end).unwrap();
    assert!(end.len() == 4 << 20 && end.iter().all(|&byte| byte == 0));
}

#[test]
fn diff_lists_what_was_written_by_path_and_reset_drops_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let mounted = test_home.mount(CATALOG, golden_space(), "golden", &[]);
    append(&mounted.path().join("bin/tool"), "more");
    fs::create_dir(mounted.path().join("made")).unwrap();
    fs::write(mounted.path().join("made/file"), "x").unwrap();
    fs::remove_dir_all(mounted.path().join("plain")).unwrap();
    fs::set_permissions(mounted.path().join("identity.yaml"), Permissions::from_mode(0o606)).unwrap();
    let diff_output = |more: &[&str]| {
        let args = [&["diff", golden_space(), "--controller", "golden"], more].concat();
        stdout(&test_home.holofs_ok(&args))
    };
    assert_eq!(diff_output(&[]), "C bin/tool\nM identity.yaml\nA made/\nA made/file\nR plain/\n");
    let refused = ["reset", golden_space(), "--controller", "golden"];
    test_home.holofs_fails(&refused, exit::BUSY);
    mounted.unmount();
    test_home.holofs_ok(&[&refused[..], &["plain", "made", "identity.yaml"]].concat());
    assert_eq!(diff_output(&[]), "C bin/tool\n");
    test_home.holofs_ok(&[&refused[..], &["bin/tool"]].concat());
    assert_eq!(diff_output(&[]).trim(), "");
    let mounted = test_home.mount(CATALOG, golden_space(), "golden", &[]);
    fs::remove_file(mounted.path().join("bin/tool")).unwrap();
    mounted.unmount();
    test_home.holofs_ok(&refused);
    let mounted = test_home.mount(CATALOG, golden_space(), "golden", &[]);
    assert_same_space(mounted.path(), &restored);
}

/// The space that RCC restored the golden tree into.
fn golden_space() -> &'static str {
    "interop"
}

#[test]
fn getxattr_shows_the_state_of_a_written_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let path = mounted.path().join("bin/tool");
    append(&path, "more");
    let mut value = [0; 32];
    let len = rustix::fs::getxattr(&path, "user.holofs.state", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"written");
    let set = rustix::fs::setxattr(&path, "user.holofs.state", b"x", rustix::fs::XattrFlags::empty());
    assert_eq!(set, Err(rustix::io::Errno::PERM));
}

#[test]
fn listxattr_lists_only_attributes_of_users_that_were_set() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let path = mounted.path().join("bin/tool");
    let mut names = [0; 64];
    // The error "no such attribute" would make `ls -l` send a request for every file.
    for foreign in ["security.selinux", "system.posix_acl_access", "trusted.x"] {
        let asked = rustix::fs::getxattr(&path, foreign, &mut names[..]);
        assert_eq!(asked, Err(rustix::io::Errno::NOTSUP), "{foreign}");
    }
    assert_eq!(rustix::fs::listxattr(&path, &mut names[..]), Ok(0));
    rustix::fs::setxattr(&path, "user.mine", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    let len = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    assert_eq!(&names[..len], b"user.mine\0");
}

#[test]
fn lock_holds_among_processes_and_a_running_file_cannot_be_written() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let path = mounted.path().join("lock");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let other = Command::new("flock").args(["-n"]).arg(&path).arg("true").status().unwrap();
    assert_eq!(other.code(), Some(1));
    let sleep = mounted.path().join("sleep");
    copy_program("/bin/sleep", &sleep);
    let mut running = Command::new(&sleep).arg("5").spawn().unwrap();
    let opened = OpenOptions::new().write(true).open(&sleep);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::ExecutableFileBusy);
}

#[test]
fn create_gives_files_of_the_upper_modes_for_the_owner_only() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    append(&mounted.path().join("bin/tool"), "more");
    let options =
        OpenOptions::new().write(true).create_new(true).mode(0o666).open(mounted.path().join("wide"));
    options.unwrap().write_all(b"x").unwrap();
    for space in fs::read_dir(test_home.home().join("holofs/spaces")).unwrap() {
        let upper = space.unwrap().path().join("upper");
        assert_eq!(fs::metadata(&upper).unwrap().mode() & 0o077, 0);
        for file in fs::read_dir(upper).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o7777, 0o600);
        }
    }
}
