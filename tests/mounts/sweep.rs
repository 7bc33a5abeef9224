//! Directories that materialize moved aside are deleted in the background, by a process independent of its caller, or by the next run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{copy_program, json, number_field, stdout, until_or};
use serde_json::Value;

fn materialize(test_home: &TestHome) -> Value {
    json(&test_home.holofs_ok(&["materialize", CATALOG, "work", "--json"]))
}

/// The trash of this user.
fn trash(test_home: &TestHome) -> PathBuf {
    let uid = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap();
    test_home.holotree().join(format!(".holofs-trash-{uid}"))
}

/// Something that a killed run left in the trash.
fn leave_trash(test_home: &TestHome) -> PathBuf {
    let trash = trash(test_home);
    fs::create_dir_all(trash.join(".holofs-gone-1/deep")).unwrap();
    fs::write(trash.join(".holofs-gone-1/deep/file"), "x").unwrap();
    fs::set_permissions(&trash, Permissions::from_mode(0o700)).unwrap();
    trash
}

fn wait_until_gone(path: &Path) {
    until_or(|| !path.exists(), || format!("{} stays", path.display()));
}

/// The visible state of a process.
struct Seen {
    session: String,
    cwd: PathBuf,
    open: Vec<PathBuf>,
}

/// The sweeping process, if it is still running: it lowers its priority when it has released everything.
fn seen(pid: u64) -> Option<Seen> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let open = fs::read_dir(proc.join("fd")).ok()?.flatten();
    let open: Vec<PathBuf> = open.map(|entry| fs::read_link(entry.path()).ok()).collect::<Option<_>>()?;
    let cwd = fs::read_link(proc.join("cwd")).ok()?;
    let is_at_work = fields.get(16) == Some(&"19")
        && open.iter().any(|path| path.to_string_lossy().contains(".holofs-gone-"));
    is_at_work.then(|| Seen { session: fields[3].to_owned(), cwd, open })
}

#[test]
fn sweep_holds_nothing_of_the_run_and_ends_with_the_trash() {
    let test_home = TestHome::golden(Regime::Gzip);
    let space = crate::common::space_path(&materialize(&test_home));
    let looked_at = (0..10).any(|_| {
        fs::create_dir(space.join("stranger")).unwrap();
        fs::write(space.join("stranger/0"), "x").unwrap();
        // Many links to one inode: quick to create, slow to delete.
        for number in 1..20_000 {
            fs::hard_link(space.join("stranger/0"), space.join(format!("stranger/{number}"))).unwrap();
        }
        // It reads the pipes to the end.
        let report = materialize(&test_home);
        assert!(!space.join("stranger").exists());
        assert_eq!(number_field(&report["counts"], "set_aside"), 1, "{report:#}");
        let pid = number_field(&report, "swept_by");
        let mut found = None;
        while found.is_none() && trash(&test_home).exists() {
            found = seen(pid);
        }
        wait_until_gone(&trash(&test_home));
        let Some(found) = found else { return false };
        assert_eq!((found.session, found.cwd), (pid.to_string(), PathBuf::from("/")));
        for path in found.open {
            let is_ours = path.starts_with(test_home.holotree()) || path == Path::new("/dev/null");
            assert!(is_ours, "{}", path.display());
        }
        true
    });
    assert!(looked_at, "it was over each time before it could be looked at");
}

#[test]
fn sweep_of_the_next_run_removes_what_a_killed_one_left() {
    let test_home = TestHome::golden(Regime::Gzip);
    assert_eq!(materialize(&test_home)["swept_by"], Value::Null, "there is nothing to sweep");
    let trash = leave_trash(&test_home);
    let report = materialize(&test_home);
    assert!(report["is_changed"] == false && number_field(&report, "swept_by") > 1, "{report:#}");
    wait_until_gone(&trash);
}

#[test]
fn sweep_runs_in_the_command_where_no_process_can_be_started() {
    let test_home = TestHome::golden(Regime::Gzip);
    materialize(&test_home);
    let trash = leave_trash(&test_home);
    let program = test_home.scratch().join("holofs");
    copy_program(env!("CARGO_BIN_EXE_holofs"), &program);
    // A program whose file was removed cannot be started a second time.
    let script = format!("exec 3<$0; rm $0; exec /proc/self/fd/3 materialize {CATALOG} work --json");
    let report = json(&crate::common::run(test_home.command("sh").args(["-c", &script]).arg(&program)));
    assert!(!trash.exists());
    assert_eq!(
        (&report["swept_by"], &report["fallbacks"]["sweep"]["count"]),
        (&Value::Null, &1.into()),
        "{report:#}"
    );
}

#[test]
fn gc_empties_the_trash_and_a_dry_run_names_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    let trash = leave_trash(&test_home);
    let named = serde_json::json!([trash]);
    assert_eq!(json(&test_home.holofs_ok(&["gc", "--dry-run", "--json"]))["trash"], named);
    assert!(trash.exists());
    assert!(stdout(&test_home.holofs_ok(&["gc"])).contains(trash.to_str().unwrap()));
    assert!(!trash.exists());
    assert_eq!(json(&test_home.holofs_ok(&["gc", "--json"]))["trash"], serde_json::json!([]));
}
