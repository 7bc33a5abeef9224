//! A live mount that is always removed, and leaves no daemon behind.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::test_home::TestHome;
use super::{PATIENCE, json, said, space_path, stderr, until, until_or};

/// How long another test may keep a mount namespace, which has a copy of every mount.
const NAMESPACE: Duration = Duration::from_secs(120);

/// A mounted space. Dropping it unmounts it; the test fails if that does not work or if the daemon survives.
pub struct Mounted<'a> {
    test_home: &'a TestHome,
    space: String,
    controller: String,
    path: PathBuf,
    daemons: Vec<u32>,
    report: serde_json::Value,
}

impl<'a> Mounted<'a> {
    pub(super) fn new(
        test_home: &'a TestHome,
        catalog: &str,
        space: &str,
        controller: &str,
        more: &[&str],
    ) -> Mounted<'a> {
        let before = daemons_of(test_home);
        let mut args = vec!["mount", catalog, space, "--controller", controller, "--json"];
        args.extend(more);
        let report = json(&test_home.holofs_ok(&args));
        let path = space_path(&report);
        assert!(is_mounted(&path), "holofs mount says it is there, the kernel does not: {}", path.display());
        let mut daemons = daemons_of(test_home);
        daemons.retain(|pid| !before.contains(pid));
        let (space, controller) = (space.to_owned(), controller.to_owned());
        Mounted { test_home, space, controller, path, daemons, report }
    }

    /// The directory of the space.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The output of `mount --json`.
    pub fn report(&self) -> &serde_json::Value {
        &self.report
    }

    /// The processes that were started by this mount.
    pub fn daemons(&self) -> &[u32] {
        &self.daemons
    }

    /// Unmounts now, with every check.
    pub fn unmount(self) {
        drop(self);
    }

    fn end(&self) -> Result<(), String> {
        let args = ["unmount", &self.space, "--controller", &self.controller];
        let output = self.test_home.holofs(&args);
        if is_mounted(&self.path) {
            detach(&self.path);
            return Err(format!("holofs {args:?} left {} mounted: {}", self.path.display(), said(&output)));
        }
        if !output.status.success() {
            return Err(format!("holofs {args:?} failed: {}", said(&output)));
        }
        let has_copy = stderr(&output).contains("a copy of the mount in the namespace of process");
        self.wait_for_daemons(if has_copy { NAMESPACE } else { PATIENCE })
    }

    fn wait_for_daemons(&self, most: Duration) -> Result<(), String> {
        let started = Instant::now();
        let alive = || self.daemons.iter().filter(|pid| is_alive(**pid)).copied().collect::<Vec<u32>>();
        while !alive().is_empty() {
            if started.elapsed() > most {
                return Err(format!("daemons {:?} outlive the mount of {}", alive(), self.path.display()));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        match self.end() {
            Err(why) if std::thread::panicking() => eprintln!("{why}"),
            Err(why) => panic!("{why}"),
            Ok(()) => {}
        }
    }
}

/// Whether something is mounted at exactly this path.
pub fn is_mounted(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// The mounts below a directory, the last one first.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    mount_points().into_iter().rev().filter(|point| point.starts_with(dir)).collect()
}

/// Detaches a mount even when it is busy or its daemon is dead.
pub fn detach(path: &Path) {
    let umount = Command::new("umount").arg("-l").arg(path).output();
    if !umount.is_ok_and(|output| output.status.success()) {
        Command::new("fusermount3").args(["-u", "-z"]).arg(path).output().ok();
    }
}

fn mount_points() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// In mountinfo, space, tab, newline and backslash are written as `\040` and so on.
fn unescape(field: &str) -> PathBuf {
    let (bytes, mut out, mut at) = (field.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let octal = field.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| bytes[at] == b'\\') {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// Processes of our binary that were started with this home.
pub fn daemons_of(test_home: &TestHome) -> Vec<u32> {
    let home = format!("ROBOCORP_HOME={}\0", test_home.home().display()).into_bytes();
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid| is_ours(*pid) && environment_of(*pid).windows(home.len()).any(|part| part == home))
        .collect()
}

/// Waits until no daemon of this home is left. Another test may create a mount namespace, in which a copy of the mount exists as long as the
/// namespace does.
#[track_caller]
pub fn wait_for_no_daemon(test_home: &TestHome) {
    until_or(
        || daemons_of(test_home).is_empty(),
        || format!("daemons are left: {:?}", daemons_of(test_home)),
    );
}

/// Ends the mount of a space by force, whatever its state is, and all daemons of this home.
pub fn end_by_force(test_home: &TestHome, space: &str, path: &Path) {
    test_home.holofs(&["unmount", space, "--force"]);
    if is_mounted(path) {
        detach(path);
    }
    wait_for_no_daemon(test_home);
}

fn environment_of(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

fn is_ours(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_holofs")))
}

/// True if the process is running and not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    is_ours(pid) && status.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z'))
}

/// The process that serves the mount of the supervisor `pid` right now.
pub fn server_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Kills a process, if it still exists.
pub fn kill(pid: u32) {
    Command::new("kill").args(["-KILL", &pid.to_string()]).output().unwrap();
}

/// The process that serves the mount that `report` names.
pub fn server(report: &serde_json::Value) -> u32 {
    let supervisor = report["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
    server_of(supervisor).unwrap_or_else(|| panic!("process {supervisor} has no server"))
}

/// Makes enough requests that the next death of a server is no crash loop, even if no other program gets the processor.
pub fn make_progress(path: &Path) {
    (0..30).for_each(|_| assert!(rustix::fs::statfs(path).is_ok()));
}

/// Kills both processes of a mount, and waits until they have ended.
pub fn kill_mount(supervisor: u32) {
    let server = server_of(supervisor);
    kill(supervisor);
    until(|| !is_alive(supervisor) && server.is_none_or(|server| !is_alive(server)));
}
