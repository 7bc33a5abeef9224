//! Ownership on disk: files that another user made, planted, swapped or forged are not used, and nothing blocks on them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::bounds::within;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, exit, is_root, json, run, said, skip, space_path, stderr};

/// Another user.
const ATTACKER: u32 = 12_345;

/// A directory outside of everything, with a file that must not be touched.
struct Precious(tempfile::TempDir);

impl Precious {
    fn new() -> Precious {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "precious").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
        Precious(dir)
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("file")
    }

    fn assert_untouched(&self, after: &str) {
        assert_eq!(fs::read(self.file()).unwrap(), b"precious", "{after}");
        let names: Vec<_> =
            fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{after}");
        assert_eq!(fs::metadata(self.dir()).unwrap().mode() & 0o7777, 0o750, "{after}");
    }
}

fn fifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    run(Command::new("mkfifo").arg(path));
}

fn holofs(test_home: &TestHome, args: &[&str]) -> Output {
    within(&mut test_home.holofs_command(args), PATIENCE)
}

/// A space that was changed through a mount: its directory, and that of its state.
fn written(test_home: &TestHome, space: &str) -> (PathBuf, PathBuf) {
    let mounted = test_home.mount(CATALOG, space, "user", &[]);
    let root = mounted.path().to_owned();
    fs::write(root.join("new"), "x").unwrap();
    mounted.unmount();
    let state = test_home.home().join("holofs/spaces").join(root.file_name().unwrap());
    assert!(state.join("state.db").exists());
    (root, state)
}

#[test]
fn links_in_the_place_of_our_files_are_not_followed() {
    let precious = Precious::new();
    let names = [
        "state.db.dropped",
        "log",
        "mount.json",
        "restored.json",
        "restoring.json",
        "hidden.json",
        "converted.json",
        "listed",
        "lock",
    ];
    for name in names {
        let test_home = TestHome::golden(Regime::Gzip);
        let (_, state) = written(&test_home, "space");
        fs::remove_file(state.join(name)).ok();
        symlink(precious.file(), state.join(name)).unwrap();
        for args in [
            &["mount", CATALOG, "space"][..],
            &["unmount", "space"],
            &["reset", "space"],
            &["materialize", CATALOG, "space"],
            &["list"],
            &["gc"],
            &["delete", "space"],
        ] {
            holofs(&test_home, args);
            precious.assert_untouched(&format!("{name}: {args:?}"));
        }
    }
}

#[test]
fn open_does_not_wait_for_a_fifo_in_the_place_of_any_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (root, state) = written(&test_home, "space");
    let home = test_home.home();
    let profiles = home.join("holofs/profiles");
    let profile = fs::read_dir(&profiles).unwrap().next().unwrap().unwrap().path();
    let label = root.file_name().unwrap().to_str().unwrap().to_owned();
    let uses = test_home.holotree().join(format!("{label}.use"));
    let used = fs::read_dir(test_home.hololib().join("used")).unwrap().next().unwrap().unwrap().path();
    let files = [
        uses,
        used,
        home.join("journals/event.log"),
        home.join("settings.yaml"),
        home.join("rcc.yaml"),
        profile,
        state.join("log"),
        state.join("mount.json"),
        state.join("restored.json"),
        state.join("listed"),
        test_home.holotree().join(format!("{label}.meta")),
        state.join("lock"),
        test_home.holotree().join(format!("{label}.lck")),
    ];
    for file in files {
        fifo(&file);
        for args in [
            &["mount", CATALOG, "space"][..],
            &["list"],
            &["unmount", "space"],
            &["materialize", CATALOG, "space"],
            &["run", CATALOG, "other", "--", "true"],
            &["gc"],
        ] {
            // The result does not matter; `within` fails if the command does not end.
            holofs(&test_home, args);
        }
        holofs(&test_home, &["unmount", "space", "--lazy"]);
        fs::remove_file(&file).ok();
    }
}

