//! How many requests a change costs: no more than the kernel needs.
//!
//! The remaining ones cannot be avoided: "Requests of a change" in `docs/architecture.md` has the reason for each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{is_root, run, skip};

type Counts = BTreeMap<String, u64>;

/// The requests so far. The query itself is one, a getxattr.
fn counts(path: &Path) -> Counts {
    let mut value = vec![0; 64 << 10];
    let len = rustix::fs::getxattr(path, "user.holofs.stats", &mut value[..]).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&value[..len]).unwrap();
    let requests = stats["requests"].as_object().unwrap().iter();
    requests
        .filter(|(kind, _)| !["forget", "batch_forget", "release", "flush"].contains(&kind.as_str()))
        .map(|(kind, count)| (kind.clone(), count.as_u64().unwrap()))
        .collect()
}

/// Checks that `step` costs at most these requests.
fn costs(root: &Path, what: &str, most: &[(&str, u64)], step: impl FnOnce()) {
    let before = counts(root);
    step();
    let mut after = counts(root);
    after.entry("getxattr".into()).and_modify(|count| *count -= 1); // the query
    for (kind, count) in after {
        let made = count - before.get(&kind).copied().unwrap_or_default();
        let most = most.iter().find(|(other, _)| *other == kind).map_or(0, |(_, most)| *most);
        assert!(made <= most, "{what}: {made} of {kind}, not {most}");
    }
}

/// Makes the first OPEN, OPENDIR and CREATE of a mount, which are answered once and for all.
fn settle(root: &Path) {
    drop(File::create(root.join("first")).unwrap());
    drop(File::open(root.join("first")).unwrap());
    fs::read_dir(root).unwrap().for_each(drop);
    fs::metadata(root).unwrap(); // its access time
}

/// Runs `script`, not in the mount.
fn python(script: &str) {
    run(Command::new("python3").args(["-c", script]).current_dir("/"));
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
    settle(root);

    costs(root, "mkdir", &[("lookup", 1), ("mkdir", 1), ("getattr", 1)], || fs::create_dir(&dir).unwrap());
    costs(root, "a look at it", &[("getattr", 1)], || stat(&dir));
    costs(root, "a miss", &[("lookup", 1)], || assert!(fs::metadata(&file).is_err()));
    costs(root, "a known miss", &[], || assert!(fs::metadata(&file).is_err()));
    costs(root, "create after a miss", &[("create", 1)], || drop(File::create(&file).unwrap()));
    costs(root, "a look at what was created", &[("getattr", 1)], || stat(&file));
    let write = || OpenOptions::new().write(true).open(&file).unwrap();
    costs(root, "open", &[], || drop(write()));
    let most = [("write", 1), ("getxattr", 1)];
    costs(root, "write", &most, || assert_eq!(rustix::io::write(write(), b"x"), Ok(1)));
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
    let script = format!("f = open({:?}, 'wb'); f.write(b'x' * 100); f.close()", dir.join("p"));
    let most = [("lookup", 1), ("getattr", 1), ("create", 1), ("ioctl", 1), ("write", 1)];
    costs(root, "a file of an installer", &most, || python(&script));
}

/// What `pip install --target` does: its installation is moved here from another file system.
#[test]
fn a_tree_moved_here_costs_what_the_program_calls_and_the_kernel_needs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = test_home.mount(CATALOG, "s", "user", &["--profile", "off"]);
    let root = mount.path();
    settle(root);
    let source = test_home.scratch().join("tree");
    let (dirs, files) = (4, 20);
    for number in 0..files {
        let dir = source.join(format!("d{}", number % (dirs - 1)));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{number}.py")), vec![b'x'; 65_537]).unwrap();
    }
    let script = format!("import shutil; shutil.copytree({source:?}, {:?})", root.join("site"));
    let most = [
        ("mkdir", dirs),
        ("create", files),
        ("write", 2 * files), // sendfile passes on 64 KiB at a time
        ("ioctl", files),
        ("setattr", 2 * (dirs + files)), // utime and chmod
        ("lookup", dirs + files),
        ("getattr", dirs + files),
    ];
    costs(root, "a tree", &most, || python(&script));
}

#[test]
fn bytecode_costs_what_the_program_calls_and_the_kernel_needs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = test_home.mount(CATALOG, "s", "user", &["--profile", "off"]);
    let (root, dir) = (mount.path(), mount.path().join("__pycache__"));
    settle(root);
    fs::create_dir(&dir).unwrap();
    fs::metadata(&dir).unwrap();
    let (source, code) = (test_home.scratch().join("m.py"), dir.join("m.pyc"));
    fs::write(&source, "x = 1\n").unwrap();
    let script = format!("import py_compile; py_compile.compile({source:?}, {code:?}, doraise=True)");
    // Looked up: the file, the directory that is made in vain, the temporary file, and the file again as the target of the rename.
    let most = [("lookup", 4), ("getattr", 1), ("create", 1), ("write", 1), ("rename", 1)];
    costs(root, "bytecode", &most, || python(&script));
    costs(root, "a look at it", &[("getattr", 2)], || assert!(fs::metadata(&code).is_ok()));
}

/// What `uv` does: each file is made under a temporary name, opened once more to be written, and renamed.
#[test]
fn a_file_that_two_descriptors_make_costs_what_the_program_calls_and_the_kernel_needs() {
    if !is_root() {
        return skip("mounting needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let mount = test_home.mount(CATALOG, "s", "user", &["--profile", "off"]);
    let (root, dir) = (mount.path(), mount.path().join("d"));
    let (temporary, file) = (dir.join(".tmp"), dir.join("f"));
    settle(root);
    fs::create_dir(&dir).unwrap();
    fs::metadata(&dir).unwrap();
    let most = [("lookup", 1), ("create", 1)];
    costs(root, "create", &most, || {
        drop(OpenOptions::new().read(true).write(true).create_new(true).open(&temporary).unwrap());
    });
    // The kernel queries `security.capability` before it truncates, and before it writes.
    let most = [("getattr", 1), ("getxattr", 2), ("setattr", 2), ("write", 1)];
    costs(root, "the rest of it", &most, || {
        let again = OpenOptions::new().write(true).truncate(true).open(&temporary).unwrap();
        again.set_permissions(Permissions::from_mode(0o644)).unwrap();
        assert_eq!(rustix::io::write(&again, &[b'x'; 3000]), Ok(3000));
    });
    costs(root, "rename", &[("lookup", 1), ("rename", 1)], || fs::rename(&temporary, &file).unwrap());
    let most = [("getattr", 1), ("lookup", 1)];
    costs(root, "remove in vain", &most, || assert!(fs::remove_file(&temporary).is_err()));
}
