//! No file of the state is opened by its path: each one is named relative to a checked descriptor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::trace;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::is_mounted;
use crate::common::sandbox::Sandbox;
use crate::common::{run, skip, until};

/// System calls that open or create files.
const OPENS: &str = "open,openat,openat2,creat,truncate";

/// Where a path may be used anyway, and why.
const EXEMPT: [(&str, &str); 2] = [
    ("/state.db", "SQLite opens by path: with SQLITE_OPEN_NOFOLLOW, in a directory that was checked"),
    ("/bytecode/", "Python itself is given a path for its bytecode, and the same path is read ahead"),
];

/// Commands that may use a path for what is named here, and why.
const EXEMPT_FOR: [(&str, &str, &str); 4] = [
    ("df", "O_NOFOLLOW", "it reads where the blocks of a file that it has just seen lie, and no byte of it"),
    ("df", "O_DIRECTORY", "it lists and counts, and follows no link"),
    (
        "doctor",
        "",
        "it tries whether files can be made and shared, in directories whose owner it has checked",
    ),
    (
        "mount --io passthrough",
        "/r",
        "a read-only view of the raw store or of relocated files, which were opened and checked before",
    ),
];

fn is_exempt_for(command: &str, line: &str) -> bool {
    EXEMPT_FOR
        .iter()
        .any(|(of, what, _)| command.contains(of) && line.contains(what) && !line.contains("O_TRUNC"))
}

/// Lines of a trace that open something below `holofs` by its absolute path.
fn by_path(log: &Path, holofs: &Path) -> Vec<String> {
    let below = format!("\"{}/", holofs.display());
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.contains(&below));
    // A rule of the sandbox names a path but opens nothing.
    let opening = lines.filter(|line| !line.contains("O_PATH") && !is_directory_sync(line));
    opening
        .filter(|line| !EXEMPT.iter().any(|(exempt, _)| line.contains(exempt)))
        .map(str::to_owned)
        .collect()
}

/// SQLite also opens the directory of its database, to make the names in it durable.
fn is_directory_sync(line: &str) -> bool {
    let state = line.split('"').nth(1).and_then(|path| path.split_once("/holofs/spaces/"));
    state.is_some_and(|(_, label)| !label.contains('/')) && line.contains("\", O_RDONLY|O_CLOEXEC")
}

fn traced(sandbox: &Sandbox, log: &Path) -> Command {
    let mut command = sandbox.command("strace");
    command.args(["-f", "-qq", "-s", "4096", "-o"]).arg(log).args(["-e", &format!("trace={OPENS}")]);
    command.arg(env!("CARGO_BIN_EXE_holofs"));
    command
}

#[test]
fn open_of_our_state_never_uses_a_path() {
    if !trace::is_available() {
        return skip("No strace");
    }
    let sandbox = Sandbox::golden(Regime::Gzip);
    let (log, holofs) = (sandbox.scratch().join("opens"), sandbox.home().join("holofs"));
    let zip = sandbox.scratch().join("hololib.zip");
    let stage = golden::unpack_stage(&sandbox.scratch().join("stage"));
    let blueprint = golden::file("golden.yaml");
    let (zip, stage, blueprint) =
        (zip.to_str().unwrap(), stage.to_str().unwrap(), blueprint.to_str().unwrap());
    let commands: [&[&str]; 18] = [
        &["materialize", CATALOG, "laid", "--strategy", "hardlink", "--warm"],
        &["materialize", CATALOG, "laid", "--verify"],
        &["run", CATALOG, "shown", "--", "sh", "-c", "echo x > $CONDA_PREFIX/new"],
        &["run", CATALOG, "shown", "--", "true"],
        &["diff", "shown"],
        &["du", "shown"],
        &["list"],
        &["catalogs"],
        &["check", "--repair"],
        &["export", CATALOG, "--zipfile", zip],
        &["import", zip],
        &["doctor"],
        &["df"],
        &["warm", CATALOG],
        &["verify", CATALOG],
        &["reset", "shown"],
        &["delete", "laid"],
        &["gc"],
    ];
    let mut found = Vec::new();
    for args in commands.into_iter().chain([&["record", stage, "--blueprint", blueprint][..]]) {
        // Other tests check their output; some have nothing to do.
        traced(&sandbox, &log).args(args).output().unwrap();
        let lines = by_path(&log, &holofs).into_iter().filter(|line| !is_exempt_for(args[0], line));
        found.extend(lines.map(|line| format!("{args:?}: {line}")));
    }
    for io in ["no-open", "passthrough"] {
        let space = format!("long-{io}");
        let root = sandbox.holotree().join(label(&sandbox, &space));
        let mut mount = traced(&sandbox, &log);
        let mut child =
            mount.args(["mount", CATALOG, &space, "--io", io]).stdout(Stdio::null()).spawn().unwrap();
        until(|| is_mounted(&root));
        fs::write(root.join("new"), "x").unwrap();
        run(sandbox.command("cat").arg(root.join("bin/tool")));
        sandbox.holofs_ok(&["unmount", &space]);
        child.wait().unwrap();
        let command = format!("mount --io {io}");
        let lines = by_path(&log, &holofs).into_iter().filter(|line| !is_exempt_for(&command, line));
        found.extend(lines.map(|line| format!("{command}: {line}")));
    }
    assert_eq!(found, Vec::<String>::new(), "{}", found.join("\n"));
}

/// The label of a space, from the path that would be deleted.
fn label(sandbox: &Sandbox, space: &str) -> String {
    let output = sandbox.holofs_ok(&["materialize", CATALOG, space, "--json"]);
    let path = crate::common::space_path(&crate::common::json(&output));
    sandbox.holofs_ok(&["delete", space]);
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
