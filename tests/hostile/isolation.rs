//! Spaces of one catalog share nothing that can be written, the store is never written, and nothing is left over.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{below, daemons_of, server_of, wait_for_no_daemon};
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, run, store_hash, until, until_or};

/// Changes the files of a space in every way that an owner can.
fn vandalize(space: &Path) {
    let at = |name: &str| space.join(name);
    File::options().write(true).open(at("plain/inner.gz")).unwrap().write_all_at(b"vandal", 0).unwrap();
    File::options().append(true).open(at("identity.yaml")).unwrap().set_len(3).unwrap();
    fs::set_permissions(at("plain/no-needle.txt"), Permissions::from_mode(0o777)).unwrap();
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    File::options().write(true).open(at("plain/no-needle.txt")).unwrap().set_times(times).unwrap();
    fs::hard_link(at("plain/no-needle.txt"), at("another-name")).unwrap();
    fs::write(at("bin/tool"), "vandal").unwrap();
    fs::rename(at("plain/big-5MB.bin"), at("moved")).unwrap();
    fs::remove_dir_all(at("reloc")).unwrap();
}

#[test]
fn write_in_one_materialized_space_reaches_neither_another_nor_the_store() {
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let restored = golden::unpack_restored(regime, &test_home.scratch());
        let (one, two) =
            (test_home.materialize(CATALOG, "one", "user"), test_home.materialize(CATALOG, "two", "user"));
        let raw = test_home.home().join("holofs/raw");
        let (library, inflated) = (store_hash::of(&test_home.hololib()), store_hash::of(&raw));
        assert_eq!(shared_inodes(&one, &two), Vec::<PathBuf>::new());
        vandalize(&one);
        assert_same_space(&two, &restored);
        store_hash::assert_unchanged(&test_home.hololib(), &library);
        store_hash::assert_unchanged(&raw, &inflated);
        // A change that keeps size and mode is found only by reading the file, in RCC and in HoloFS.
        let again = ["materialize", CATALOG, "one", "--allow-setuid", "--verify"];
        test_home.holofs_ok(&again);
        assert_same_space(&one, &restored);
    }
}

/// Files that have the same inode in both spaces.
fn shared_inodes(one: &Path, two: &Path) -> Vec<PathBuf> {
    let mut shared = Vec::new();
    for name in crate::common::compare::space_of(one).keys() {
        let facts =
            |space: &Path| fs::symlink_metadata(space.join(name)).map(|meta| (meta.is_dir(), meta.ino()));
        if let (Ok((false, a)), Ok((false, b))) = (facts(one), facts(two))
            && a == b
        {
            shared.push(name.clone());
        }
    }
    shared
}

#[test]
fn reading_all_of_two_mounted_spaces_changes_nothing_in_the_hololib() {
    let test_home = TestHome::golden(Regime::Gzip);
    // A mount writes RCC's own marks of use there; they appear with the first mount.
    test_home.mount(CATALOG, "one", "user", &[]).unmount();
    let library = test_home.hololib().join("library");
    let before = store_hash::of(&library);
    let (one, two) =
        (test_home.mount(CATALOG, "one", "user", &[]), test_home.mount(CATALOG, "two", "user", &[]));
    assert_same_space(one.path(), two.path());
    store_hash::assert_unchanged(&library, &before);
}

/// The number of open descriptors of a process.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn mount_and_unmount_many_times_leave_no_process_mount_or_descriptor() {
    let test_home = TestHome::golden(Regime::Gzip);
    let long = test_home.mount(CATALOG, "long", "user", &[]);
    let pid = u32::try_from(long.report()["pid"].as_u64().unwrap()).unwrap();
    assert_same_space(long.path(), long.path());
    // The files that it relocates in the background are open too.
    let counts = || json(&test_home.holofs_ok(&["stats", "long", "--json"]))["counts"].clone();
    until(|| number_field(&counts(), "relocated") == 48);
    let server = server_of(pid).unwrap();
    let before = descriptors(server);
    for _ in 0..amount(15, 2_000) {
        let mounted = test_home.mount(CATALOG, "short", "user", &[]);
        assert!(fs::read(mounted.path().join("bin/tool")).is_ok());
        run(test_home.command("cat").arg(long.path().join("plain/inner.gz")));
    }
    assert_same_space(long.path(), long.path());
    // After three seconds it measures the raw store, for which it opens directories.
    let few = || descriptors(server) <= before + 2;
    until_or(few, || format!("{before} descriptors became {}", descriptors(server)));
    let expected = BTreeSet::from([pid, server]);
    let left = || BTreeSet::from_iter(daemons_of(&test_home));
    until_or(|| left() == expected, || format!("{:?} are left of {expected:?}", left()));
    long.unmount();
    wait_for_no_daemon(&test_home);
    assert_eq!(below(test_home.home()), Vec::<PathBuf>::new());
    let own =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let left: Vec<PathBuf> = own.filter(|file| file.starts_with(test_home.home())).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}