#[test]
fn open_refuses_a_state_directory_that_is_a_link_or_of_another_user() {
    let precious = Precious::new();
    let test_home = TestHome::golden(Regime::Gzip);
    let (_, state) = written(&test_home, "space");
    let commands: [&[&str]; 5] = [
        &["mount", CATALOG, "space"],
        &["materialize", CATALOG, "space"],
        &["reset", "space"],
        &["delete", "space"],
        &["gc"],
    ];
    let kept = state.with_extension("kept");
    fs::rename(&state, &kept).unwrap();
    symlink(precious.dir(), &state).unwrap();
    for args in &commands[..4] {
        let output = holofs(&test_home, args);
        assert_eq!(output.status.code(), Some(exit::IO), "{args:?}: {}", said(&output));
        precious.assert_untouched(&format!("{args:?}"));
    }
    holofs(&test_home, commands[4]);
    precious.assert_untouched("gc");
    fs::remove_file(&state).unwrap();
    fs::rename(&kept, &state).unwrap();
    if !is_root() {
        return skip("Only root can give a directory away");
    }
    chown(&state, Some(ATTACKER), None).unwrap();
    for args in &commands[..2] {
        let output = holofs(&test_home, args);
        assert_eq!(output.status.code(), Some(exit::IO), "{args:?}: {}", said(&output));
        assert!(stderr(&output).contains("belongs to user 12345"), "{}", said(&output));
    }
}

#[test]
fn open_refuses_a_whole_state_that_others_may_write_to_or_own() {
    let test_home = TestHome::golden(Regime::Gzip);
    let holofs_dir = test_home.home().join("holofs");
    fs::create_dir_all(holofs_dir.join("pyc")).unwrap();
    fs::set_permissions(&holofs_dir, Permissions::from_mode(0o777)).unwrap();
    let refused = |because: &str| {
        for args in [&["mount", CATALOG, "space"][..], &["materialize", CATALOG, "space"]] {
            let output = holofs(&test_home, args);
            assert_eq!(output.status.code(), Some(exit::IO), "{args:?}: {}", said(&output));
            assert!(stderr(&output).contains(because), "{}", said(&output));
        }
    };
    refused("others may write to");
    fs::set_permissions(&holofs_dir, Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(&holofs_dir, Some(ATTACKER), None).unwrap();
        refused("belongs to user 12345");
        chown(&holofs_dir, Some(0), None).unwrap();
    }
    fs::rename(&holofs_dir, test_home.home().join("elsewhere")).unwrap();
    symlink("elsewhere", &holofs_dir).unwrap();
    refused("symbolic link");
}

#[test]
fn unmount_sends_no_signal_to_a_process_from_a_forged_state() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &[]);
    let state = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
    let text = fs::read_to_string(state.join("mount.json")).unwrap();
    mounted.unmount();
    let mut quiet = Command::new("sleep");
    quiet.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut victim = quiet.spawn().unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&text).unwrap();
    forged["pid"] = victim.id().into();
    forged["started"] = started(victim.id()).into();
    fs::write(state.join("mount.json"), forged.to_string()).unwrap();
    for args in [&["unmount", "space"][..], &["unmount", "space", "--lazy"], &["mount", CATALOG, "space"]] {
        holofs(&test_home, args);
        assert!(
            victim.try_wait().unwrap().is_none(),
            "{args:?} ended a process that has nothing to do with it"
        );
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    holofs(&test_home, &["unmount", "space"]);
}

/// When a process started, in clock ticks since the machine's start.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(19).unwrap().parse().unwrap()
}

#[test]
fn index_truncated_under_a_live_mount_harms_no_process() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &[]);
    for entry in fs::read_dir(test_home.home().join("holofs/index")).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_len(0).unwrap();
    }
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    crate::common::compare::assert_same_space(mounted.path(), &restored);
    mounted.unmount();
    test_home.mount(CATALOG, "space", "user", &[]).unmount();
}

#[test]
fn written_state_with_a_cycle_is_damage() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &[]);
    fs::create_dir_all(mounted.path().join("one/two")).unwrap();
    let state = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
    mounted.unmount();
    let database = rusqlite::Connection::open(state.join("state.db")).unwrap();
    let (first, second) = (1_i64 << 32, (1_i64 << 32) + 1);
    database.execute("UPDATE inode SET parent=?1 WHERE ino=?2", (second, first)).unwrap();
    database.close().unwrap();
    for args in [&["mount", CATALOG, "space"][..], &["diff", "space"]] {
        let output = holofs(&test_home, args);
        assert_eq!(output.status.code(), Some(exit::IO), "{args:?}: {}", said(&output));
        assert!(stderr(&output).contains("is damaged"), "{}", said(&output));
    }
}

#[test]
fn deleting_a_space_changes_nothing_behind_a_link_in_its_place() {
    let precious = Precious::new();
    let test_home = TestHome::golden(Regime::Gzip);
    let root = test_home.materialize(CATALOG, "space", "user");
    // A directory that denies access to its own owner must be made accessible first, but never the target of a link.
    fs::create_dir(root.join("dark")).unwrap();
    fs::set_permissions(root.join("dark"), Permissions::from_mode(0o000)).unwrap();
    symlink(precious.dir(), root.join("link")).unwrap();
    test_home.holofs_ok(&["delete", "space"]);
    precious.assert_untouched("a link in the space");
    let root = test_home.materialize(CATALOG, "space", "user");
    Command::new("chmod").args(["-R", "u+rwX"]).arg(&root).output().unwrap();
    fs::remove_dir_all(&root).unwrap();
    symlink(precious.dir(), &root).unwrap();
    test_home.holofs_ok(&["delete", "space"]);
    precious.assert_untouched("a link in its place");
    assert!(root.symlink_metadata().is_err());
}

