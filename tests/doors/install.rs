//! The parts of a release: its workflow, and the script that installs it.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::{project, run, said, stderr, stdout};

/// A directory like that of a release, with an archive whose program prints `version`.
fn release(dir: &Path, version: &str) {
    let name = format!("holofs-{version}-{}-linux", std::env::consts::ARCH);
    let program = dir.join(&name).join("usr/bin/holofs");
    let page = dir.join(&name).join("usr/share/man/man1/holofs.1.gz");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir_all(page.parent().unwrap()).unwrap();
    fs::write(&program, format!("#!/bin/sh\necho holofs {version}\n")).unwrap();
    fs::write(&page, "a page").unwrap();
    let script =
        format!("chmod 755 {name}/usr/bin/holofs; tar -czf {name}.tar.gz {name}; sha256sum *.gz >SHA256SUMS");
    run(Command::new("sh").args(["-c", &script]).current_dir(dir));
}

fn install(from: &Path, prefix: &Path) -> Output {
    let mut command = Command::new("sh");
    command.arg(project().join("scripts/install.sh"));
    command.env("HOLOFS_DOWNLOAD", format!("file://{}", from.display())).env("HOLOFS_PREFIX", prefix);
    command.output().unwrap()
}

#[test]
fn install_replaces_the_program_only_by_an_archive_with_the_right_checksum() {
    let temp = tempfile::tempdir().unwrap();
    let (from, prefix) = (temp.path().join("release"), temp.path().join("prefix"));
    let version = || stdout(&run(&mut Command::new(prefix.join("bin/holofs"))));
    fs::create_dir(&from).unwrap();
    release(&from, "1.0.0");
    let output = install(&from, &prefix);
    let line = format!("Installed holofs 1.0.0 as {}/bin/holofs\n", prefix.display());
    assert!(output.status.success() && stdout(&output).starts_with(&line), "{}", said(&output));
    assert!(prefix.join("share/man/man1/holofs.1.gz").is_file());

    fs::remove_dir_all(&from).unwrap();
    fs::create_dir(&from).unwrap();
    release(&from, "1.0.1");
    let archive = from.join(format!("holofs-1.0.1-{}-linux.tar.gz", std::env::consts::ARCH));
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() - 1]).unwrap();
    let output = install(&from, &prefix);
    assert!(!output.status.success() && stderr(&output).contains("checksum"), "{}", said(&output));
    assert_eq!(version(), "holofs 1.0.0\n");

    fs::write(&archive, &bytes).unwrap();
    assert!(install(&from, &prefix).status.success());
    assert_eq!(version(), "holofs 1.0.1\n");
}

#[test]
fn workflows_pin_every_action_by_its_commit() {
    let mut actions = 0;
    for name in ["ci.yml", "release.yml"] {
        let text = fs::read_to_string(project().join(".github/workflows").join(name)).unwrap();
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let (_, version) = line.split_once('@').unwrap();
            let commit = version.split(' ').next().unwrap();
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && version.contains("# v"), "{name}: {line}");
            actions += 1;
        }
    }
    assert!(actions > 10, "{actions}");
}
