//! The law of the mount: it shows what RCC restores, as long as it exists, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::compare::assert_same_space;
use crate::common::damage::{DAMAGE, blob_of};
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted;
use crate::common::test_home::TestHome;
use crate::common::{exit, json, stderr, text_field, until, until_or};

/// The golden space, as `rcc holotree vars --controller golden --space interop` named it.
const CONTROLLER: &str = "golden";
const SPACE: &str = "interop";
/// Linux's errno value.
const EIO: i32 = 5;

fn read_errno(path: &Path) -> Option<i32> {
    fs::read(path).err().and_then(|error| error.raw_os_error())
}

fn log_of(test_home: &TestHome) -> String {
    let spaces = fs::read_dir(test_home.home().join("holofs/spaces")).unwrap();
    spaces.map(|entry| fs::read_to_string(entry.unwrap().path().join("log")).unwrap_or_default()).collect()
}

#[test]
fn mount_shows_what_rcc_restored_in_both_regimes() {
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let restored = golden::unpack_restored(regime, &test_home.scratch());
        let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
        assert_same_space(mounted.path(), &restored);
        // Again, from caches and patched files instead of on demand.
        assert_same_space(mounted.path(), &restored);
        mounted.unmount();
        let again = test_home.mount(CATALOG, SPACE, CONTROLLER, &["--read-only"]);
        assert_same_space(again.path(), &restored);
    }
}

#[test]
fn mount_of_two_spaces_of_one_catalog_shows_their_own_labels() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (one, two) =
        (test_home.mount(CATALOG, "one", "user", &[]), test_home.mount(CATALOG, "two", "user", &[]));
    assert_ne!(one.path(), two.path());
    for mounted in [&one, &two] {
        let label = mounted.path().file_name().unwrap().to_str().unwrap();
        let shebang = fs::read_to_string(mounted.path().join("bin/tool")).unwrap();
        assert!(shebang.starts_with(&format!("#!{}/{label}/bin/python3\n", golden::BASE)), "{shebang}");
    }
    assert_same_space(one.path(), two.path());
}

#[test]
fn mount_is_nosuid_nodev_and_checked_by_the_kernel_whatever_its_name() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "x,allow_other,dev,suid", "user", &[]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(mounted.path().to_str().unwrap())).unwrap();
    for wanted in ["nosuid", "nodev", "fuse.holofs", "default_permissions"] {
        assert!(line.contains(wanted), "no {wanted} in {line}");
    }
    assert!(!line.contains("allow_other"), "{line}");
}

#[test]
fn mount_of_a_live_space_with_other_options_is_refused_and_names_the_holder() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    let args = ["mount", "--read-only", CATALOG, SPACE, "--controller", CONTROLLER];
    let refused = test_home.holofs_fails(&args, exit::BUSY);
    let pid = mounted.report()["pid"].as_u64().unwrap();
    assert!(stderr(&refused).contains(&format!("process {pid}")), "{}", stderr(&refused));
    assert!(mounted.path().join("bin/tool").is_file());
}

#[test]
fn mount_replaces_the_mount_of_a_killed_daemon() {
    let test_home = TestHome::golden(Regime::Gzip);
    let args = ["mount", CATALOG, SPACE, "--controller", CONTROLLER, "--json"];
    let report = json(&test_home.holofs_ok(&args));
    let pid = report["pid"].to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let root = PathBuf::from(text_field(&report, "path"));
    // Never cached: a file that was read in the last moment of the server would be shown by the kernel for ever.
    until(|| rustix::fs::statfs(&root).err() == Some(rustix::io::Errno::NOTCONN));
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    assert!(fs::read(mounted.path().join("bin/tool")).is_ok());
}

