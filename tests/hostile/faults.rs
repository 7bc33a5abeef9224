//! Every step fails once: the run reports it, the tree equals that before or after the run, and the next run repairs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holofs::rcc::digest::Digest;
use holofs::space::relocated::Relocated;
use holofs::store::index::{Index, NodeKind};
use holofs::store::memory::FailingSource;
use holofs::store::observe::Tally;
use holofs::store::relocate::LABEL_LEN;
use holofs::store::{BlobSource, Library, Limits, Store, Wanted};

use super::bounds::limited;
use super::trace::{self, BYTES, MODES, NAMES};
use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{exit, is_root, run, said, skip, stderr, store_hash};

const MATERIALIZE: [&str; 10] = [
    "materialize",
    CATALOG,
    "interop",
    "--controller",
    "golden",
    "--allow-setuid",
    "--threads",
    "1",
    "--strategy",
    "hardlink",
];

/// A home, the expected tree of its space, and the space's path.
struct Trial {
    test_home: TestHome,
    expected: PathBuf,
    space: PathBuf,
}

impl Trial {
    fn new(regime: Regime) -> Trial {
        let test_home = TestHome::golden(regime);
        let expected = golden::unpack_restored(regime, &test_home.scratch());
        let space = test_home.materialize(CATALOG, "interop", "golden");
        let trial = Trial { test_home, expected, space };
        trial.forget();
        trial
    }

    /// Removes the space and all HoloFS state.
    fn forget(&self) {
        for dir in [self.test_home.holotree(), self.test_home.home().join("holofs")] {
            run(self.test_home.command("chmod").args(["-R", "u+rwX"]).arg(&dir));
            fs::remove_dir_all(&dir).unwrap();
            fs::create_dir(&dir).unwrap();
        }
    }

    /// The space is complete or absent, whatever the exit code; it is complete if the exit code is 0.
    fn assert_all_or_nothing(&self, what: &str, exit_status: Option<i32>) {
        if self.space.exists() {
            assert_same_space(&self.space, &self.expected);
        } else {
            assert_ne!(exit_status, Some(exit::OK), "{what}: it says it is there");
        }
    }

    fn assert_repaired(&self, what: &str) {
        let output = self.test_home.holofs(&MATERIALIZE);
        assert!(output.status.success(), "after {what}: {}", said(&output));
        assert_same_space(&self.space, &self.expected);
    }
}

/// Makes each of `calls` fail, or kills the process at it, with `how`, as long as there is time for `most`.
fn sweep(calls: &str, how: &str, most: usize) {
    let trial = Trial::new(Regime::Gzip);
    let library = store_hash::of(&trial.test_home.hololib().join("library"));
    let steps = trace::steps(&trial.test_home, calls, most, &MATERIALIZE);
    let mut failed = 0;
    for step in &steps {
        trial.forget();
        let what = format!("{how} at {step:?}");
        let output = trace::run(&trial.test_home, step, how, &MATERIALIZE);
        failed += usize::from(!output.status.success());
        if how.starts_with("signal") {
            assert!(!output.status.success(), "{what}: it lives");
        }
        if !how.starts_with("signal") && !output.status.success() {
            let code = output.status.code();
            assert!(matches!(code, Some(2..=9)), "{what}: {}", said(&output));
            assert!(!stderr(&output).contains("panicked"), "{what}: {}", said(&output));
        }
        trial.assert_all_or_nothing(&what, output.status.code());
        trial.assert_repaired(&what);
    }
    store_hash::assert_unchanged(&trial.test_home.hololib().join("library"), &library);
    // Many failures have no effect: the raw store is optional, files that cannot be linked are copied, a mode is already right.
    assert!(failed > 0 || steps.len() < 5, "none of {} runs failed", steps.len());
    eprintln!("{how}: {} calls, {failed} runs failed", steps.len());
}

#[test]
fn materialize_is_all_or_nothing_wherever_a_system_call_fails() {
    if !trace::is_available() {
        return skip("failures are injected by strace");
    }
    sweep(BYTES, "error=ENOSPC", amount(5, 10_000));
    sweep(NAMES, "error=EIO", amount(8, 10_000));
    sweep(NAMES, "error=EMFILE", amount(4, 10_000));
    sweep(MODES, "error=EDQUOT", amount(3, 10_000));
}

#[test]
fn materialize_is_all_or_nothing_wherever_it_is_killed() {
    if !trace::is_available() {
        return skip("deaths are injected by strace");
    }
    sweep(BYTES, "signal=KILL", amount(5, 10_000));
    sweep(NAMES, "signal=KILL", amount(8, 10_000));
}

