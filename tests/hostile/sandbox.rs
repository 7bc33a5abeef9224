//! The sandbox of a daemon: what it cannot do once its mount answers, seen from outside, as root and as an ordinary user.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::bounds::read_in_time;
use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{below, is_alive, is_mounted, server};
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, copy_program, is_root, json, run, skip, space_path, until_or};

/// The status of every thread of a process, by the thread's name.
fn threads(pid: u64) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let read = |path: &Path, name: &str| fs::read_to_string(path.join(name)).ok();
    // A thread may end during this loop.
    tasks.filter_map(|task| Some((read(&task, "comm")?.trim().to_owned(), read(&task, "status")?))).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn capabilities(status: &str, set: &str) -> u64 {
    u64::from_str_radix(field(status, set), 16).unwrap()
}

/// The threads that wait, unmount, copy the mount, or read through it. None of them opens a path from a catalog.
const FREE: [&str; 4] = ["holofs", "signals", "copies", "prime"];

/// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; and CAP_SYS_ADMIN, which passing files to the kernel requires.
const USED: u64 = 0b110;
const HANDING_OVER: u64 = USED | 1 << 21;

/// Whether a thread of this name answers requests.
fn serves(name: &str) -> bool {
    name.starts_with("fuser") || name == "serve"
}

/// Waits until two threads serve (a mount answers as soon as the first one does) and the thread that writes RCC's marks is
/// in the sandbox or has ended. No thread in the sandbox may have more capabilities than `most`.
fn settled(pid: u64, most: u64) -> Vec<(String, String)> {
    let started = Instant::now();
    loop {
        let threads = threads(pid);
        let serving = threads.iter().filter(|(name, _)| serves(name)).count();
        let capable = |status: &str| capabilities(status, "CapEff") & !most != 0;
        let out = |status: &str| field(status, "NoNewPrivs") == "0" || capable(status);
        let free = |(name, status): &(String, String)| !FREE.contains(&name.as_str()) && out(status);
        let left: Vec<&String> = threads.iter().filter(|thread| free(thread)).map(|(name, _)| name).collect();
        if left.is_empty() && serving >= 2 {
            return threads;
        }
        let late = started.elapsed() >= PATIENCE;
        assert!(!late, "outside of the sandbox: {left:?}; threads that serve: {serving}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn serve_keeps_every_thread_in_the_sandbox() {
    let test_home = TestHome::golden(Regime::Gzip);
    for (io, serving) in [("no-open", USED), ("passthrough", HANDING_OVER)] {
        let mounted = test_home.mount(CATALOG, "x", "user", &["--io", io]);
        // A daemon that cannot pass files to the kernel does not keep the capability for it.
        let serving = if mounted.report()["io"] == io { serving } else { USED };
        let threads = settled(server(mounted.report()).into(), serving);
        for (name, status) in threads.iter().filter(|(name, _)| !FREE.contains(&name.as_str())) {
            let most = if serves(name) { serving } else { USED };
            for set in ["CapEff", "CapPrm"] {
                let all = if is_root() { most } else { 0 };
                assert_eq!(capabilities(status, set), all, "{io}: {name}: {set}");
            }
            assert_eq!([capabilities(status, "CapInh"), capabilities(status, "CapAmb")], [0, 0]);
        }
    }
}

#[test]
fn serve_leaves_no_core_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "x", "user", &[]);
    for pid in [mounted.report()["pid"].as_u64().unwrap(), server(mounted.report()).into()] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    }
}

