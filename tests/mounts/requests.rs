//! How many requests a change costs: no more than the kernel needs.
//!
//! The remaining ones cannot be avoided. When an entry changes, the kernel drops the attributes of its directory, and there is no message to
//! supply them in advance; the same holds for a file that was written (size, times) or read (access time). The kernel looks up a name before
//! it is created, because it does not know whether a directory is complete, and after it was removed. It caches no answer to an ioctl.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{is_root, run, skip};

type Counts = BTreeMap<String, u64>;

/// The requests so far. The query itself is one, a getxattr, which is left out.
fn counts(path: &Path) -> Counts {
    let mut value = vec![0; 64 << 10];
    let len = rustix::fs::getxattr(path, "user.holofs.stats", &mut value[..]).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&value[..len]).unwrap();
    let requests = stats["requests"].as_object().unwrap().iter();
    requests
        .filter(|(kind, _)| {
            !["getxattr", "forget", "batch_forget", "release", "flush"].contains(&kind.as_str())
        })
        .map(|(kind, count)| (kind.clone(), count.as_u64().unwrap()))
        .collect()
}

/// Checks that `step` costs at most these requests.
fn costs(root: &Path, what: &str, most: &[(&str, u64)], step: impl FnOnce()) {
    let before = counts(root);
    step();
    for (kind, count) in counts(root) {
        let made = count - before.get(&kind).copied().unwrap_or_default();
        let most = most.iter().find(|(other, _)| *other == kind).map_or(0, |(_, most)| *most);
        assert!(made <= most, "{what}: {made} of {kind}, not {most}");
    }
}

#[test]
fn a_change_costs_no_more_requests_than_the_kernel_needs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = test_home.mount(CATALOG, "s", "user", &["--profile", "off"]);
    let (root, dir) = (mount.path(), mount.path().join("d"));
    let (file, other) = (dir.join("y"), dir.join("z"));
    let stat = |path: &Path| assert!(fs::metadata(path).is_ok());
    // The first OPEN, OPENDIR and CREATE of a mount are answered once and for all.
    drop(File::create(root.join("first")).unwrap());
    drop(File::open(root.join("first")).unwrap());
    fs::read_dir(root).unwrap().for_each(drop);

    costs(root, "mkdir", &[("lookup", 1), ("mkdir", 1), ("getattr", 1)], || fs::create_dir(&dir).unwrap());
    costs(root, "a look at it", &[("getattr", 1)], || stat(&dir));
    costs(root, "a miss", &[("lookup", 1)], || assert!(fs::metadata(&file).is_err()));
    costs(root, "a known miss", &[], || assert!(fs::metadata(&file).is_err()));
    costs(root, "create after a miss", &[("create", 1)], || drop(File::create(&file).unwrap()));
    costs(root, "a look at what was created", &[("getattr", 1)], || stat(&file));
    let write = || OpenOptions::new().write(true).open(&file).unwrap();
    costs(root, "open", &[], || drop(write()));
    costs(root, "write", &[("write", 1)], || assert_eq!(rustix::io::write(write(), b"x"), Ok(1)));
    costs(root, "a look at what was written", &[("getattr", 1)], || stat(&file));
    costs(root, "another look", &[], || {
        stat(&file);
        stat(&dir);
    });
    costs(root, "rename", &[("lookup", 1), ("rename", 1)], || fs::rename(&file, &other).unwrap());
    costs(root, "a look after it", &[("getattr", 2)], || stat(&other));
    costs(root, "chmod", &[("setattr", 1)], || {
        fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap()
    });
    costs(root, "a look at its mode", &[], || stat(&other));
    costs(root, "read", &[("read", 1)], || assert_eq!(fs::read(&other).unwrap(), b"x"));
    costs(root, "unlink", &[("unlink", 1), ("getattr", 1)], || fs::remove_file(&other).unwrap());
    costs(root, "create again", &[("lookup", 1), ("getattr", 1), ("create", 1)], || {
        drop(File::create(&other).unwrap());
    });
    let python = |name: &str| {
        let script = format!("f = open({:?}, 'wb'); f.write(b'x' * 100); f.close()", dir.join(name));
        run(Command::new("python3").args(["-c", &script]).current_dir("/"));
    };
    let most = [("lookup", 1), ("getattr", 1), ("create", 1), ("ioctl", 1), ("write", 1)];
    costs(root, "a file of an installer", &most, || python("p"));
}