#[test]
fn delete_is_safe_while_directories_are_swapped_for_links() {
    let precious = Precious::new();
    let test_home = TestHome::golden(Regime::Gzip);
    let until = std::time::Instant::now() + Duration::from_secs(crate::common::soak::amount(5, 60));
    while std::time::Instant::now() < until {
        let root = test_home.materialize(CATALOG, "space", "user");
        let dark = root.join("plain");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if fs::rename(&dark, root.join("aside")).is_ok() {
                        symlink(precious.dir(), &dark).ok();
                        fs::remove_file(&dark).ok();
                        fs::rename(root.join("aside"), &dark).ok();
                    }
                }
            });
            let outcome = holofs(&test_home, &["delete", "space"]);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            drop(outcome);
        });
        precious.assert_untouched("the race");
    }
}

#[test]
fn check_moves_a_bad_blob_to_a_quarantine_on_another_device() {
    let other = Path::new("/dev/shm");
    let test_home = TestHome::golden(Regime::Gzip);
    let differs =
        fs::metadata(other).is_ok_and(|shm| shm.dev() != fs::metadata(test_home.home()).unwrap().dev());
    if !differs {
        return skip("No /dev/shm of another device");
    }
    let precious = Precious::new();
    let elsewhere = tempfile::Builder::new().prefix("holofs-test.").tempdir_in(other).unwrap();
    let blobs = blobs(&test_home.hololib().join("library"));
    fs::write(&blobs[0], "damaged").unwrap();
    fifo(&blobs[1]);
    fs::remove_file(&blobs[2]).unwrap();
    symlink(precious.file(), &blobs[2]).unwrap();
    let mut command = test_home.holofs_command(&["check", "--repair", "--json"]);
    let output = within(command.env("HOLOFS_HOME", elsewhere.path().join("holofs")), PATIENCE);
    let moved: Vec<_> =
        json(&output)["bad_blobs"].as_array().unwrap().iter().map(|bad| bad["moved_to"].clone()).collect();
    assert_eq!(moved.iter().filter(|to| to.is_string()).count(), 1, "{}", said(&output));
    let name = blobs[0].file_name().unwrap();
    let quarantined = elsewhere.path().join("holofs/quarantine").join(name);
    assert_eq!(fs::read(quarantined).unwrap(), b"damaged");
    assert!(!blobs[0].exists());
    assert!(blobs[1].symlink_metadata().is_ok() && blobs[2].is_symlink());
    precious.assert_untouched("check --repair");
}

/// Three blobs of a library.
fn blobs(library: &Path) -> Vec<PathBuf> {
    let output = run(Command::new("find").arg(library).args(["-type", "f"]));
    let mut all: Vec<PathBuf> = crate::common::stdout(&output).lines().map(PathBuf::from).collect();
    all.sort();
    all.truncate(3);
    all
}

#[test]
fn import_follows_no_link_out_of_the_library() {
    let precious = Precious::new();
    let test_home = TestHome::golden(Regime::Gzip);
    let zip = test_home.scratch().join("hololib.zip");
    test_home.holofs_ok(&["export", CATALOG, "--zipfile", zip.to_str().unwrap()]);
    let fresh = TestHome::new();
    for first in blobs(&test_home.hololib().join("library")) {
        let relative = first.strip_prefix(test_home.hololib()).unwrap();
        let fan_out = fresh.hololib().join(relative).parent().unwrap().to_owned();
        fs::create_dir_all(fan_out.parent().unwrap()).unwrap();
        symlink(precious.dir(), &fan_out).unwrap();
    }
    let output = holofs(&fresh, &["import", zip.to_str().unwrap()]);
    assert!(!output.status.success(), "{}", said(&output));
    precious.assert_untouched("import");
}

