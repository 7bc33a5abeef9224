//! A space and its state, with links and FIFOs in the place of files that commands read: no command blocks, exhausts memory or follows links.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::bounds::{limited, within};
use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, is_root, json, run, said, skip, stderr, text_field};

fn plant(path: &Path, is_link: bool) {
    fs::remove_file(path).ok();
    match is_link {
        true => symlink("/dev/zero", path).unwrap(),
        false => drop(run(Command::new("mkfifo").arg(path))),
    }
}

#[test]
fn commands_do_not_read_without_end_what_a_space_has_in_the_place_of_a_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = test_home.materialize(CATALOG, "s", "user");
    let label = space.file_name().unwrap().to_str().unwrap();
    for is_link in [true, false] {
        for name in ["rcc_activate.json", "rcc_plan.log", "identity.yaml"] {
            plant(&space.join(name), is_link);
        }
        let commands: [(&[&str], bool); 3] = [
            (&["run", "--mode", "materialize", CATALOG, "s", "--", "true"], true),
            (&["variables", CATALOG, "--space", "s", "--mode", "materialize"], true),
            (&["holotree", "plan", label], false),
        ];
        for (args, works) in commands {
            for name in ["rcc_activate.json", "rcc_plan.log"] {
                plant(&space.join(name), is_link); // a run lays the catalog's own files out again
            }
            let output = within(&mut limited(&test_home, "-v 4000000", args), PATIENCE);
            assert_eq!(output.status.success(), works, "{args:?}: {}", said(&output));
        }
    }
}

#[test]
fn reports_do_not_wait_for_a_fifo_in_the_place_of_a_profile() {
    let test_home = TestHome::golden(Regime::Gzip);
    test_home.holofs_ok(&["run", CATALOG, "s", "--", "sh", "-c", "cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool"]);
    test_home.holofs(&["unmount", "s"]);
    let profiles = test_home.home().join("holofs/profiles");
    for entry in fs::read_dir(&profiles).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>() {
        plant(&entry, false);
    }
    let page = test_home.scratch().join("page.html");
    let output =
        within(&mut test_home.holofs_command(&["report", CATALOG, "-o", page.to_str().unwrap()]), PATIENCE);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn push_to_a_directory_follows_no_link_out_of_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (remote, elsewhere) = (test_home.scratch().join("remote"), test_home.scratch().join("elsewhere"));
    for (link, dir) in [("v1", &remote), ("v1/packs", &remote), ("v1/refs", &remote)] {
        fs::remove_dir_all(&remote).ok();
        fs::create_dir_all(&elsewhere).unwrap();
        fs::create_dir_all(dir.join(link).parent().unwrap()).unwrap();
        symlink(&elsewhere, dir.join(link)).unwrap();
        let address = format!("file://{}#prod", remote.display());
        let output = within(&mut test_home.holofs_command(&["push", CATALOG, &address]), PATIENCE);
        assert!(!output.status.success(), "{link}: {}", said(&output));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "{link}");
    }
}

#[test]
fn build_writes_nothing_into_a_directory_of_another_user() {
    if !is_root() {
        return skip("Only root can give a directory away");
    }
    let test_home = TestHome::new();
    let (yaml, precious) = (test_home.scratch().join("conda.yaml"), test_home.scratch().join("precious"));
    fs::write(&yaml, "channels:\n- conda-forge\ndependencies:\n- python=3.11\n- numpy=1\n").unwrap();
    fs::write(&precious, "precious").unwrap();
    let blueprint =
        text_field(&json(&test_home.holofs_ok(&["hash", yaml.to_str().unwrap(), "--json"])), "hash");
    let builds = test_home.home().join("holofs/builds");
    fs::create_dir_all(&builds).unwrap();
    for name in ["environment.yaml", "log", "lock.txt", "requirements.in"] {
        symlink(&precious, builds.join(format!("{blueprint}.{name}"))).unwrap();
    }
    fs::set_permissions(builds.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&builds, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&builds, Some(12_345), None).unwrap();
    let output =
        within(&mut test_home.holofs_command(&["build", yaml.to_str().unwrap(), "--offline"]), PATIENCE);
    assert!(
        !output.status.success() && stderr(&output).contains("belongs to user 12345"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}
