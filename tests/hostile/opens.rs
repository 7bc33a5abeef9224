//! No file of the state is opened by its path: each one is named relative to a checked descriptor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::trace;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::is_mounted;
use crate::common::test_home::TestHome;
use crate::common::{run, skip, until};

/// System calls that open or create files.
const OPENS: &str = "open,openat,openat2,creat,truncate";

/// Where a path may be used anyway, and why that is sound.
///
/// - SQLite opens by path. The directory is checked first (`OwnedDir`), so only this user and root can change what is in it; SQLite is
///   called with `SQLITE_OPEN_NOFOLLOW`, and what it makes gets the mode of the database, which is 0600.
/// - Python accepts only a path for its bytecode, in an environment variable. The directories were checked and have mode 0700, and HoloFS
///   reads the same files ahead, as regular files only.
const EXEMPT: [&str; 2] = ["/state.db", "/bytecode/"];

/// Commands that may use a path for the named purpose.
///
/// - `df` and `metrics --disk` walk the whole home, of which our state is a part. They open only what `lstat` has just shown, with
///   `O_NOFOLLOW`, and use it only if device and inode are the same (`Dir::open_seen`, `open_seen`): names are listed and blocks are
///   located, no byte is read.
/// - `doctor` tests the disk in a separate directory: its name is random, and it is created exclusively, with mode 0700, in a checked
///   directory. It also creates a file without a name, which opens no existing file.
/// - With `--io passthrough` the top directory of the raw store, and of the relocated files, is opened like all others: with
///   `OwnedDir::open`, without following a link, and only if it is ours. A file below it is used only if it is the one that was verified.
/// - The process that fetches from a remote gets the directory of the head from the server, and opens it in the same way.
/// - The catalog of a remote is opened like any catalog that a user names: a regular file only, in a directory that was checked when the
///   environment was attached.
/// - The stage of a pull is checked when it is made, and then used like a library: what is read from it is verified by its digest.
const EXEMPT_FOR: [(&str, &str, &str); 9] = [
    ("run", "/remote/", "O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY"),
    ("run", "/remote/", "v12.linux_amd64\", O_RDONLY|O_NONBLOCK"),
    ("pull", "/remote/stage\"", "O_DIRECTORY"),
    ("df", "", "O_NOFOLLOW"),
    ("metrics", "", "O_NOFOLLOW"),
    ("doctor", "/.holofs-probe-", ""),
    ("doctor", "", "O_TMPFILE"),
    ("mount --io passthrough", "/raw\"", "O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY"),
    ("mount --io passthrough", "/relocated/", "O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY"),
];

fn is_exempt_for(command: &str, line: &str) -> bool {
    EXEMPT_FOR.iter().any(|(of, path, flags)| {
        command.contains(of) && line.contains(path) && line.contains(flags) && !line.contains("O_TRUNC")
    })
}

/// Lines of a trace that open something below `holofs` by its absolute path.
fn by_path(log: &Path, holofs: &Path) -> Vec<String> {
    let below = format!("\"{}/", holofs.display());
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.contains(&below));
    // A rule of the sandbox names a path but opens nothing.
    let opening = lines.filter(|line| !line.contains("O_PATH") && !is_directory_sync(line));
    opening.filter(|line| !EXEMPT.iter().any(|exempt| line.contains(exempt))).map(str::to_owned).collect()
}

/// SQLite also opens the directory of its database, to sync it.
fn is_directory_sync(line: &str) -> bool {
    let state = line.split('"').nth(1).and_then(|path| path.split_once("/holofs/spaces/"));
    state.is_some_and(|(_, label)| !label.contains('/')) && line.contains("\", O_RDONLY|O_CLOEXEC")
}

fn traced(test_home: &TestHome, log: &Path) -> Command {
    let mut command = test_home.command("strace");
    command.args(["-f", "-qq", "-s", "4096", "-o"]).arg(log).args(["-e", &format!("trace={OPENS}")]);
    command.arg(env!("CARGO_BIN_EXE_holofs"));
    command
}