/// Records the golden stage with a failure or kill at each step: every existing catalog can be restored.
fn sweep_record(calls: &str, how: &str, most: usize) {
    let blueprint = golden::file("golden.yaml");
    let prepare = || {
        let test_home = TestHome::new();
        let stage = golden::unpack_stage(&test_home.holotree());
        // They refer to the place where the stage was made, which does not exist.
        for link in ["abs-dir-into-stage", "abs-into-stage"] {
            fs::remove_file(stage.join("links").join(link)).unwrap();
        }
        (test_home, stage)
    };
    let args = |stage: &Path| {
        ["record", stage.to_str().unwrap(), "--blueprint", blueprint.to_str().unwrap()].map(str::to_owned)
    };
    let (test_home, stage) = prepare();
    let first = args(&stage);
    for step in trace::steps(&test_home, calls, most, &first.each_ref().map(String::as_str)) {
        let what = format!("{how} at {step:?}");
        let (test_home, stage) = prepare();
        let args = args(&stage);
        let args = args.each_ref().map(String::as_str);
        let output = trace::run(&test_home, &step, how, &args);
        let catalogs = test_home.catalogs();
        assert!(!catalogs.is_empty() || !output.status.success(), "{what}: it says it is there");
        if let Some(catalog) = catalogs.first() {
            test_home.materialize(catalog, "after", "user");
        }
        let output = test_home.holofs(&args);
        assert!(output.status.success(), "after {what}: {}", said(&output));
        test_home.materialize(&test_home.catalogs()[0], "again", "user");
    }
}

#[test]
fn record_publishes_everything_or_nothing_wherever_it_fails_or_is_killed() {
    if !trace::is_available() || !is_root() {
        return skip("failures are injected by strace, and the golden tree has files that only root reads");
    }
    sweep_record(BYTES, "error=ENOSPC", amount(2, 10_000));
    sweep_record(NAMES, "error=EIO", amount(3, 10_000));
    sweep_record(NAMES, "signal=KILL", amount(3, 10_000));
}

#[test]
fn mount_with_too_few_descriptors_is_an_error_or_works() {
    let trial = Trial::new(Regime::Raw);
    let mut outcomes = Vec::new();
    for limit in [8, 12, 16, 24, 32, 64] {
        trial.forget();
        let output = limited(&trial.test_home, &format!("-n {limit}"), &MATERIALIZE).output().unwrap();
        trial.assert_all_or_nothing(&format!("{limit} descriptors"), output.status.code());
        outcomes.push(output.status.success());
        trial.assert_repaired(&format!("{limit} descriptors"));
    }
    assert!(!outcomes[0] && outcomes[5], "{outcomes:?}");
}

#[test]
fn mount_with_few_descriptors_serves_all_files() {
    let test_home = TestHome::golden(Regime::Raw);
    let expected = golden::unpack_restored(Regime::Raw, &test_home.scratch());
    let args = ["mount", CATALOG, "interop", "--controller", "golden", "--json"];
    let report = crate::common::json(&run(&mut limited(&test_home, "-n 40", &args)));
    let space = crate::common::space_path(&report);
    let held: Vec<fs::File> = ["bin/tool", "plain/inner.gz", "identity.yaml", "plain/no-needle.txt"]
        .iter()
        .map(|name| fs::File::open(space.join(name)).unwrap())
        .collect();
    assert_same_space(&space, &expected);
    drop(held);
    test_home.holofs_ok(&["unmount", "interop", "--controller", "golden"]);
}

#[test]
fn write_with_few_descriptors_takes_any_number_of_files() {
    let test_home = TestHome::golden(Regime::Raw);
    // The descriptors that a daemon always needs, and a few for files.
    let args = ["mount", CATALOG, "interop", "--controller", "golden", "--mode", "mount", "--json"];
    let report = crate::common::json(&run(&mut limited(&test_home, "-n 64", &args)));
    let space = crate::common::space_path(&report);
    let path = |number: usize| space.join(format!("written-{number}"));
    let mut held = Vec::new();
    for number in 0..300 {
        let mut file = fs::File::create_new(path(number)).unwrap();
        std::io::Write::write_all(&mut file, format!("content {number}").as_bytes()).unwrap();
        held.push(file);
    }
    for (number, file) in held.iter().enumerate() {
        let at = format!("content {number}").len() as u64;
        std::os::unix::fs::FileExt::write_all_at(file, b", and more", at).unwrap();
    }
    drop(held);
    for number in 0..300 {
        assert_eq!(fs::read_to_string(path(number)).unwrap(), format!("content {number}, and more"));
    }
    test_home.holofs_ok(&["unmount", "interop", "--controller", "golden"]);
}

