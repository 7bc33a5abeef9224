//! Failures and kills at exactly the n-th system call of a kind, injected by `strace`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::bounds::within;
use crate::common::test_home::TestHome;

/// System calls that write bytes to files. `write` also prints reports, which may fail too.
pub const BYTES: &str = "write,pwrite64,ftruncate,copy_file_range,fsync,fdatasync";
/// System calls that open, create, rename and remove names.
pub const NAMES: &str =
    "open,openat,openat2,mkdir,mkdirat,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat";
/// System calls that set modes and times.
pub const MODES: &str = "fchmod,fchmodat,utimensat,ftruncate,flock";

pub fn is_available() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// One system call of one run: the n-th of that name in a thread, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    call: String,
    number: usize,
}

/// Runs the program with `how` (such as `error=EIO`) applied at `step`.
pub fn run(test_home: &TestHome, step: &Step, how: &str, args: &[&str]) -> Output {
    let mut command = tracer(test_home, Path::new("/dev/null"), &step.call);
    command.args(["-e", &format!("inject={}:{how}:when={}", step.call, step.number)]);
    within(command.arg(env!("CARGO_BIN_EXE_holofs")).args(args), Duration::from_secs(30))
}

/// All steps of `calls` in an undisturbed run; if there are more than `most`, that many of them, evenly spread. The first and the
/// last of each call are always included.
pub fn steps(test_home: &TestHome, calls: &str, most: usize, args: &[&str]) -> Vec<Step> {
    let log = test_home.scratch().join("strace");
    crate::common::run(tracer(test_home, &log, calls).arg(env!("CARGO_BIN_EXE_holofs")).args(args));
    let text = std::fs::read_to_string(log).unwrap();
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for (thread, call) in text.lines().filter_map(call_of) {
        *counts.entry((thread, call)).or_default() += 1;
    }
    let mut last = BTreeMap::<&str, usize>::new();
    for ((_, call), count) in counts {
        let known = last.entry(call).or_default();
        *known = count.max(*known);
    }
    let all = last.iter().flat_map(|(call, count)| (1..=*count).map(|number| (*call, number)));
    let all: Vec<(&str, usize)> = all.collect();
    let stride = all.len().div_ceil(most).max(1);
    let chosen = all.iter().enumerate().filter(|(at, (call, number))| {
        at % stride == stride / 2 || (*number == last[call] && most >= last.len())
    });
    chosen.map(|(_, (call, number))| Step { call: (*call).to_owned(), number: *number }).collect()
}

/// The thread and the call of a line as `123 openat(AT_FDCWD, ...`.
fn call_of(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, _) = rest.trim_start().split_once('(')?;
    call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((thread, call))
}

fn tracer(test_home: &TestHome, log: &Path, calls: &str) -> Command {
    let mut command = test_home.command("strace");
    command.args(["-f", "-qq", "-o"]).arg(log).args(["-e", &format!("trace={calls}")]);
    command
}
