//! `holofs restart`: the program that is installed now serves a mount, and programs do not notice.
#![allow(clippy::print_stderr, reason = "prints numbers")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{end_by_force, kill, server_of};
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{copy_program, is_root, json, number_field, run, skip, space_path, until};

/// A mount served by a separate copy of the program, which can be replaced as in an upgrade.
struct Installed {
    test_home: TestHome,
    program: PathBuf,
    path: PathBuf,
    pid: u32,
}

impl Installed {
    fn new(more: &[&str]) -> Installed {
        let test_home = TestHome::golden(Regime::Gzip);
        let program = test_home.scratch().join("holofs");
        copy_program(env!("CARGO_BIN_EXE_holofs"), &program);
        let mut installed = Installed { test_home, program, path: PathBuf::new(), pid: 0 };
        installed.mount(more);
        installed
    }

    fn mount(&mut self, more: &[&str]) {
        let mut args = vec!["mount", CATALOG, "s", "--mode", "mount", "--json"];
        args.extend(more);
        let report = json(&self.holofs(&args));
        (self.path, self.pid) = (space_path(&report), u32::try_from(number_field(&report, "pid")).unwrap());
    }

    fn holofs(&self, args: &[&str]) -> Output {
        self.test_home.command(&self.program).args(args).output().unwrap()
    }

    /// Replaces the program by a copy, as dpkg does: a new file is renamed over it.
    fn upgrade(&self) {
        let new = self.program.with_extension("new");
        copy_program(env!("CARGO_BIN_EXE_holofs"), &new);
        fs::rename(&new, &self.program).unwrap();
    }

    /// Replaces the program by a file with other contents.
    fn replace_by(&self, bytes: &[u8]) {
        let new = self.program.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &self.program).unwrap();
    }

    /// True if the server runs the program that is installed now.
    fn serves_the_installed_one(&self) -> bool {
        until(|| server_of(self.pid).is_some());
        let exe = format!("/proc/{}/exe", server_of(self.pid).unwrap());
        fs::metadata(exe).is_ok_and(|exe| exe.ino() == fs::metadata(&self.program).unwrap().ino())
    }

    fn log(&self) -> String {
        let spaces = self.test_home.home().join("holofs/spaces");
        let state = fs::read_dir(spaces).unwrap().next().unwrap().unwrap().path();
        fs::read_to_string(state.join("log")).unwrap()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        end_by_force(&self.test_home, "s", &self.path);
    }
}

/// Works like an installer: creates directories, writes files under temporary names, renames, reads and removes them. Returns the number of
/// installed packages. Nothing may fail.
fn install(dir: &Path, stop: &AtomicBool) -> u32 {
    let mut record = File::options().append(true).create(true).open(dir.join("RECORD")).unwrap();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let package = dir.join(format!("package{count}"));
        fs::create_dir(&package).unwrap();
        for module in 0..8 {
            let (part, done) = (package.join(".part"), package.join(format!("{module}.py")));
            fs::write(&part, format!("x = {module}\n").repeat(100)).unwrap();
            fs::rename(&part, &done).unwrap();
            assert_eq!(fs::read_to_string(&done).unwrap(), format!("x = {module}\n").repeat(100));
        }
        writeln!(record, "package{count}").unwrap();
        if count % 2 == 1 {
            fs::remove_dir_all(&package).unwrap();
        }
        count += 1;
    }
    count
}

fn assert_installed(dir: &Path, count: u32) {
    let expected: Vec<String> = (0..count).map(|count| format!("package{count}")).collect();
    let record = fs::read_to_string(dir.join("RECORD")).unwrap();
    assert_eq!(record.lines().collect::<Vec<_>>(), expected);
    for package in 0..count {
        let there =
            fs::read_dir(dir.join(format!("package{package}"))).map(Iterator::count).unwrap_or_default();
        assert_eq!(there, if package % 2 == 0 { 8 } else { 0 }, "package{package}");
    }
}

