//! The home of a crowd: two catalogs whose trees name themselves, for root or for a user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::namespace;
use crate::common::test_home::TestHome;
use crate::common::{copy_program, is_root, json, project, run, said, skip, stdout};

/// The spaces.
pub const NAMES: [&str; 3] = ["one", "two", "three"];
/// The name of the recorded directory.
const RECORDED: &str = "h59acff1_493f813dad24d3t";

pub struct World {
    test_home: TestHome,
    /// Their hashes; the first tree contains 1, the second 2.
    pub catalogs: [String; 2],
    yamls: [PathBuf; 2],
    user: Option<u32>,
    program: PathBuf,
    rcc: Option<PathBuf>,
    files: AtomicU64,
    /// A process in the mount namespace of a user's crowd, where the device may be opened.
    holder: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            holder.kill().unwrap();
            holder.wait().unwrap();
        }
    }
}

/// A process in a mount namespace in which all users may open the device.
fn holder(test_home: &TestHome) -> Child {
    let script =
        "mknod -m 666 \"$1\" c 10 229 && mount --bind \"$1\" /dev/fuse && echo up && exec cat >/dev/null";
    let mut command = namespace::unshare(test_home, &["--mount", "--propagation", "private"]);
    command.args(["sh", "-ec", script, "sh"]).arg(test_home.scratch().join("fuse"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    child
}

impl World {
    /// A home with both catalogs; `None`, with the reason printed, where this user cannot mount.
    pub fn new(user: Option<u32>) -> Option<World> {
        if !is_root() {
            skip("crowds need root: for other mount namespaces, and to become a user");
            return None;
        }
        if user.is_some() && Command::new("setpriv").arg("--version").output().is_err() {
            skip("there is no setpriv");
            return None;
        }
        let test_home = TestHome::new();
        let yamls = [1, 2].map(|which| record(&test_home, which));
        let hash = |yaml: &PathBuf| {
            stdout(&test_home.holofs_ok(&["hash", yaml.to_str().unwrap()])).trim().to_owned()
        };
        let catalogs = [hash(&yamls[0]), hash(&yamls[1])];
        let fetched = Command::new(project().join("scripts/rcc")).arg("17").output().unwrap();
        let mut rcc = fetched.status.success().then(|| PathBuf::from(stdout(&fetched).trim()));
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_holofs"));
        if user.is_some() {
            // In a place that the user can reach.
            let copies = test_home.scratch();
            copy_program(&program, copies.join("holofs"));
            program = copies.join("holofs");
            if let Some(official) = rcc.take() {
                copy_program(official, copies.join("rcc"));
                rcc = Some(copies.join("rcc"));
            }
        }
        let holder = user.map(|_| holder(&test_home));
        let world =
            World { test_home, catalogs, yamls, user, program, rcc, files: AtomicU64::new(0), holder };
        world.give();
        world.quiet_rcc();
        Some(world)
    }

    /// Gives everything to the user.
    fn give(&self) {
        let Some(uid) = self.user else { return };
        let top = self.test_home.home().parent().unwrap();
        run(Command::new("chown").arg("-R").arg(format!("{uid}:{uid}")).arg(top));
        fs::set_permissions(top, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// RCC sends usage reports unless they are turned off.
    fn quiet_rcc(&self) {
        if let Some(rcc) = &self.rcc {
            run(self.as_user(rcc).args(["--bundled", "configuration", "identity", "--do-not-track"]));
        }
    }

    /// True if the official RCC is available.
    pub fn has_rcc(&self) -> bool {
        self.rcc.is_some()
    }

    fn as_user(&self, program: &Path) -> Command {
        let Some(uid) = self.user else { return self.test_home.command(program) };
        let mut command = self.test_home.command("nsenter");
        let holder = self.holder.as_ref().map_or(0, Child::id);
        command.args(["--mount", "--target", &holder.to_string(), "--", "setpriv"]);
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]);
        command.arg("--").arg(program);
        command
    }

    /// The program, not started yet.
    pub fn command(&self, wait: &str, words: &[&str]) -> Command {
        let mut command = self.as_user(&self.program);
        command.args(["-vv", "--wait", wait]).args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        command
    }

    /// The output of the program.
    pub fn holofs(&self, wait: &str, words: &[&str]) -> Output {
        self.command(wait, words).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// The same in another mount namespace; `None` for a user, who would lose the right to mount in it.
    pub fn holofs_elsewhere(&self, wait: &str, words: &[&str]) -> Option<Output> {
        if self.user.is_some() {
            return None;
        }
        let mut command = namespace::unshare(&self.test_home, &["-m"]);
        command.arg(&self.program).args(["-vv", "--wait", wait]).args(words).stdin(Stdio::null());
        Some(command.output().unwrap())
    }

    /// `rcc holotree variables`.
    pub fn restore(&self, which: usize, space: &str) {
        let Some(rcc) = &self.rcc else { return };
        let yaml = self.yamls[which].to_str().unwrap();
        let mut command = self.as_user(rcc);
        command.args(["--bundled", "--no-build", "holotree", "variables", "--space", space, yaml]);
        // RCC's output about a space that is removed meanwhile does not matter.
        command.stdin(Stdio::null()).output().unwrap();
    }

    /// A file that does not exist yet.
    pub fn scratch_file(&self) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let dir = self.test_home.scratch().join("seen");
        if number == 0 {
            fs::create_dir_all(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        }
        dir.join(number.to_string())
    }

    /// Kills all processes that serve the space.
    pub fn kill_servers(&self, space: &str) {
        let list = self.holofs("20", &["list", "--json"]);
        if !list.status.success() {
            return;
        }
        let rows = json(&list);
        let row = rows.as_object().unwrap().values().find(|row| row["space"] == space);
        let Some(pid) = row.and_then(|row| row["holofs"]["pid"].as_u64()) else { return };
        // Distinguishes one that mounts from one that lays files out, and from the server of a command that has not answered yet.
        let ours = |pid: &u64| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"serve".as_slice())
        };
        let parent = parent_of(pid).filter(ours);
        let all: Vec<String> =
            parent.into_iter().chain(Some(pid).filter(ours)).map(|pid| pid.to_string()).collect();
        if !all.is_empty() {
            Command::new("kill").arg("-9").args(all).output().unwrap();
        }
    }

    /// The processes of the program in this home.
    fn processes(&self) -> Vec<String> {
        let home = format!("ROBOCORP_HOME={}\0", self.test_home.home().display()).into_bytes();
        let pids =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_ours = |pid: &String| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim() == "holofs" && environment.windows(home.len()).any(|part| part == home)
        };
        pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_ours).collect()
    }

    /// The mounts in the holotree, where the crowd is.
    fn mounts(&self) -> Vec<String> {
        let namespace = self.holder.as_ref().map_or("self".to_owned(), |holder| holder.id().to_string());
        let table = fs::read_to_string(format!("/proc/{namespace}/mountinfo")).unwrap();
        let holotree = self.test_home.holotree().display().to_string();
        table.lines().filter(|line| line.contains(&holotree)).map(|line| format!("mount {line}")).collect()
    }

    /// What the program logged about each space, and what is in the holotree.
    pub fn events(&self) -> String {
        let logs = NAMES.map(|space| said(&self.holofs("20", &["logs", space])));
        let tree =
            Command::new("ls").args(["-la", "--time-style=full-iso"]).arg(self.test_home.holotree()).output();
        format!("{}\n{}", logs.join("\n"), said(&tree.unwrap()))
    }

    /// What is left when all members are done, every space was unmounted and `gc` has run.
    pub fn left(&self) -> Vec<String> {
        let started = Instant::now();
        for space in NAMES {
            // A process that outlives its run may use it for a moment.
            let unmounted = || matches!(self.holofs("20", &["unmount", space]).status.code(), Some(0 | 4));
            while !unmounted() && started.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        self.holofs("20", &["gc"]);
        while !self.processes().is_empty() && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let gc = self.holofs("20", &["gc"]);
        let mut left: Vec<String> =
            self.processes().iter().map(|pid| format!("process {pid}: {}", command_line(pid))).collect();
        left.extend(self.mounts());
        // That of a shell stays as long as RCC keeps its own; that of a command killed before it had a lock stays for a minute, as does
        // a file that was being written.
        let temps = names(&self.test_home.home().join("temp"), "holofs-");
        left.extend(temps.into_iter().filter(|dir| Path::new(dir).join("lock").exists()));
        left.extend(names(&self.test_home.holotree(), ".holofs-trash"));
        let making =
            names(&self.test_home.holotree(), "").into_iter().filter(|name| name.ends_with("holofs-tmp"));
        left.extend(making);
        for state in names(&self.test_home.home().join("holofs/spaces"), "") {
            left.extend(names(&Path::new(&state).join("leases"), ""));
            left.extend(names(Path::new(&state), "mount.json"));
        }
        if !gc.status.success() {
            left.push(format!("gc: {}", said(&gc)));
        }
        left
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "{left:#?}");
    }
}

