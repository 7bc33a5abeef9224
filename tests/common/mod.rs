//! Shared by integration tests: private homes, the program, real mounts that are always removed, and the official RCC.
//!
//! Nothing here reads or writes outside a temporary directory, and the program runs with exactly the environment given here. A test
//! that cannot run calls [`skip`], which prints the reason.
#![allow(dead_code, reason = "each test binary uses its own part of the harness")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a harness fails loudly, and says why it skips")]

pub mod bad_catalogs;
pub mod caching_disk;
pub mod compare;
pub mod damage;
pub mod fixed;
pub mod golden;
pub mod loop_fs;
#[cfg(unix)]
pub mod mapped;
pub mod mounted;
pub mod namespace;
pub mod oracle;
pub mod pty;
pub mod python;
pub mod random;
pub mod rcc;
pub mod soak;
pub mod store_hash;
pub mod test_home;
pub mod uv;
pub mod wheel;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The exit codes of the command line, as docs/configuration.md documents them.
pub mod exit {
    pub const OK: i32 = 0;
    pub const USAGE: i32 = 2;
    pub const BAD_CATALOG: i32 = 3;
    pub const NOT_FOUND: i32 = 4;
    pub const DAMAGE: i32 = 5;
    pub const BUSY: i32 = 6;
    pub const CANNOT_MOUNT: i32 = 7;
    pub const IO: i32 = 8;
    pub const PARTIAL: i32 = 9;
    pub const OUR_OWN: i32 = 125;
    /// For `run` only: the command did not start; cannot be executed; does not exist.
    pub const NOT_BEGUN: i32 = 125;
    pub const NOT_EXECUTABLE: i32 = 126;
    pub const NO_COMMAND: i32 = 127;
    pub const NOT_OFFERED: i32 = 10;
}

/// The root directory of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Prints why a test does not run here. In CI, where every requirement is installed, this is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("HOLOFS_NO_SKIP").is_none(), "Cannot run here: {why}");
    eprintln!("skipped: {why}");
}

/// Whether this process is privileged.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Copies a program that is then run, in a separate process.
///
/// Another test that starts a program at the same time passes on all open descriptors of this process for an instant. The copy would then be
/// open for writing in that process, and executing it would fail (ETXTBSY).
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    run(Command::new("cp").args([from.as_ref(), to.as_ref()]));
}

/// How long a test waits for what must happen. It is long because a virtual machine and its disk may stall for seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for an event in the background.
#[track_caller]
pub fn until(what: impl Fn() -> bool) {
    until_or(what, || "it does not happen".to_owned());
}

/// Waits for an event in the background; `why` is the message if it does not happen.
#[track_caller]
pub fn until_or(mut what: impl FnMut() -> bool, why: impl Fn() -> String) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < PATIENCE, "{}", why());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end; panics with its complete output unless it succeeds.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("Cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", said(&output));
    output
}

/// Status, stdout and stderr, for an error message.
pub fn said(output: &Output) -> String {
    format!("{}\n{}\n{}", output.status, stdout(output), stderr(output))
}

/// The stdout of the command, as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The stderr of the command, as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The only JSON value on stdout.
pub fn json(output: &Output) -> serde_json::Value {
    let text = stdout(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("Not JSON ({error}): {}", said(output)))
}

/// The text at `field` of a `--json` output.
pub fn text_field(value: &serde_json::Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("No text '{field}' in {value:#}")).to_owned()
}

/// The number at `field` of a `--json` output.
pub fn number_field(value: &serde_json::Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("No number '{field}' in {value:#}"))
}

/// The directory of the space in the output of `mount --json` or `materialize --json`.
pub fn space_path(value: &serde_json::Value) -> PathBuf {
    PathBuf::from(text_field(value, "path"))
}
