//! Processors are kept from halting while requests come quickly, and only then.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{is_root, json, run, skip, until};
use holofs::sys::fs::disk;
use holofs::sys::process::latency::{Claim, DEVICE};

const SPACE: &str = "awake";
/// The kernel's value while no process has a claim, in microseconds.
const NO_CLAIM: i32 = 2_000_000_000;

/// The permitted wake-up latency of a processor, in microseconds.
fn latency() -> i32 {
    i32::from_ne_bytes(fs::read(DEVICE).unwrap()[..4].try_into().unwrap())
}

/// Sends requests that are never cached to the mount, until `done`.
#[track_caller]
fn ask_until(root: &Path, done: impl Fn() -> bool) {
    until(|| (0..100).all(|_| disk::usage(root).is_ok()) && done());
}

/// Why this cannot be tested here.
fn obstacle() -> Option<String> {
    if !is_root() {
        return Some("only root may claim that no processor halts".into());
    }
    match Claim::open() {
        Err(error) => Some(format!("{DEVICE}: {error}")),
        Ok(_) => (latency() != NO_CLAIM).then(|| "another program keeps the processors awake".into()),
    }
}

#[test]
fn processors_stay_awake_while_requests_come_and_no_longer() {
    if let Some(why) = obstacle() {
        return skip(&why);
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = |when| test_home.mount(CATALOG, SPACE, "user", &["--mode", "mount", "--keep-awake", when]);
    let claims = || json(&test_home.holofs_ok(&["stats", SPACE, "--json"]))["counts"]["kept_awake"].as_u64();

    let mounted = mount("off");
    let started = Instant::now();
    ask_until(mounted.path(), || started.elapsed() > Duration::from_millis(300));
    assert_eq!(latency(), NO_CLAIM);
    assert_eq!(claims(), None);
    mounted.unmount();

    let mounted = mount("always");
    ask_until(mounted.path(), || latency() == 0);
    until(|| latency() == NO_CLAIM); // no more requests
    assert!(claims() > Some(0));

    ask_until(mounted.path(), || latency() == 0);
    run(Command::new("kill").arg("-9").arg(mounted.daemons()[0].to_string()));
    until(|| latency() == NO_CLAIM);
}
