//! `import` and `record`, killed at any instant: the hololib never has a wrong blob, a partial catalog or a catalog with missing blobs,
//! and the next run completes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::trace::{self, BYTES, NAMES};
use crate::common::random::Random;
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{golden, is_root, said, skip};

const SEED: u64 = 0xdead_5eed;

/// A home in which the command can run for the first time, and the command.
type Prepared = (TestHome, Vec<String>);

fn import() -> Prepared {
    let zip = golden::file("hololib-gz.zip");
    (TestHome::new(), vec!["import".to_owned(), zip.to_str().unwrap().to_owned()])
}

fn record() -> Prepared {
    let test_home = TestHome::new();
    let stage = golden::unpack_stage(&test_home.holotree());
    // They refer to the place where the stage was made, which does not exist.
    for link in ["abs-dir-into-stage", "abs-into-stage"] {
        fs::remove_file(stage.join("links").join(link)).unwrap();
    }
    let blueprint = golden::file("golden.yaml");
    let args = ["record", stage.to_str().unwrap(), "--blueprint", blueprint.to_str().unwrap()];
    let args = args.map(str::to_owned).to_vec();
    (test_home, args)
}

fn texts(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Every blob matches its name, and every catalog has all of its blobs.
fn assert_sound(test_home: &TestHome, what: &str) {
    let output = test_home.holofs(&["check"]);
    assert!(output.status.success(), "{what}: {}", said(&output));
}

/// Blobs and catalogs by name, without unfinished files: temporary names of RCC and HoloFS.
fn published(test_home: &TestHome) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                walk(&path, found);
            } else if !name.starts_with('.') && !name.contains(".part") {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    for dir in ["library", "catalog"] {
        walk(&test_home.hololib().join(dir), &mut found);
    }
    found
}

/// After a kill: consistent, and completed by the next run.
fn assert_survived(test_home: &TestHome, args: &[&str], whole: usize, what: &str) {
    assert_sound(test_home, what);
    let output = test_home.holofs(args);
    assert!(output.status.success(), "after {what}: {}", said(&output));
    assert_sound(test_home, &format!("the run after {what}"));
    assert_eq!(published(test_home).len(), whole, "after {what}");
}

/// The number of published files and the time of an undisturbed run.
fn undisturbed(prepare: fn() -> Prepared) -> (usize, Duration) {
    let (test_home, args) = prepare();
    let started = Instant::now();
    test_home.holofs_ok(&texts(&args));
    let took = started.elapsed();
    let whole = published(&test_home).len();
    assert!(whole > 60, "only {whole} files");
    (whole, took)
}

/// Kills the command at each of the calls, as long as there is time.
fn at_calls(prepare: fn() -> Prepared, whole: usize, most: usize) {
    let (mut killed, mut times) = (0, 0);
    for calls in [BYTES, NAMES] {
        let (test_home, args) = prepare();
        for step in trace::steps(&test_home, calls, most, &texts(&args)) {
            let (test_home, args) = prepare();
            let output = trace::run(&test_home, &step, "signal=KILL", &texts(&args));
            // The threads share the work in any order: this time no thread may reach the step.
            killed += usize::from(!output.status.success());
            times += 1;
            assert_survived(&test_home, &texts(&args), whole, &format!("death at {step:?}"));
        }
    }
    assert!(killed * 2 > times, "only {killed} of {times} runs were killed");
}

/// Kills the command after random times, shorter than it took before.
fn at_instants(prepare: fn() -> Prepared, whole: usize, mut took: Duration, times: usize) {
    let mut random = Random::new(SEED);
    let (mut killed, mut published_some) = (0, 0);
    for trial in 0..times {
        let (test_home, args) = prepare();
        let mut command = test_home.holofs_command(&texts(&args));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let after = Duration::from_micros(random.below(took.as_micros() as u64));
        std::thread::sleep(after);
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            took = after; // it takes less time now: the machine was busy before
        } else {
            killed += 1;
        }
        published_some += usize::from((1..whole).contains(&published(&test_home).len()));
        assert_survived(&test_home, &texts(&args), whole, &format!("trial {trial}, death after {after:?}"));
    }
    eprintln!("seed {SEED:#x}: {killed} of {times} killed, {published_some} of them in the middle");
    assert!(killed > 0, "none of {times} runs was killed");
}

fn sweep(prepare: fn() -> Prepared) {
    if !trace::is_available() || !is_root() {
        return skip("deaths are injected by strace, and the golden tree has files that only root reads");
    }
    let (whole, took) = undisturbed(prepare);
    at_calls(prepare, whole, amount(4, 10_000));
    at_instants(prepare, whole, took, amount(8, 300));
}

#[test]
fn import_killed_at_any_instant_leaves_a_sound_hololib() {
    sweep(import);
}

#[test]
fn record_killed_at_any_instant_leaves_a_sound_hololib() {
    sweep(record);
}
