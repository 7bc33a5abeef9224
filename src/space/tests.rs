//! Tests of locks, marks and state.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use super::*;
use crate::rcc::catalog::Catalog;
use crate::rcc::home::Environment;

struct Fixture {
    dir: tempfile::TempDir,
    home: Home,
    space: Space,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("rcc");
    let var = |name: &str| match name {
        "HOME" => Some(OsString::from("/home/user")),
        "ROBOCORP_HOME" => Some(root.clone().into_os_string()),
        _ => None,
    };
    let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
    fs::create_dir_all(home.pids_dir()).unwrap();
    let space = Space::new(&home, home.holotree(), "golden", "interop");
    Fixture { dir, home, space }
}

fn quiet(_: &Waiting<'_>) {}

#[test]
fn a_space_stands_where_rcc_puts_it() {
    let Fixture { dir: _dir, home, space } = fixture();
    assert_eq!(space.root, home.holotree().join("59acff1_ed69061_b99589a1"));
    assert_eq!(space.sibling(".meta"), home.holotree().join("59acff1_ed69061_b99589a1.meta"));
    assert_eq!(space.state_dir, home.spaces_dir().below("59acff1_ed69061_b99589a1"));
}

#[test]
fn a_lock_is_exclusive_names_its_holder_and_leaves_its_file() {
    let Fixture { dir: _dir, home, space } = fixture();
    let held = space.lock(Wait::Not, &quiet).unwrap();
    let refused = space.lock(Wait::Not, &quiet).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(refused.contains(&format!("locked by process {pid}")), "{refused}");
    assert!(refused.contains("controller golden, space interop"), "{refused}");
    drop(held);
    assert!(space.sibling(".lck").is_file());
    assert_eq!(fs::read_dir(home.pids_dir()).unwrap().count(), 0);
    drop(space.lock(Wait::Not, &quiet).unwrap());
    drop(space.lock_hololib(Wait::Not, &quiet).unwrap());
    assert!(home.global_lock().is_file());
}

#[test]
fn wait_is_reported_once_and_ends_at_its_bound() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    let _held = space.lock(Wait::Not, &quiet).unwrap();
    let reports = std::cell::Cell::new(0);
    let started = Instant::now();
    let outcome = space.lock(Wait::For(Duration::from_millis(1200)), &|waiting| {
        assert_eq!(waiting.holders.0.len(), 1);
        reports.set(reports.get() + 1);
    });
    assert!(matches!(outcome, Err(SpaceError::Locked { .. })));
    assert!(started.elapsed() >= Duration::from_millis(1200));
    assert_eq!(reports.get(), 1);
}

#[test]
fn a_lock_is_got_as_soon_as_it_is_free() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    let held = space.lock(Wait::Not, &quiet).unwrap();
    let waiter = space.clone();
    let thread = std::thread::spawn(move || waiter.lock(Wait::Forever, &quiet).map(drop));
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    assert!(thread.join().unwrap().is_ok());
}

#[test]
#[cfg(unix)]
fn a_lock_file_that_is_a_link_is_refused_and_its_target_stays() {
    let Fixture { dir, home: _, space } = fixture();
    fs::create_dir_all(&space.base).unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, space.sibling(".lck")).unwrap();
    assert!(matches!(space.lock(Wait::Not, &quiet), Err(SpaceError::Io { .. })));
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_live_space_refuses_a_second_user_and_names_the_first() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    assert_eq!(space.live_holder(), None);
    let live = space.go_live().unwrap();
    let this = Process::current();
    assert!(
        matches!(space.go_live(), Err(SpaceError::Live { holder: Some(process), .. }) if process == this)
    );
    assert_eq!(space.live_holder(), Some(this));
    drop(live);
    assert_eq!(space.live_holder(), None);
    assert!(space.go_live().is_ok(), "what a dead holder wrote means nothing");
}

/// The record of a mount by this process.
fn state_of(space: &Space) -> MountState {
    MountState {
        restarts: Some(Restarts { count: 1, refused: Some("x".into()) }),
        controller: "golden".to_owned(),
        space: "interop".to_owned(),
        blueprint: String::new(),
        process: Process::current(),
        catalog: "ab".repeat(32),
        catalog_path: "/h/catalog/14v12.linux_amd64".into(),
        mountpoint: space.root.clone(),
        mode: "read-only".into(),
        method: "mount".into(),
        reason: String::new(),
        device: 40,
        source: "holofs-1".into(),
        namespace: Some(7),
        kept_in: vec![7],
        pid_namespace: Some(8),
        version: "0.1.0".into(),
        options: MountOptions::default(),
        meta: None,
    }
}