#[test]
fn sigterm_unmounts_and_an_open_file_is_served_until_it_is_closed() {
    let test_home = TestHome::golden(Regime::Gzip);
    let args = ["mount", CATALOG, SPACE, "--controller", CONTROLLER, "--json"];
    let report = json(&test_home.holofs_ok(&args));
    let root = PathBuf::from(text_field(&report, "path"));
    let pid = report["pid"].to_string();
    let expected = fs::read(root.join("reloc/large-sparse-hits.bin")).unwrap();
    let mut open = fs::File::open(root.join("reloc/large-sparse-hits.bin")).unwrap();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until_or(|| !mounted::is_mounted(&root), || "SIGTERM does not unmount".to_owned());
    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert!(content == expected, "an open file changed when its space was unmounted");
    drop(open);
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let has_ended = || state().is_empty() || state().contains(") Z ");
    until_or(has_ended, || format!("the daemon outlives its mount: {}", state()));
    // The space is not held anymore.
    test_home.mount(CATALOG, SPACE, CONTROLLER, &[]).unmount();
}

#[test]
fn unmount_of_a_busy_space_is_refused_and_names_the_user() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    let open = fs::File::open(mounted.path().join("bin/tool")).unwrap();
    let refused = test_home.holofs_fails(&["unmount", SPACE, "--controller", CONTROLLER], exit::BUSY);
    let us = format!("process {}", std::process::id());
    assert!(stderr(&refused).contains(&us), "{} does not name {us}", stderr(&refused));
    drop(open);
}

#[test]
fn mount_leaves_a_daemon_that_keeps_nothing_of_its_starter() {
    let test_home = TestHome::golden(Regime::Gzip);
    let lock = test_home.scratch().join("lock");
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // A descriptor that the program inherits, as with `flock LOCK holofs mount`: the locked file is the shell's fd 9.
    let mut shell = test_home.command("sh");
    shell.args(["-c", "exec 9<&0; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_holofs")]);
    shell.args(["mount", CATALOG, SPACE, "--controller", CONTROLLER, "--json"]);
    let output = shell.stdin(Stdio::from(held.try_clone().unwrap())).stderr(writer).output().unwrap();
    drop(shell);
    drop(held);
    assert!(output.status.success());
    let free = fs::File::open(&lock).unwrap();
    // Another test may fork at this moment, and hold the lock until its child executes: give it time.
    until_or(|| free.try_lock().is_ok(), || "the daemon holds a lock it inherited".to_owned());
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    let pid = json(&output)["pid"].as_u64().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.contains(&lock), "{open:?}");
    // Whatever command has started it, whose words somebody may search for.
    let shown = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(shown.trim_end_matches('\0').split('\0').skip(1).collect::<Vec<_>>(), ["serve"]);
    test_home.holofs_ok(&["unmount", SPACE, "--controller", CONTROLLER]);
}

#[test]
fn read_of_a_damaged_blob_is_an_error_for_its_own_file_only() {
    for (what, harm) in DAMAGE {
        for file in ["bin/tool", "plain/inner.gz"] {
            let test_home = TestHome::golden(Regime::Gzip);
            let blob = blob_of(&test_home, file);
            harm(&blob);
            let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
            assert_eq!(read_errno(&mounted.path().join(file)), Some(EIO), "{what}: {file}");
            assert!(fs::metadata(mounted.path().join(file)).is_ok(), "{what}: {file} must be there");
            assert!(fs::read(mounted.path().join("identity.yaml")).is_ok(), "{what}: others must work");
            let digest = blob.file_name().unwrap().to_str().unwrap();
            let log = log_of(&test_home);
            assert!(log.contains(digest) && log.contains(file), "{what}: the log names neither: {log}");
        }
    }
}

#[test]
fn read_of_a_damaged_raw_entry_is_an_error_only_if_the_blob_is_gone_too() {
    let test_home = TestHome::golden(Regime::Gzip);
    let blob = blob_of(&test_home, "plain/inner.gz");
    let digest = blob.file_name().unwrap().to_str().unwrap();
    let raw_dir = test_home.home().join("holofs/raw").join(&digest[..2]);
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    let expected = fs::read(mounted.path().join("plain/inner.gz")).unwrap();
    mounted.unmount();
    let mut entries = fs::read_dir(&raw_dir).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(digest);
    let raw = entries.find(is_it).unwrap();
    for harmed in [&expected[..expected.len() - 1], &[&expected[..], b"x"].concat(), &vec![0; expected.len()]]
    {
        fs::write(&raw, harmed).unwrap();
        let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
        assert!(fs::read(mounted.path().join("plain/inner.gz")).unwrap() == expected);
    }
    fs::write(&raw, b"x").unwrap();
    fs::remove_file(&blob).unwrap();
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    assert_eq!(read_errno(&mounted.path().join("plain/inner.gz")), Some(EIO));
}

