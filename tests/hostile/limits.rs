//! The limits of `docs/limits.md`: the cost of one program, file or user is bounded.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::bounds::{limited, status_kib, within};
use super::trace;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, json, run, said, skip, soak, space_path, stderr, until};

const ENOSPC: i32 = 28;
/// The maximum duration of anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sets `user.<name>` to this number of bytes.
fn set(path: &Path, name: &str, len: usize) -> Result<(), i32> {
    let name = format!("user.{name}");
    let set = rustix::fs::setxattr(path, name.as_str(), &vec![b'v'; len], rustix::fs::XattrFlags::empty());
    set.map_err(|errno| errno.raw_os_error())
}

#[test]
fn attributes_of_a_file_and_of_a_space_are_bounded() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &["--profile", "off"]);
    let daemon = daemons_of(&test_home)[0];
    let file = mounted.path().join("first");
    fs::write(&file, "x").unwrap();
    let taken: Vec<_> = (0..6).map(|number| set(&file, &number.to_string(), 60_000)).collect();
    assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Ok(()), Err(ENOSPC), Err(ENOSPC)]);
    let before = status_kib(daemon, "VmRSS");
    let mut refused = None;
    'files: for number in 0..2_000 {
        let file = mounted.path().join(format!("file{number}"));
        fs::write(&file, "").unwrap();
        for name in ["a", "b", "c", "d"] {
            if let Err(errno) = set(&file, name, 60_000) {
                refused = Some((number, errno));
                break 'files;
            }
        }
    }
    let (files, errno) = refused.expect("480 MB of attributes are taken");
    assert!((200..400).contains(&files) && errno == ENOSPC, "{files} {errno}");
    let grown = status_kib(daemon, "VmRSS").saturating_sub(before);
    assert!(grown < 400 << 10, "{grown} KiB more");
    // After something is removed there is room again, and the rest can be read.
    fs::remove_file(mounted.path().join("file0")).unwrap();
    assert_eq!(set(&mounted.path().join("file1"), "z", 1_000), Ok(()));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn opendir_without_end_costs_the_daemon_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &["--profile", "off"]);
    let daemon = daemons_of(&test_home)[0];
    let descriptors = || fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    fs::create_dir(mounted.path().join("made")).unwrap();
    let open = |times: u64| {
        for number in 0..times {
            let dir = mounted.path().join(if number % 2 == 0 { "bin" } else { "made" });
            assert!(fs::read_dir(dir).unwrap().next().is_none_or(|entry| entry.is_ok()));
        }
    };
    open(2_000);
    let (before, open_before) = (status_kib(daemon, "VmRSS"), descriptors());
    open(soak::amount(50_000, 1_000_000));
    // Also any number of them at once: the kernel sends no request for them.
    let held: Vec<File> = (0..500).map(|_| File::open(mounted.path().join("made")).unwrap()).collect();
    let grown = status_kib(daemon, "VmRSS").saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
    assert!(descriptors() <= open_before + 8, "{} of {open_before}", descriptors());
    drop(held);
}

#[test]
fn threads_are_bounded_whatever_is_requested() {
    if !trace::is_available() {
        return skip("No strace");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let log = test_home.scratch().join("clones");
    let mut command = test_home.command("strace");
    command.args(["-f", "-qq", "-e", "trace=clone,clone3", "-o"]).arg(&log);
    command.args([env!("CARGO_BIN_EXE_holofs"), "materialize", CATALOG, "space", "--threads", "9999"]);
    let output = within(&mut command, PATIENCE);
    assert!(output.status.success(), "{}", said(&output));
    let clones = fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains("clone")).count();
    assert!((1..200).contains(&clones), "{clones} threads");
}