#[test]
fn serve_cannot_open_what_is_outside_its_sandbox() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mut command = test_home.holofs_command(&["mount", CATALOG, "x", "--json"]);
    // The daemon logs whether the sandbox works: it tries to open /etc/passwd itself.
    let output = run(command.env("RUST_LOG", "debug"));
    let root = space_path(&json(&output));
    let text = crate::common::stderr(&output);
    assert!(text.contains("The sandbox around Some(\"serve\") is complete"), "{text}");
    // The library becomes a link to a copy elsewhere: following it would leave the sandbox.
    let (library, elsewhere) = (test_home.hololib().join("library"), test_home.scratch().join("library"));
    assert!(read_in_time(&root.join("plain/no-needle.txt")).is_ok());
    fs::rename(&library, &elsewhere).unwrap();
    symlink(&elsewhere, &library).unwrap();
    assert_eq!(read_in_time(&root.join("plain/inner.gz")), Err(5), "the daemon left its sandbox");
    assert!(read_in_time(&root.join("plain/no-needle.txt")).is_ok(), "what was open stays open");
    // The library is back, as after `rcc holotree check` or on a new volume: the mount works again, without a remount.
    fs::remove_file(&library).unwrap();
    fs::rename(&elsewhere, &library).unwrap();
    assert!(read_in_time(&root.join("plain/inner.gz")).is_ok());
    test_home.holofs_ok(&["unmount", "x"]);
}

/// `/dev/fuse` open to all users, as on most distributions, until dropped.
struct OpenDevice(fs::Permissions);

impl OpenDevice {
    fn new() -> OpenDevice {
        let before = fs::metadata("/dev/fuse").unwrap().permissions();
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
        OpenDevice(before)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        fs::set_permissions("/dev/fuse", self.0.clone()).unwrap();
    }
}

/// A golden home that belongs to `nobody`, and the command that runs a program as that user.
struct Nobody {
    test_home: TestHome,
}

const NOBODY: &str = "65534";

impl Nobody {
    fn new() -> Nobody {
        let test_home = TestHome::golden(Regime::Gzip);
        let top = test_home.home().parent().unwrap().to_owned();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
        // A copy of the program, because the build directory may not be accessible to others.
        copy_program(env!("CARGO_BIN_EXE_holofs"), top.join("holofs"));
        run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(&top));
        Nobody { test_home }
    }

    fn holofs(&self, args: &[&str]) -> Command {
        let program = self.test_home.home().parent().unwrap().join("holofs");
        let mut command = self.test_home.command("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(program).args(args);
        command
    }
}

#[test]
fn mount_without_privilege_is_sandboxed_and_a_signal_unmounts() {
    if !is_root() || !Path::new("/usr/bin/fusermount3").exists() || !Path::new("/usr/bin/setpriv").exists() {
        return skip("becoming another user needs root, setpriv and fusermount3");
    }
    let (nobody, _device) = (Nobody::new(), OpenDevice::new());
    let evil = nobody.test_home.scratch().join("evil");
    fs::create_dir(&evil).unwrap();
    fs::write(evil.join("fusermount3"), "#!/bin/sh\ntouch \"$0.was-run\"\nexit 1\n").unwrap();
    fs::set_permissions(evil.join("fusermount3"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o777)).unwrap();
    let path = format!("{}:{}", evil.display(), std::env::var("PATH").unwrap_or_default());
    let mut mount = nobody.holofs(&["mount", CATALOG, "x", "--json"]);
    let report = json(&run(mount.env("PATH", path).env("RUST_LOG", "debug")));
    assert_eq!(report["rung"], "fusermount3");
    assert!(!evil.join("fusermount3.was-run").exists(), "a helper of the caller's PATH was run");
    let (root, pid) = (space_path(&report), report["pid"].as_u64().unwrap());
    settled(server(&report).into(), USED);
    let as_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "ls"];
    let listed = run(Command::new("setpriv").args(as_nobody).arg(&root));
    assert!(crate::common::stdout(&listed).contains("bin"));
    // Root has no access without `--allow-other`: only its owner can use a mount.
    assert!(fs::read_dir(&root).is_err());
    run(Command::new("kill").args(["-TERM", &pid.to_string()]));
    let is_gone = || !is_mounted(&root) && !Path::new(&format!("/proc/{pid}")).exists();
    until_or(is_gone, || "SIGTERM does not unmount without privilege".to_owned());
    run(&mut nobody.holofs(&["mount", CATALOG, "x", "--read-only"]));
    run(&mut nobody.holofs(&["unmount", "x"]));
    assert!(below(&nobody.test_home.holotree()).is_empty());
}