#[test]
fn mount_compiles_a_damaged_index_again() {
    let test_home = TestHome::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    test_home.mount(CATALOG, SPACE, CONTROLLER, &[]).unmount();
    let entries = fs::read_dir(test_home.home().join("holofs/index")).unwrap();
    let index = entries.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_none()).unwrap();
    let whole = fs::read(&index).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let mut flipped_in_head = whole.clone();
    flipped_in_head[100] ^= 0x10;
    for (harmed, how) in [
        (whole.clone(), "opened"),
        (flipped, "compiled"),
        (flipped_in_head, "compiled"),
        (whole[..whole.len() / 2].to_vec(), "compiled"),
        (Vec::new(), "compiled"),
        ([&whole[..], b"x"].concat(), "compiled"),
        (b"HOLOIDX9".repeat(100), "compiled"),
    ] {
        fs::write(&index, harmed).unwrap();
        let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
        assert_eq!(text_field(mounted.report(), "index"), how);
        assert_same_space(mounted.path(), &restored);
    }
    fs::remove_file(&index).unwrap();
    assert_eq!(text_field(test_home.mount(CATALOG, SPACE, CONTROLLER, &[]).report(), "index"), "compiled");
}

#[test]
fn a_bad_catalog_has_its_own_exit_code_and_nothing_is_created() {
    let test_home = TestHome::golden(Regime::Gzip);
    let catalog = test_home.hololib().join("catalog").join(CATALOG);
    let whole = fs::read(&catalog).unwrap();
    let text = golden::inflate(&whole);
    let hostile = golden::deflate(&text.replacen("\"noread.txt\"", "\"../noread.txt\"", 2));
    for bad in [whole[..whole.len() / 2].to_vec(), hostile, b"{}".to_vec(), Vec::new()] {
        fs::write(&catalog, &bad).unwrap();
        test_home.holofs_fails(&["mount", CATALOG, SPACE, "--controller", CONTROLLER], exit::BAD_CATALOG);
        // `run` has one code for its own failures, which commands rarely use.
        test_home
            .holofs_fails(&["run", CATALOG, SPACE, "--controller", CONTROLLER, "--", "true"], exit::OUR_OWN);
        assert_eq!(fs::read_dir(test_home.holotree()).unwrap().count(), 0, "something was created");
    }
}

#[test]
fn mount_takes_a_catalog_by_hash_prefix_file_name_and_path() {
    let test_home = TestHome::golden(Regime::Gzip);
    let path = test_home.hololib().join("catalog").join(CATALOG);
    for name in [golden::BLUEPRINT, "1402", CATALOG, path.to_str().unwrap()] {
        test_home.mount(name, SPACE, CONTROLLER, &[]).unmount();
    }
    test_home.holofs_fails(&["mount", "ffff", SPACE], exit::NOT_FOUND);
    test_home.holofs_fails(&["mount", "/no/such/catalog", SPACE], exit::NOT_FOUND);
    test_home.holofs_fails(&["unmount", "nothing"], exit::NOT_FOUND);
}

