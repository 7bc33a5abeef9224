//! Failures and deaths at exactly the n-th system call of a kind, injected by `strace`.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::bounds::within;
use crate::common::sandbox::Sandbox;

/// Calls that give bytes to files. `write` is also how a report is printed, which may fail like any other.
pub const BYTES: &str = "write,pwrite64,ftruncate,copy_file_range,fsync,fdatasync";
/// Calls that open, make, rename and remove names.
pub const NAMES: &str =
    "open,openat,openat2,mkdir,mkdirat,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat";
/// Calls that give files their mode and time.
pub const MODES: &str = "fchmod,fchmodat,utimensat,ftruncate,flock";

pub fn is_available() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// Runs the program with `inject` (as `error=EIO:when=3`) on each of `calls`, in every thread.
pub fn run(sandbox: &Sandbox, calls: &str, inject: &str, args: &[&str]) -> Output {
    let mut command = tracer(sandbox, Path::new("/dev/null"), calls);
    command.args(["-e", &format!("inject={calls}:{inject}")]);
    within(command.arg(env!("CARGO_BIN_EXE_holofs")).args(args), Duration::from_secs(30))
}

/// How many of `calls` the busiest thread makes, when nothing fails.
pub fn count(sandbox: &Sandbox, calls: &str, args: &[&str]) -> usize {
    let log = sandbox.scratch().join("strace");
    let mut command = tracer(sandbox, &log, calls);
    crate::common::run(command.arg(env!("CARGO_BIN_EXE_holofs")).args(args));
    let text = std::fs::read_to_string(log).unwrap();
    let mut threads = std::collections::BTreeMap::<&str, usize>::new();
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        *threads.entry(line.split(' ').next().unwrap()).or_default() += 1;
    }
    *threads.values().max().unwrap()
}

fn tracer(sandbox: &Sandbox, log: &Path, calls: &str) -> Command {
    let mut command = sandbox.command("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-o"]).arg(log).args(["-e", &format!("trace={calls}")]);
    command
}

/// Which of `total` calls are tried: all of them, or as many as there is time for, the first and the last ones included.
pub fn steps(total: usize, most: usize) -> Vec<usize> {
    let stride = total.div_ceil(most).max(1);
    let mut steps: Vec<usize> =
        (1..=total).step_by(stride).chain([2, 3, total.saturating_sub(1), total]).collect();
    steps.retain(|step| (1..=total).contains(step));
    steps.sort_unstable();
    steps.dedup();
    steps
}
