//! A server killed at each system call of a change: the change returns the right result, and is done once.
#![allow(clippy::print_stderr, reason = "prints numbers")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::{make_progress, server_of};
use crate::common::test_home::TestHome;
use crate::common::{is_root, number_field, skip, until};

/// More calls than any change makes.
const MOST: usize = 200;

/// A change of a directory that has a file `f` with the text `old`, a file `g` and an empty directory `d`.
struct Change {
    name: &'static str,
    apply: fn(&Path) -> io::Result<()>,
    is_done: fn(&Path) -> bool,
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn changes() -> [Change; 11] {
    let change = |name, apply, is_done| Change { name, apply, is_done };
    [
        change("mkdir", |dir| fs::create_dir(dir.join("new")), |dir| dir.join("new").is_dir()),
        change(
            "create",
            |dir| File::options().write(true).create_new(true).open(dir.join("new")).map(drop),
            |dir| dir.join("new").is_file(),
        ),
        change("symlink", |dir| symlink("f", dir.join("new")), |dir| text(&dir.join("new")) == "old"),
        change(
            "link",
            |dir| fs::hard_link(dir.join("f"), dir.join("new")),
            |dir| text(&dir.join("new")) == "old",
        ),
        change("unlink", |dir| fs::remove_file(dir.join("f")), |dir| !dir.join("f").exists()),
        change("rmdir", |dir| fs::remove_dir(dir.join("d")), |dir| !dir.join("d").exists()),
        change(
            "rename",
            |dir| fs::rename(dir.join("f"), dir.join("g")),
            |dir| !dir.join("f").exists() && text(&dir.join("g")) == "old",
        ),
        change(
            "exchange",
            |dir| Ok(renameat_with(CWD, dir.join("f"), CWD, dir.join("g"), RenameFlags::EXCHANGE)?),
            |dir| text(&dir.join("g")) == "old" && text(&dir.join("f")).is_empty(),
        ),
        change(
            "append",
            |dir| OpenOptions::new().append(true).open(dir.join("f"))?.write_all(b"new"),
            |dir| text(&dir.join("f")) == "oldnew",
        ),
        change(
            "chmod",
            |dir| fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o600)),
            |dir| fs::metadata(dir.join("f")).is_ok_and(|file| file.permissions().mode() & 0o777 == 0o600),
        ),
        change(
            "setxattr",
            |dir| Ok(rustix::fs::setxattr(dir.join("f"), "user.a", b"1", XattrFlags::CREATE)?),
            |dir| rustix::fs::getxattr(dir.join("f"), "user.a", &mut [0; 8][..]) == Ok(1),
        ),
    ]
}

/// Kills `server` at the n-th system call that any of its threads starts from now on.
fn kill_at(server: u32, call: usize) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-p", &server.to_string()]);
    command.args(["-e", &format!("inject=all:signal=SIGKILL:when={call}")]);
    let mut strace = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(strace.stderr.take().unwrap());
    lines.read_line(&mut said).unwrap();
    assert!(said.contains("attached"), "{command:?}: {said}");
    // No process reads more of it, and strace must not wait for a reader.
    std::thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
    strace
}

#[test]
fn a_server_killed_at_any_system_call_of_a_change_has_done_it_once_or_its_successor_does() {
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        return skip("deaths are injected by strace into a mount");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = test_home.mount(CATALOG, "s", "user", &[]);
    let supervisor = u32::try_from(number_field(mount.report(), "pid")).unwrap();
    let (mut killed, mut left) = (0, 0);
    for change in changes() {
        for call in 1..MOST {
            let dir = mount.path().join(format!("{}{call}", change.name));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("f"), "old").unwrap();
            fs::write(dir.join("g"), "").unwrap();
            fs::create_dir(dir.join("d")).unwrap();
            until(|| server_of(supervisor).is_some());
            let server = server_of(supervisor).unwrap();
            let mut strace = kill_at(server, call);
            let applied = (change.apply)(&dir);
            strace.kill().unwrap();
            strace.wait().unwrap();
            let what = format!("{} at call {call}", change.name);
            assert!(applied.is_ok(), "{what}: {applied:?}");
            assert!((change.is_done)(&dir), "{what}: it is not done");
            make_progress(mount.path());
            if server_of(supervisor) == Some(server) {
                left += 1;
                break;
            }
            killed += 1;
        }
    }
    eprintln!("{killed} servers were killed at a system call, {left} changes need no more calls");
    assert!(killed >= changes().len() && left == changes().len(), "{killed} {left}");
}