#[test]
fn run_starts_the_command_in_the_space_and_returns_its_status() {
    let test_home = TestHome::golden(Regime::Gzip);
    let script = "test -f \"$CONDA_PREFIX/bin/tool\" && echo \"$RCC_HOLOTREE_SPACE_ROOT\" && exit 7";
    let args = ["run", CATALOG, SPACE, "--controller", CONTROLLER, "--", "sh", "-c", script];
    let output = test_home.holofs(&args);
    assert_eq!(output.status.code(), Some(7), "{}", crate::common::said(&output));
    let root = PathBuf::from(crate::common::stdout(&output).trim_end());
    assert!(root.starts_with(test_home.holotree()), "{}", root.display());
    assert!(!mounted::is_mounted(&root), "run left its mount");
    let absent = test_home.holofs(&["run", CATALOG, SPACE, "--", "no-such-program"]);
    assert_eq!(absent.status.code(), Some(exit::NO_COMMAND));
    assert!(mounted::below(&test_home.holotree()).is_empty(), "a failed run left its mount");
}

#[test]
fn run_forwards_a_signal_and_unmounts_when_the_command_ends() {
    let test_home = TestHome::golden(Regime::Gzip);
    for (signal, code) in [("-INT", 41), ("-TERM", 42)] {
        let script = "trap 'exit 41' INT; trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
        let args = ["run", CATALOG, SPACE, "--controller", CONTROLLER, "--", "sh", "-c", script];
        let mut child = test_home.holofs_command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(mounted::below(&test_home.holotree()).len(), 1);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        assert!(mounted::below(&test_home.holotree()).is_empty(), "{signal}: the mount stayed");
    }
}

#[test]
fn getxattr_shows_the_state_of_a_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &[]);
    let ask = |file: &str, name: &str| {
        let mut getfattr = Command::new("getfattr");
        let output =
            getfattr.args(["--only-values", "-n", name]).arg(mounted.path().join(file)).output().unwrap();
        crate::common::stdout(&output)
    };
    let blob = blob_of(&test_home, "bin/tool");
    assert_eq!(ask("bin/tool", "user.holofs.digest"), blob.file_name().unwrap().to_str().unwrap());
    assert_eq!(ask("bin/tool", "user.holofs.state"), "relocated");
    assert_eq!(ask("plain/inner.gz", "user.holofs.state"), "catalog");
    assert_eq!(ask("bin", "user.holofs.state"), "");
}

#[test]
fn mount_survives_a_closed_stdout() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mut child = test_home
        .holofs_command(&["mount", CATALOG, SPACE, "--controller", CONTROLLER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let root = mounted::below(&test_home.holotree()).pop().expect("nothing is mounted");
    assert!(root.join("bin/tool").is_file());
    test_home.holofs_ok(&["unmount", SPACE, "--controller", CONTROLLER]);
}

#[test]
fn mount_closes_its_output_before_it_primes() {
    let test_home = TestHome::new();
    let stage = test_home.holotree().join("h0c0ffee_493f813dad24d3t");
    fs::create_dir_all(&stage).unwrap();
    fs::File::create(stage.join("large")).unwrap().set_len(512 << 20).unwrap();
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::write(&blueprint, "channels: []\n").unwrap();
    let catalog = test_home.record(&stage, &blueprint);
    fs::remove_dir_all(&stage).unwrap();
    let mounted = test_home.mount(&catalog, "primed", "user", &[]);
    std::io::copy(&mut fs::File::open(mounted.path().join("large")).unwrap(), &mut std::io::sink()).unwrap();
    mounted.unmount();
    // Forces the content to be inflated again, which takes a while.
    fs::remove_dir_all(test_home.home().join("holofs/raw")).unwrap();

    // Its stdout and stderr are pipes that are read to the end.
    let mounted = test_home.mount(&catalog, "primed", "user", &[]);
    let server = mounted::server(mounted.report());
    until_or(|| has_child(server), || "priming ended before the mount was reported".to_owned());
}

fn has_child(pid: u32) -> bool {
    let of = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).unwrap_or_default();
    let parent = format!("PPid:\t{pid}\n");
    fs::read_dir("/proc").unwrap().any(|entry| of(entry.unwrap()).contains(&parent))
}

#[test]
fn mount_passes_verbosity_to_its_server() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, SPACE, CONTROLLER, &["-v"]);
    let state = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
    mounted.unmount();
    let log = fs::read_to_string(state.join("log")).unwrap();
    assert!(log.contains("INFO") && log.contains("Unmounted"), "{log}");
}
