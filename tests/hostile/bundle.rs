//! `holofs doctor --bundle`: everything that a bug report needs, and nothing of the content of users' files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::bounds::within;
use crate::common::damage::blob_of;
use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, exit, json, run, space_path, stderr};

const SECRETS: [&str; 4] =
    ["name-of-a-secret", "content-of-a-secret", "value-of-a-variable", "text-of-a-link"];

#[test]
fn bundle_has_mounts_and_logs_and_no_files_of_users() {
    let test_home = TestHome::golden(Regime::Gzip);
    fs::write(test_home.user().join("name-of-a-secret"), "content-of-a-secret").unwrap();
    let damaged = blob_of(&test_home, "plain/inner.gz");
    fs::remove_file(&damaged).unwrap();
    // With all log messages.
    let mut mount = test_home.holofs_command(&["mount", CATALOG, "x", "--mode", "mount", "--json"]);
    let space = space_path(&json(&run(mount.env("RUST_LOG", "trace").env("SECRET", "value-of-a-variable"))));
    for dir in ["", "name-of-a-secret-dir"] {
        let dir = space.join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name-of-a-secret"), "content-of-a-secret").unwrap();
        std::os::unix::fs::symlink("text-of-a-link", dir.join("link")).unwrap();
        assert!(fs::create_dir(dir.join("name-of-a-secret")).is_err());
        fs::rename(dir.join("name-of-a-secret"), dir.join("name-of-a-secret-2")).unwrap();
        assert!(fs::read(dir.join("name-of-a-secret-3")).is_err());
    }
    assert!(fs::read(space.join("plain/inner.gz")).is_err());
    let bundle = test_home.user().join("bundle.json");
    let args = ["doctor", "--bundle", bundle.to_str().unwrap()];
    let doctor = |command: &mut Command| command.env("SECRET", "value-of-a-variable").output().unwrap();
    doctor(&mut test_home.holofs_command(&args));
    let text = fs::read_to_string(&bundle).unwrap();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let home = test_home.user().to_str().unwrap();
    assert!(!text.contains(home), "the user's home is in {text}");
    // The purpose of the bundle.
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["holofs"], env!("CARGO_PKG_VERSION"));
    assert_eq!(answer["catalogs"]["Ok"], 1);
    assert_eq!(answer["environment"].as_array().unwrap().len(), 8);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(answer["system"][0][1], kernel);
    let mounts = answer["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|line| line.as_str().unwrap().contains(space.to_str().unwrap())), "{mounts:?}");
    let log = answer["spaces"].as_object().unwrap().values().next().unwrap()["log"].to_string();
    let digest = damaged.file_name().unwrap().to_str().unwrap();
    assert!(log.contains(digest), "the missing blob is not in the log: {log}");
    // Users can read it before they send it, and it never replaces another file.
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = doctor(&mut test_home.holofs_command(&args));
    assert_eq!(again.status.code(), Some(exit::IO), "{}", stderr(&again));
    assert!(fs::read_to_string(&bundle).unwrap() == text);
    test_home.holofs_ok(&["unmount", "x"]);
}

#[test]
fn bundle_takes_nothing_from_behind_a_link_and_waits_for_no_fifo() {
    let test_home = TestHome::golden(Regime::Gzip);
    let secret = test_home.user().join("secret");
    fs::write(&secret, "{\"secret\": \"content-of-a-secret\"}\n").unwrap();
    let spaces = test_home.home().join("holofs/spaces");
    test_home.materialize(CATALOG, "x", "user");
    let state = fs::read_dir(&spaces).unwrap().next().unwrap().unwrap().path();
    for (at, name) in ["log", "mount.json"].into_iter().enumerate() {
        let planted = state.join(name);
        for is_link in [true, false] {
            fs::remove_file(&planted).ok();
            match is_link {
                true => std::os::unix::fs::symlink(&secret, &planted).unwrap(),
                false => drop(run(Command::new("mkfifo").arg(&planted))),
            }
            let bundle = test_home.user().join(format!("bundle-{at}-{is_link}.json"));
            let mut doctor = test_home.holofs_command(&["doctor", "--bundle", bundle.to_str().unwrap()]);
            within(&mut doctor, PATIENCE);
            assert!(!fs::read_to_string(&bundle).unwrap().contains("content-of-a-secret"), "{name}");
        }
        fs::remove_file(&planted).unwrap();
    }
}