#[test]
fn serve_in_the_sandbox_shows_everything_and_ends_by_a_signal() {
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let restored = golden::unpack_restored(regime, &test_home.scratch());
        let args = ["mount", CATALOG, "interop", "--controller", "golden", "--io", "no-open", "--json"];
        let report = json(&test_home.holofs_ok(&args));
        let (root, pid) = (space_path(&report), report["pid"].as_u64().unwrap());
        settled(server(&report).into(), USED);
        assert_same_space(&root, &restored);
        run(Command::new("kill").args(["-TERM", &pid.to_string()]));
        let has_ended = || !is_alive(u32::try_from(pid).unwrap());
        until_or(has_ended, || "SIGTERM does not end the daemon".to_owned());
        assert!(below(&test_home.holotree()).is_empty());
    }
}

/// What a program of another user sees of a file: the status of `sh -c script`.
fn as_another_user(space: &Path, script: &str) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--", "sh", "-c", script]);
    command.current_dir("/").env("SPACE", space).output().unwrap().status.success()
}

#[test]
fn allow_other_gives_another_user_what_the_modes_allow() {
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return skip("becoming another user needs root and setpriv");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let top = test_home.home().parent().unwrap();
    for dir in [top, test_home.home(), &test_home.holotree()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let closed = test_home.mount(CATALOG, "closed", "user", &["--mode", "mount"]);
    assert!(!as_another_user(closed.path(), "cat $SPACE/bin/tool"), "it is its owner's own");
    let open = test_home.mount(CATALOG, "open", "user", &["--mode", "mount", "--allow-other"]);
    // Directories are 0750, as RCC makes them: root opens this one for all users.
    for dir in ["", "bin", "plain"] {
        fs::set_permissions(open.path().join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(open.path().join("plain/one-byte.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    let allowed = ["cat $SPACE/bin/tool", "ls $SPACE/plain", "test -x $SPACE/bin/tool"];
    let refused = [
        "cat $SPACE/plain/one-byte.txt",
        "exec 3<>$SPACE/plain/no-needle.txt",
        ": >$SPACE/plain/no-needle.txt",
        "chmod 777 $SPACE/plain/no-needle.txt",
        "touch $SPACE/plain/new",
        "rm -f $SPACE/plain/no-needle.txt",
        "mv $SPACE/plain/no-needle.txt $SPACE/plain/x",
        "ls $SPACE/reloc",
        "touch -d @0 $SPACE/bin/tool",
    ];
    for script in allowed {
        assert!(as_another_user(open.path(), script), "{script}");
    }
    let written = || {
        fs::read_dir(
            test_home.home().join("holofs/spaces").join(open.path().file_name().unwrap()).join("upper"),
        )
        .map_or(0, Iterator::count)
    };
    let before = written();
    for script in refused {
        assert!(!as_another_user(open.path(), script), "{script}");
    }
    assert_eq!(written(), before, "a refused operation copied something up");
}

#[test]
fn prefetch_can_read_its_mount_and_nothing_else() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "space", "user", &[]);
    let secret = test_home.scratch().join("secret");
    fs::write(&secret, "secret").unwrap();
    let mut command = test_home.holofs_command(&["-vv", "prime"]);
    let mut primer =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut requests = primer.stdin.take().unwrap();
    let wanted = format!("{}\0", mounted.path().display());
    let asked = format!("0 bin/tool\x000 {}\x000 ../../../../../../etc/passwd\0\0", secret.display());
    requests.write_all((wanted + &asked).as_bytes()).unwrap();
    let mut answer = [1];
    primer.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", primer.id())).unwrap();
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    drop(requests);
    let output = primer.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let refused: Vec<&str> = text.lines().filter(|line| line.contains("Cannot prime")).collect();
    // The view of the mount that it has ends at its root.
    assert!(refused.len() == 2 && refused[0].contains("Permission denied"), "{text}");
    assert!(!refused.iter().any(|line| line.contains("bin/tool")), "{text}");
}
