//! Limits of time and memory: a run that exceeds them fails its test and never hangs the others.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use crate::common::test_home::TestHome;

/// Runs `command` to its end, killing it after `limit`.
pub fn within(command: &mut Command, limit: Duration) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let readers = [drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap())];
    let status = wait(&mut child, limit, command);
    let [stdout, stderr] = readers.map(|reader| reader.join().unwrap());
    Output { status, stdout, stderr }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        pipe.read_to_end(&mut said).unwrap();
        said
    })
}

fn wait(child: &mut Child, limit: Duration, command: &Command) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > limit {
            child.kill().unwrap();
            panic!("{command:?} takes longer than {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The program under `ulimit` limits, such as `-v 500000`.
pub fn limited(test_home: &TestHome, limits: &str, args: &[&str]) -> Command {
    let mut command = test_home.command("sh");
    let script = format!("ulimit {limits} && exec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_holofs")]).args(args);
    command
}

/// The result of reading `path`, which must not block: the errno if there is one.
pub fn read_in_time(path: &Path) -> Result<Vec<u8>, i32> {
    let (sender, receiver) = mpsc::channel();
    let wanted = path.to_owned();
    std::thread::spawn(move || sender.send(fs::read(wanted)));
    let outcome = receiver.recv_timeout(PATIENCE);
    let outcome =
        outcome.unwrap_or_else(|_| panic!("reading {} takes longer than {PATIENCE:?}", path.display()));
    outcome.map_err(|error| error.raw_os_error().unwrap_or_default())
}

/// A line of /proc/PID/status in KiB.
pub fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