/// A small private file system, removed when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, size: &str) -> Tmpfs {
        fs::create_dir_all(at).unwrap();
        let mut mount = std::process::Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"]).arg(at));
        Tmpfs(at.to_owned())
    }

    pub fn resize(&self, size: &str) {
        let mut mount = std::process::Command::new("mount");
        run(mount.args(["-o", &format!("remount,size={size}")]).arg(&self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(std::process::Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn materialize_on_a_full_disk_of_any_size_leaves_a_whole_space_or_none() {
    if !is_root() {
        return skip("mounting a small disk needs root");
    }
    let sizes = if crate::common::soak::is_soak() {
        (1..60).map(|at| at * 128).collect()
    } else {
        vec![64, 400, 2_000, 6_000]
    };
    for size in sizes {
        let test_home = TestHome::golden(Regime::Gzip);
        let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
        let disk = Tmpfs::mount(&test_home.holotree(), &format!("{size}k"));
        let output = test_home.holofs(&MATERIALIZE);
        assert_ne!(output.status.code(), Some(exit::OK), "{size} KiB are enough?");
        let left = fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<PathBuf> = left.filter(|path| path.is_dir()).collect();
        assert!(left.is_empty(), "{size} KiB: {left:?} is left; {}", said(&output));
        disk.resize("64m");
        assert_same_space(&test_home.materialize(CATALOG, "interop", "golden"), &expected);
    }
}

#[test]
fn read_with_a_full_disk_for_the_raw_store_costs_speed_only() {
    if !is_root() {
        return skip("mounting a small disk needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    for size in ["100k", "1m"] {
        let _disk = Tmpfs::mount(&test_home.home().join("holofs/raw"), size);
        let mounted = test_home.mount(CATALOG, "interop", "golden", &["--read-only"]);
        assert_same_space(mounted.path(), &expected);
    }
}

/// Every relocated file of the golden catalog, and a source of their content that can be made to fail.
struct Relocations {
    test_home: TestHome,
    index: Index,
    source: Arc<FailingSource<Store>>,
    label: [u8; LABEL_LEN],
}

impl Relocations {
    fn new() -> Relocations {
        let test_home = TestHome::golden(Regime::Gzip);
        let home = test_home.home().join("holofs");
        let catalog = test_home.hololib().join("catalog").join(CATALOG);
        let (index, _) = Index::ensure(&home.join("index"), &catalog).unwrap();
        let library = Library::open(&test_home.hololib().join("library")).unwrap();
        let store = Store::open(library, &home.join("raw"), Limits::default(), Arc::new(Tally::new()));
        let label = *b"59acff1_ed69061_b99589a1";
        Relocations { test_home, index, source: Arc::new(FailingSource::new(store)), label }
    }

    fn open(&self) -> Relocated {
        let source = Arc::clone(&self.source) as Arc<dyn BlobSource>;
        let state = self.test_home.home().join("holofs/spaces/x");
        Relocated::new(&state, &self.index, &self.label, source, Arc::new(Tally::new()))
    }

    /// The content of each relocated file, as a digest; `None` for an error.
    fn read_all(&self, relocated: &Relocated) -> Vec<Option<Digest>> {
        let files = self.index.relocated().map(|(ino, file)| {
            let mode = self.index.node(ino).unwrap().mode;
            let wanted = Wanted { digest: file.digest, size: file.size, mode };
            let mut content = vec![0; usize::try_from(file.size).unwrap()];
            let read = relocated.read(ino, &wanted, file.rewrite, 0, &mut content);
            read.is_ok().then(|| Digest::of(holofs::rcc::digest::Regime::Sha256, &content))
        });
        files.collect()
    }

    fn digests(&self) -> Vec<Digest> {
        let nodes = self.index.relocated().map(|(ino, _)| self.index.node(ino).unwrap());
        nodes
            .filter_map(|node| if let NodeKind::File(file) = node.kind { Some(file.digest) } else { None })
            .collect()
    }
}

#[test]
fn relocate_from_a_source_that_fails_once_damages_no_file() {
    let world = Relocations::new();
    let right = world.read_all(&world.open());
    assert!(right.len() > 40 && right.iter().all(Option::is_some));
    let stop = std::sync::atomic::AtomicBool::new(false);
    for (at, digest) in world.digests().into_iter().enumerate() {
        let state = world.test_home.home().join("holofs/spaces/x");
        fs::remove_dir_all(&state).unwrap_or_default();
        let relocated = world.open();
        world.source.fail(digest, 1);
        relocated.fill(&world.index, &stop);
        // At most the next reader gets the failure; bytes are right or absent.
        world.source.fail(digest, 1);
        let during = world.read_all(&relocated);
        assert!(during.iter().zip(&right).all(|(now, right)| now.is_none() || now == right), "file {at}");
        world.source.fail(digest, 0);
        assert_eq!(world.read_all(&relocated), right, "file {at}");
        relocated.fill(&world.index, &stop);
        assert_eq!(world.read_all(&world.open()), right, "file {at}, from what was kept");
    }
}