/// The names in a directory with this prefix, as paths.
fn names(dir: &Path, begin: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begin));
    named.map(|entry| entry.path().display().to_string()).collect()
}

fn command_line(pid: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn parent_of(pid: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Records a tree that names itself, under the hash of its own specification; returns its path.
fn record(test_home: &TestHome, which: u32) -> PathBuf {
    let yaml = test_home.user().join(format!("v{which}.yaml"));
    let text = format!("channels:\n- conda-forge\ndependencies:\n- python=3.10.1{which}\n");
    fs::write(&yaml, text).unwrap();
    let root = test_home.holotree().join(RECORDED);
    fs::create_dir_all(root.join("bin")).unwrap();
    let hashed = json(&test_home.holofs_ok(&["hash", "--json", "--show-blueprint", yaml.to_str().unwrap()]));
    let identity = root.join("identity.yaml");
    fs::write(&identity, hashed["blueprint"].as_str().unwrap()).unwrap();
    for name in ["stamp".to_owned()].into_iter().chain((0..30).map(|number| format!("m{number}"))) {
        fs::write(root.join(name), format!("{which}\n")).unwrap();
    }
    fs::write(root.join("bin/where"), format!("{}\n", root.display())).unwrap();
    test_home.holofs_ok(&["record", root.to_str().unwrap(), "--blueprint", identity.to_str().unwrap()]);
    fs::remove_dir_all(&root).unwrap();
    yaml
}