/// A process here may have the number and the start time of one in another container.
#[test]
fn a_holder_of_another_pid_namespace_is_not_taken_for_the_process_with_its_number() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    let _live = space.go_live().unwrap();
    let own = sys::mount::namespace::of_pids();
    let here = MountState { pid_namespace: own, ..state_of(&space) };
    space.set_mount_state(&here).unwrap();
    assert_eq!((space.live_holder(), space.hidden_holder(&here)), (Some(Process::current()), None));
    let there = MountState { pid_namespace: own.map(|own| own + 1), ..here };
    space.set_mount_state(&there).unwrap();
    assert_eq!((space.live_holder(), space.hidden_holder(&there)), (None, Some(Process::current())));
}

#[test]
fn the_state_of_a_mount_is_read_back() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    assert_eq!(space.mount_state().unwrap(), None);
    let state = state_of(&space);
    space.set_mount_state(&state).unwrap();
    assert_eq!(space.mount_state().unwrap(), Some(state));
    let text = fs::read_to_string(space.state_dir.join("mount.json")).unwrap();
    assert!(text.contains(&format!("\"pid\": {}", std::process::id())), "{text}");
    space.clear_mount_state().unwrap();
    space.clear_mount_state().unwrap();
    assert_eq!(space.mount_state().unwrap(), None);
    fs::write(space.state_dir.join("mount.json"), "{").unwrap();
    assert!(matches!(space.mount_state(), Err(SpaceError::BadState { .. })));
}

#[test]
fn a_use_leaves_the_marks_that_rcc_leaves() {
    let Fixture { dir, home, space } = fixture();
    fs::create_dir_all(&space.base).unwrap();
    let catalog = dir.path().join("catalog");
    fs::write(&catalog, "").unwrap();
    fs::File::open(&catalog).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    space.journal_use(&catalog, "14023a1f332a0231");
    space.mark_used(&catalog, "14023a1f332a0231");
    let marked = crate::sys::fs::dir::file_state(&catalog).unwrap().text;
    space.mark_used(&catalog, "14023a1f332a0231");
    let again = crate::sys::fs::dir::file_state(&catalog).unwrap().text;
    assert_eq!(again, marked, "so that the next use need not read it again");
    assert_eq!(fs::read_to_string(space.sibling(".use")).unwrap(), "..");
    assert!(home.used_dir().join("14023a1f332a0231.59acff1").is_file());
    let modified = || catalog.metadata().unwrap().modified().unwrap();
    assert!(modified().elapsed().unwrap() < Duration::from_secs(60));
    let recent = std::time::SystemTime::now() - Duration::from_secs(600);
    fs::File::open(&catalog).unwrap().set_modified(recent).unwrap();
    space.mark_catalog_used(&catalog, "14023a1f332a0231");
    assert_eq!(modified(), recent, "what is recent enough keeps its stamp");
    let line = fs::read_to_string(home.journal()).unwrap();
    let (meta, catalog) = (space.sibling(".meta"), catalog.display());
    let rest = format!(
        r#","controller":"rcc.golden","event":"space-used","detail":"{}","comment":"normal holotree with blueprint 14023a1f332a0231 from {catalog}"}}"#,
        meta.display()
    );
    assert!(line.starts_with(r#"{"when":"#) && line.ends_with(&format!("{rest}\n")), "{line}");
}

#[test]
fn nothing_is_mounted_at_an_ordinary_or_absent_space() {
    let Fixture { dir: _dir, home: _, space } = fixture();
    assert!(space.refuse_mounted().is_ok());
    fs::create_dir_all(&space.root).unwrap();
    assert!(space.refuse_mounted().is_ok());
    let proc = Space { root: "/proc".into(), ..space };
    assert!(matches!(proc.refuse_mounted(), Err(SpaceError::Mounted { .. })));
}

#[test]
fn the_meta_of_the_golden_space_is_what_rcc_wrote() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    for regime in ["gz", "raw"] {
        let Fixture { dir: _dir, home, .. } = fixture();
        let space = Space::new(&home, &home.root().join("ht"), "golden", "interop");
        space.ensure_base().unwrap();
        let (catalog, _) = Catalog::read(&golden.join(format!("catalog-{regime}.json.gz"))).unwrap();
        assert!(space.old_meta().is_none());
        space.write_meta(&catalog).unwrap();
        let expected = fs::read(golden.join(format!("space-meta-{regime}.json.gz"))).unwrap();
        let ours = fs::read(space.sibling(".meta")).unwrap();
        let base = space.base.to_str().unwrap();
        assert_eq!(inflate(&ours).replace(base, "/tmp/holofs-golden/holotree"), inflate(&expected));
        let info = fs::read_to_string(space.sibling(".meta.info")).unwrap();
        let head = &inflate(&ours)[..info.len() - 2];
        assert_eq!(&info[..info.len() - 2], head, "the info is the head of the meta");
        let old = space.old_meta().unwrap();
        assert_eq!(old.catalog.header.identity, space.label.to_string());
        assert_eq!(fs::read_dir(&space.base).unwrap().count(), 2, "nothing else is left next to the space");
    }
}

fn inflate(bytes: &[u8]) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(bytes), &mut text).unwrap();
    text
}