/// The traced commands; `$D` is a directory for files.
const COMMANDS: [&[&str]; 31] = [
    &["materialize", CATALOG, "laid", "--strategy", "hardlink", "--warm"],
    &["materialize", CATALOG, "laid", "--verify"],
    &["run", CATALOG, "shown", "--", "sh", "-c", "echo x > $CONDA_PREFIX/new"],
    &["run", CATALOG, "shown", "--", "true"],
    &["diff", "shown"],
    &["du", "shown"],
    &["list"],
    &["catalogs"],
    &["check", "--repair"],
    &["export", CATALOG, "--zipfile", "$D/hololib.zip"],
    &["import", "$D/hololib.zip"],
    &["doctor"],
    &["df"],
    &["warm", CATALOG],
    &["verify", CATALOG],
    &["report", CATALOG, "-o", "$D/page.html"],
    &["trace", CATALOG, "-s", "shown", "-o", "$D/trace", "--chrome", "$D/chrome", "--", "true"],
    &["explain", CATALOG],
    &["variables", CATALOG, "--space", "other", "--mode", "materialize"],
    &["metrics", "--disk"],
    &["stats", "shown"],
    &["commit", "shown", "--name", "committed"],
    &["push", CATALOG, "file://$D/remote#prod"],
    &["pull", "file://$D/remote#prod"],
    &["run", "file://$D/remote#prod", "lazy", "--", "true"],
    &["doctor", "--bundle", "$D/bundle"],
    &["remote", "ls", "file://$D/remote#prod"],
    &["reset", "shown"],
    &["delete", "laid"],
    &["gc"],
    &["record", "$D/stages/h59acff1_493f813dad24d3t", "--blueprint", "$D/golden.yaml"],
];

#[test]
fn open_of_our_state_never_uses_a_path() {
    if !trace::is_available() {
        return skip("No strace");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let (dir, holofs) = (test_home.scratch(), test_home.home().join("holofs"));
    let log = dir.join("opens");
    golden::unpack_stage(&dir.join("stages"));
    fs::copy(golden::file("golden.yaml"), dir.join("golden.yaml")).unwrap();
    let mut found = Vec::new();
    for args in COMMANDS {
        let given = args.iter().map(|arg| arg.replace("$D", dir.to_str().unwrap()));
        // Other tests check their results; some of them have nothing to do.
        traced(&test_home, &log).args(given).output().unwrap();
        let lines = by_path(&log, &holofs).into_iter().filter(|line| !is_exempt_for(args[0], line));
        found.extend(lines.map(|line| format!("{args:?}: {line}")));
    }
    for io in ["no-open", "passthrough"] {
        let space = format!("long-{io}");
        let root = test_home.holotree().join(label(&test_home, &space));
        let mut mount = traced(&test_home, &log);
        let mut child =
            mount.args(["mount", CATALOG, &space, "--io", io]).stdout(Stdio::null()).spawn().unwrap();
        until(|| is_mounted(&root));
        fs::write(root.join("new"), "x").unwrap();
        run(test_home.command("cat").arg(root.join("bin/tool")));
        test_home.holofs_ok(&["unmount", &space]);
        child.wait().unwrap();
        let command = format!("mount --io {io}");
        let lines = by_path(&log, &holofs).into_iter().filter(|line| !is_exempt_for(&command, line));
        found.extend(lines.map(|line| format!("{command}: {line}")));
    }
    assert_eq!(found, Vec::<String>::new(), "{}", found.join("\n"));
}

/// The label of a space, from the path that would be deleted.
fn label(test_home: &TestHome, space: &str) -> String {
    let output = test_home.holofs_ok(&["materialize", CATALOG, space, "--json"]);
    let path = crate::common::space_path(&crate::common::json(&output));
    test_home.holofs_ok(&["delete", space]);
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