#[test]
fn restart_during_an_installation_is_no_error_for_it() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mut mount = Installed::new(&[]);
    let dirs = ["one", "two"].map(|name| mount.path.join(name));
    dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let mut unlinked = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(mount.path.join("gone"))
        .unwrap();
    fs::remove_file(mount.path.join("gone")).unwrap();
    unlinked.write_all(b"kept").unwrap();
    let stop = AtomicBool::new(false);
    let counts: Vec<u32> = std::thread::scope(|scope| {
        let workers: Vec<_> = dirs.iter().map(|dir| scope.spawn(|| install(dir, &stop))).collect();
        for restart in 0..amount(5, 200) {
            mount.upgrade();
            assert!(!mount.serves_the_installed_one());
            let report = json(&mount.holofs(&["restart", "s", "--json"]));
            let row = &report["spaces"][0];
            assert_eq!(row["refused"], serde_json::Value::Null, "{restart}: {report}\n{}", mount.log());
            assert_eq!(
                (row["from"].as_str(), row["to"].as_str()),
                (Some(env!("CARGO_PKG_VERSION")), Some(env!("CARGO_PKG_VERSION")))
            );
            assert!(mount.serves_the_installed_one());
            if restart % 2 == 1 {
                // The next server runs the installed program, too.
                kill(server_of(mount.pid).unwrap());
                // The dying server may still answer one request.
                until(|| rustix::fs::statfs(&mount.path).is_ok() && mount.serves_the_installed_one());
            }
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut kept = [0; 4];
    unlinked.read_exact_at(&mut kept, 0).unwrap();
    assert_eq!(&kept, b"kept");
    drop(unlinked);
    dirs.iter().zip(&counts).for_each(|(dir, &count)| assert_installed(dir, count));
    assert!(mount.holofs(&["unmount", "s"]).status.success(), "{}", mount.log());
    mount.mount(&[]);
    dirs.iter().zip(&counts).for_each(|(dir, &count)| assert_installed(dir, count));
}

/// Makes a wheel with many modules, and prints its path.
const WHEEL: &str = "
import hashlib, base64, sys, zipfile
files = {f'many/m{n}.py': f'x = {n}\\n' * 50 for n in range(400)}
files['many/__init__.py'] = ''
info = 'many-1.0.dist-info/'
files[info + 'METADATA'] = 'Metadata-Version: 2.1\\nName: many\\nVersion: 1.0\\n'
files[info + 'WHEEL'] = 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'
digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
files[info + 'RECORD'] = ''.join(f'{name},sha256={digest(text)},{len(text)}\\n' for name, text in files.items()) + info + 'RECORD,,\\n'
with zipfile.ZipFile(sys.argv[1] + '/many-1.0-py3-none-any.whl', 'w') as wheel:
    for name, text in files.items(): wheel.writestr(name, text)
";

#[test]
fn restart_during_pip_install_is_no_error_for_it() {
    let pip = || Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !is_root() || !pip().is_ok_and(|output| output.status.success()) {
        return skip("mounting needs root, and the installation pip");
    }
    let mount = Installed::new(&[]);
    let scratch = mount.test_home.scratch();
    run(Command::new("python3").args(["-c", WHEEL]).arg(&scratch));
    let mut install = Command::new("python3");
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-cache-dir",
        "--target",
    ]);
    install.arg(mount.path.join("site")).arg(scratch.join("many-1.0-py3-none-any.whl"));
    // pip unpacks into its temporary directory, and moves the result.
    fs::create_dir(mount.path.join("tmp")).unwrap();
    let mut install = install.env("TMPDIR", mount.path.join("tmp")).spawn().unwrap();
    let mut restarts = 0;
    let status = loop {
        let report = json(&mount.holofs(&["restart", "s", "--json"]));
        assert_eq!(report["spaces"][0]["refused"], serde_json::Value::Null, "{report}\n{}", mount.log());
        if let Some(status) = install.try_wait().unwrap() {
            break status;
        }
        restarts += 1;
        std::thread::sleep(Duration::from_millis(100)); // so that pip makes progress
    };
    assert!(status.success(), "{status}");
    assert!(restarts > 0, "it was over before the first restart");
    let site = mount.path.join("site/many");
    for number in 0..400 {
        let text = fs::read_to_string(site.join(format!("m{number}.py"))).unwrap();
        assert_eq!(text, format!("x = {number}\n").repeat(50));
    }
    eprintln!("{restarts} restarts during pip install");
}

#[test]
fn restart_is_refused_before_anything_stops_if_the_installed_program_cannot_serve() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let mount = Installed::new(&[]);
    fs::write(mount.path.join("written"), "kept").unwrap();
    let server = server_of(mount.pid);
    for (program, why) in [
        ("#!/bin/sh\nexit 2\n", "ended (exit status: 2) before it served"),
        ("#!/bin/sh\nsleep 0.1; exit 0\n", "ended (exit status: 0) before it served"),
        ("no program", "ended (exit status: 127) before it served"),
    ] {
        mount.replace_by(program.as_bytes());
        let output = mount.test_home.holofs_fails(&["restart", "s"], 6);
        let refused = String::from_utf8_lossy(&output.stderr);
        assert!(refused.contains(why), "{refused}");
        assert_eq!(server_of(mount.pid), server, "{refused}");
    }
    assert_eq!(fs::read_to_string(mount.path.join("written")).unwrap(), "kept");
    mount.upgrade();
    let report = json(&mount.holofs(&["restart", "--all", "--json"]));
    assert_eq!(report["spaces"][0]["refused"], serde_json::Value::Null, "{report}");
    assert!(mount.serves_the_installed_one());
    assert_eq!(fs::read_to_string(mount.path.join("written")).unwrap(), "kept");
}

#[test]
fn restart_of_nothing_is_harmless() {
    let test_home = TestHome::golden(Regime::Gzip);
    // A separate copy of the program, because root also restarts the mounts of other tests that run the same program.
    let program = test_home.scratch().join("holofs");
    copy_program(env!("CARGO_BIN_EXE_holofs"), &program);
    let output = test_home.command(&program).args(["restart", "--all", "--json"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(json(&output), serde_json::json!({"spaces": [], "others": 0}));
    test_home.holofs_fails(&["restart", "s"], 4);
}
