//! While RCC writes, no command reports damage: commands check again under RCC's lock.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use crate::common::damage::blob_of;
use crate::common::exit;
use crate::common::golden::{CATALOG, Regime};
use crate::common::said;
use crate::common::test_home::TestHome;

/// Commands that find incomplete files, and how long they wait for the writer.
fn commands(test_home: &TestHome) -> [Vec<String>; 3] {
    let zip = test_home.scratch().join("out.zip").display().to_string();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    [
        words("check"),
        words(&format!("export {CATALOG} -z {zip}")),
        words(&format!("variables {CATALOG} --mode materialize")),
    ]
}

/// Files that RCC writes in place: a blob, and the catalog itself.
fn half_written(test_home: &TestHome) -> [PathBuf; 2] {
    [blob_of(test_home, "bin/tool"), test_home.hololib().join("catalog").join(CATALOG)]
}

#[test]
fn open_waits_for_what_is_half_written_under_the_lock_of_rcc() {
    for file in 0..2 {
        for command in 0..3 {
            let test_home = TestHome::golden(Regime::Gzip);
            let lock = File::create(test_home.holotree().join("global.lck")).unwrap();
            lock.lock().unwrap();
            let path = &half_written(&test_home)[file];
            let whole = fs::read(path).unwrap();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
            let args = &commands(&test_home)[command];
            let mut child = test_home.holofs_command(&args.iter().map(String::as_str).collect::<Vec<_>>());
            let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            // The command reports that it waits, so it has found the incomplete file.
            let mut child_stderr = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            while !line.contains("global.lck") {
                line.clear();
                assert!(
                    child_stderr.read_line(&mut line).unwrap() > 0,
                    "{args:?} did not wait for {}",
                    path.display()
                );
            }
            fs::write(path, &whole).unwrap();
            lock.unlock().unwrap();
            let status = child.wait().unwrap();
            assert!(status.success(), "{args:?}: {status}");
        }
    }
}

#[test]
fn lasting_damage_is_reported_and_so_is_an_unavailable_lock() {
    let test_home = TestHome::golden(Regime::Gzip);
    let path = &half_written(&test_home)[0];
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..whole.len() / 2]).unwrap();
    let lock = File::create(test_home.holotree().join("global.lck")).unwrap();
    for held in [false, true] {
        if held {
            lock.lock().unwrap();
        }
        for args in commands(&test_home) {
            let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
            args.insert(1, "--wait=0");
            let output = test_home.holofs(&args);
            assert_eq!(output.status.code(), Some(exit::DAMAGE), "{}", said(&output));
            assert_eq!(said(&output).contains("whether RCC is writing"), held, "{}", said(&output));
        }
    }
}