#[test]
fn import_of_padded_catalogs_takes_bounded_memory() {
    let test_home = TestHome::golden(Regime::Gzip);
    let text = golden::inflate(&fs::read(test_home.hololib().join("catalog").join(CATALOG)).unwrap());
    // Half a kilobyte for each 400 MB of JSON.
    let padded = golden::deflate(&format!("{text}{}", " ".repeat(400 << 20)));
    let dir = test_home.scratch().join("zip/catalog");
    fs::create_dir_all(&dir).unwrap();
    for number in 0..4 {
        fs::write(dir.join(format!("aaaaaaaaaaaaaaa{number}v12.linux_amd64")), &padded).unwrap();
    }
    let zip = test_home.scratch().join("hololib.zip");
    let script = "import sys,os,zipfile\nz=zipfile.ZipFile(sys.argv[2],'w')\nfor n in sorted(os.listdir(sys.argv[1]+'/catalog')): z.write(sys.argv[1]+'/catalog/'+n,'catalog/'+n)\nz.close()";
    run(Command::new("python3").args(["-c", script]).arg(test_home.scratch().join("zip")).arg(&zip));
    let fresh = TestHome::new();
    let output = within(&mut limited(&fresh, "-v 1200000", &["import", zip.to_str().unwrap()]), PATIENCE);
    let code = output.status.code();
    assert!([Some(exit::BAD_CATALOG), Some(exit::DAMAGE)].contains(&code), "{}", said(&output));
    assert!(fresh.catalogs().is_empty());
}

/// A file system of this number of KiB in the place of our own files.
struct Small(std::path::PathBuf);

impl Small {
    fn new(path: &Path, kib: u64) -> Small {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={kib}k,mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(path));
        Small(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().unwrap();
    }
}

#[test]
fn mount_on_a_disk_that_fills_at_any_step_answers_or_is_absent() {
    if !is_root() {
        return skip("Only root has small disks");
    }
    let (mut mounted, mut refused) = (0, 0);
    for kib in (4..=64).step_by(12).chain((80..=400).step_by(64)) {
        let test_home = TestHome::golden(Regime::Gzip);
        let small = Small::new(&test_home.home().join("holofs"), kib);
        let output = within(&mut test_home.holofs_command(&["mount", CATALOG, "space", "--json"]), PATIENCE);
        let root = root_of(&test_home);
        if output.status.success() {
            mounted += 1;
            assert_eq!(space_path(&json(&output)), root);
            assert!(root.join("bin/tool").metadata().is_ok(), "{kib} KiB: a dead mount");
            fs::write(root.join("new"), "x").ok();
            fs::read_dir(&root).unwrap();
        } else {
            refused += 1;
            assert!(!is_mounted(&root), "{kib} KiB: refused, and mounted: {}", said(&output));
            assert!(!stderr(&output).contains("panicked"), "{}", said(&output));
        }
        test_home.holofs(&["unmount", "space", "--lazy"]);
        until(|| daemons_of(&test_home).is_empty());
        assert!(!is_mounted(&root));
        drop(small);
    }
    assert!(mounted > 0, "none of {refused} was mounted: this test shows nothing");
}

/// The path at which the space will be.
fn root_of(test_home: &TestHome) -> std::path::PathBuf {
    let home = holofs::rcc::home::Home::locate_with(
        &holofs::rcc::home::Environment {
            var: &|name: &str| match name {
                "HOME" => Some(test_home.user().as_os_str().to_owned()),
                "ROBOCORP_HOME" => Some(test_home.home().as_os_str().to_owned()),
                _ => None,
            },
        },
        Path::new("/nonexistent"),
    );
    test_home.holotree().join(home.unwrap().label("user", "space").as_str())
}

#[test]
fn umask_of_zero_opens_nothing_of_ours_to_others() {
    let test_home = TestHome::golden(Regime::Gzip);
    let script = format!(
        "umask 0; $H materialize {CATALOG} laid --warm >/dev/null && $H run {CATALOG} shown -- sh -c 'echo x > $RCC_HOLOTREE_SPACE_ROOT/new' &&
         $H run {CATALOG} other --isolate -- true && $H export {CATALOG} --zipfile {} >/dev/null",
        test_home.scratch().join("z.zip").display()
    );
    let mut command = test_home.command("sh");
    let output = within(command.args(["-c", &script]).env("H", env!("CARGO_BIN_EXE_holofs")), PATIENCE);
    assert!(output.status.success(), "{}", said(&output));
    test_home.holofs(&["unmount", "shown"]);
    let ours = test_home.home().join("holofs");
    let open = Command::new("find").arg(&ours).args(["!", "-type", "l", "-perm", "/022"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&open.stdout), "", "others may write to these");
    // RCC itself creates directories as open as the umask allows; our temporary directories are private.
    let temp = test_home.home().join("temp");
    assert_eq!(
        fs::metadata(&temp).unwrap().permissions().mode() & 0o022,
        0,
        "others may rename what is in it"
    );
    let temp = Command::new("find").arg(temp).args(["-mindepth", "1", "-perm", "/077"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&temp.stdout), "");
    assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o077, 0);
}