#[test]
fn state_inside_of_the_space_itself_is_refused() {
    let test_home = TestHome::golden(Regime::Gzip);
    let root = space_path(&json(&test_home.holofs_ok(&["materialize", CATALOG, "space", "--json"])));
    for inside in [root.clone(), root.join("a/b")] {
        for args in [&["mount", CATALOG, "space"][..], &["materialize", CATALOG, "space"]] {
            let output = within(test_home.holofs_command(args).env("HOLOFS_HOME", &inside), PATIENCE);
            assert_eq!(output.status.code(), Some(exit::IO), "{args:?}: {}", said(&output));
            assert!(stderr(&output).contains("inside of the space"), "{}", said(&output));
            assert!(!crate::common::mounted::is_mounted(&root));
        }
    }
}

#[test]
fn delete_of_a_name_that_means_two_spaces_deletes_neither() {
    let test_home = TestHome::golden(Regime::Gzip);
    let one = test_home.materialize(CATALOG, "space", "user");
    let elsewhere = test_home.scratch().join("holotree");
    fs::create_dir_all(&elsewhere).unwrap();
    // The same hololib with a second catalog, whose spaces are elsewhere.
    let catalogs = test_home.hololib().join("catalog");
    let text = golden::inflate(&fs::read(catalogs.join(CATALOG)).unwrap());
    let moved = text.replace(test_home.holotree().to_str().unwrap(), elsewhere.to_str().unwrap());
    let moved = moved.replace(golden::BLUEPRINT, "aaaaaaaaaaaaaaaa");
    fs::write(catalogs.join("aaaaaaaaaaaaaaaav12.linux_amd64"), golden::deflate(&moved)).unwrap();
    let two = test_home.materialize("aaaaaaaaaaaaaaaa", "space", "user");
    assert_ne!(one, two);
    let output = test_home.holofs_fails(&["delete", "space"], exit::NOT_FOUND);
    for root in [&one, &two] {
        assert!(stderr(&output).contains(root.to_str().unwrap()), "{}", said(&output));
        assert!(root.join("bin/tool").exists());
    }
    test_home.holofs_ok(&["delete", two.to_str().unwrap()]);
    assert!(one.join("bin/tool").exists() && !two.exists());
}

#[test]
fn index_with_a_right_checksum_is_still_validated() {
    let test_home = TestHome::golden(Regime::Gzip);
    test_home.materialize(CATALOG, "space", "user");
    let catalog = test_home.hololib().join("catalog").join(CATALOG);
    let id =
        holofs::rcc::digest::Digest::of(holofs::rcc::digest::Regime::Sha256, &fs::read(catalog).unwrap());
    let path = test_home.home().join("holofs/index").join(id.to_string());
    let right = fs::read(&path).unwrap();
    let base = test_home.holotree().to_str().unwrap().to_owned();
    let at = right.windows(base.len()).position(|window| window == base.as_bytes()).unwrap();
    let relative = [&right[..at], b"x", &right[at + 1..]].concat();
    let dotted = base.replacen("/holofs-test", "/../ofs-test", 1);
    let dotted = [&right[..at], dotted.as_bytes(), &right[at + base.len()..]].concat();
    for mut forged in [relative, dotted] {
        assert_eq!(forged.len(), right.len());
        let head_len = u32::from_le_bytes(forged[92..96].try_into().unwrap()) as usize;
        let mut crc = flate2::Crc::new();
        crc.update(&forged[12..head_len]);
        forged[8..12].copy_from_slice(&crc.sum().to_le_bytes());
        fs::write(&path, &forged).unwrap();
        let mut command = test_home.holofs_command(&["materialize", CATALOG, "other", "--json"]);
        let elsewhere = test_home.scratch();
        let output = within(command.current_dir(&elsewhere), PATIENCE);
        assert!(space_path(&json(&output)).starts_with(test_home.holotree()), "{}", said(&output));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert!(stderr(&output).contains("is not a clean absolute path"), "{}", said(&output));
        assert!(fs::read(&path).unwrap() == right, "it was not compiled again");
    }
}

#[test]
fn doctor_tests_nothing_behind_a_link() {
    let (test_home, precious) = (TestHome::golden(Regime::Gzip), Precious::new());
    fs::create_dir_all(test_home.home().join("holofs")).unwrap();
    fs::set_permissions(test_home.home().join("holofs"), Permissions::from_mode(0o700)).unwrap();
    for name in ["raw", "spaces"] {
        symlink(precious.dir(), test_home.home().join("holofs").join(name)).unwrap();
    }
    let changed = || fs::metadata(precious.dir()).map(|meta| (meta.ctime(), meta.ctime_nsec())).unwrap();
    let before = changed();
    let output = holofs(&test_home, &["doctor"]);
    precious.assert_untouched("doctor");
    assert_eq!(changed(), before, "something was made and removed: {}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("symbolic link"), "{}", said(&output));
}
