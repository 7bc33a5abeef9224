//! The laws hold for every tier on every file system: the same tree, no visible sharing, never a damaged file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holofs::space::materialize::health::{self, Depth};
use holofs::space::materialize::{Bounds, FileErrorKind, Options, Strategy};
use holofs::store::index::{Index, NodeKind};
use holofs::store::observe::Tally;

use super::world::{ALL_BITS, World};
use crate::common::copy_program;
use crate::common::loop_fs::{KINDS, LoopFs};
use crate::common::oracle::{assert_same_tree, tree_of};

const MEGABYTES: u64 = 512;

/// Every file system that can be made here, with every strategy and a new home for each.
fn everywhere(law: impl Fn(&'static str, Strategy, &World)) {
    for kind in KINDS {
        for strategy in Strategy::ALL {
            if let Some(disk) = LoopFs::new(kind, MEGABYTES) {
                law(kind, strategy, &World::new_in("gz", &disk.path()));
            }
        }
    }
}

/// The tier that must be used when warm.
fn expected(kind: &str, strategy: Strategy) -> &'static str {
    match (strategy, kind) {
        (Strategy::Hardlink, _) => "hardlink",
        (Strategy::Auto | Strategy::Snapshot, "btrfs") => "snapshot",
        (Strategy::Auto | Strategy::Snapshot | Strategy::Reflink, "btrfs" | "xfs") => "reflink",
        _ => "copy",
    }
}

#[test]
fn materialize_makes_the_same_tree_by_every_tier_three_times() {
    everywhere(|kind, strategy, world| {
        let options = Options { strategy, ..ALL_BITS };
        for turn in 0..3 {
            let report = world.materialize(&options).unwrap();
            assert_same_tree(&world.space.root, &world.golden());
            assert_eq!(
                report.strategy,
                expected(kind, strategy),
                "{kind} {strategy:?} {:?}",
                report.fallbacks
            );
            assert_eq!(report.counts["relocated"], 48);
            let again = world.materialize(&options).unwrap();
            assert!(!again.is_changed, "{kind} {strategy:?}, turn {turn}: {:?}", again.counts);
            fs::remove_dir_all(&world.space.root).unwrap();
        }
    });
}

#[test]
fn materialize_reports_a_weaker_tier_than_requested_and_no_fallback_for_the_best() {
    everywhere(|kind, strategy, world| {
        let report = world.materialize(&Options { strategy, ..ALL_BITS }).unwrap();
        let reported: Vec<&str> = report.fallbacks.keys().copied().collect();
        let missing: &[&str] = match (strategy, kind) {
            (Strategy::Snapshot, "xfs") => &["snapshot"],
            (Strategy::Snapshot, "ext4" | "tmpfs" | "overlay") => &["reflink", "snapshot"],
            (Strategy::Auto | Strategy::Reflink, "ext4" | "tmpfs" | "overlay") => &["reflink"],
            _ => &[],
        };
        assert_eq!(reported, missing, "{kind} {strategy:?}: {:?}", report.fallbacks);
    });
}

#[test]
fn write_in_one_space_changes_neither_other_spaces_nor_the_stores() {
    everywhere(|kind, strategy, world| {
        if strategy == Strategy::Hardlink {
            return;
        }
        let options = Options { strategy, warm: true, ..ALL_BITS };
        let other = world.other("other");
        for world in [world, &other] {
            world.materialize(&options).unwrap();
        }
        let ours = tree_of(world.home.holofs());
        let untouched = tree_of(&other.space.root);
        for path in ["plain/no-needle.txt", "reloc/one.txt", "bin/tool"] {
            fs::OpenOptions::new().append(true).open(world.file(path)).unwrap().write_all(b"mine").unwrap();
            assert_eq!(world.file(path).metadata().unwrap().nlink(), 1, "{kind} {strategy:?}");
        }
        assert_eq!(tree_of(&other.space.root), untouched, "{kind} {strategy:?}");
        assert_eq!(tree_of(world.home.holofs()), ours, "{kind} {strategy:?}");
        let third = world.other("third");
        third.materialize(&options).unwrap();
        assert_same_tree(&third.space.root, &world.golden_as(&third));
    });
}

#[test]
fn materialize_leaves_nothing_of_a_damaged_blob_by_any_tier() {
    everywhere(|kind, strategy, world| {
        let blob = world.blob_of("plain/no-needle.txt");
        let stored = fs::read(&blob).unwrap();
        let mut damaged = stored.clone();
        damaged[stored.len() / 2] ^= 1;
        fs::write(&blob, damaged).unwrap();
        let report = super::incomplete(world.materialize(&Options { strategy, ..ALL_BITS }));
        assert_eq!(report.errors.len(), 1, "{kind} {strategy:?}: {:?}", report.errors);
        assert_eq!(
            (report.errors[0].path.as_str(), report.errors[0].kind),
            ("plain/no-needle.txt", FileErrorKind::Blob)
        );
        assert_eq!(world.siblings(), super::with_suffixes(&[".lck"]), "{kind} {strategy:?}");
        fs::write(&blob, stored).unwrap();
        world.materialize(&Options { strategy, ..ALL_BITS }).unwrap();
        assert_same_tree(&world.space.root, &world.golden());
    });
}

#[test]
fn materialize_takes_no_change_of_a_pristine_tree_into_a_space() {
    everywhere(|kind, strategy, world| {
        let options = Options { strategy, warm: true, ..ALL_BITS };
        world.materialize(&options).unwrap();
        fs::remove_dir_all(&world.space.root).unwrap();
        let trees = fs::read_dir(world.home.pristine_dir()).unwrap().map(|entry| entry.unwrap().path());
        for tree in trees.filter(|path| path.is_dir()) {
            fs::write(tree.join("plain/no-needle.txt"), "wrong").unwrap();
            fs::remove_file(tree.join("plain/one-byte.txt")).unwrap();
            fs::write(tree.join("plain/one-byte.txt"), "X").unwrap();
            fs::write(tree.join("plain/stranger"), "new").unwrap();
        }
        world.materialize(&options).unwrap();
        assert_same_tree(&world.space.root, &world.golden());
        assert!(!world.materialize(&options).unwrap().is_changed, "{kind} {strategy:?}");
    });
}

#[test]
fn materialize_takes_no_change_whose_time_was_set_back_into_a_space() {
    everywhere(|kind, strategy, world| {
        let options = Options { strategy, warm: true, ..ALL_BITS };
        world.materialize(&options).unwrap();
        let trees = fs::read_dir(world.home.pristine_dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut roots: Vec<PathBuf> = trees.filter(|path| path.is_dir()).collect();
        if strategy == Strategy::Hardlink {
            // On btrfs, too, its files are those of the raw store.
            roots = vec![world.space.root.clone()];
        }
        assert_eq!(roots.len(), 1, "{kind} {strategy:?}");
        std::thread::sleep(Duration::from_millis(20)); // the clock of change times is coarse
        forge(&roots[0].join("plain/no-needle.txt"));
        let other = world.other("other");
        other.materialize(&options).unwrap();
        assert_same_tree(&other.space.root, &world.golden_as(&other));
    });
}

#[test]
fn new_space_reads_what_was_linked_to_a_removed_space_once() {
    for kind in ["ext4", "btrfs"] {
        let Some(disk) = LoopFs::new(kind, MEGABYTES) else { continue };
        let world = World::new_in("gz", &disk.path());
        let options = Options { strategy: Strategy::Hardlink, ..ALL_BITS };
        world.materialize(&options).unwrap();
        fs::remove_dir_all(&world.space.root).unwrap(); // which changes the change time of every file
        let inode = || world.file("plain/no-needle.txt").metadata().unwrap().ino();
        world.materialize(&options).unwrap();
        let first = inode();
        fs::remove_dir_all(&world.space.root).unwrap();
        let report = world.materialize(&options).unwrap();
        assert_eq!(report.counts.get("pristine_changed"), None, "{kind}: {:?}", report.counts);
        assert!(report.counts["hardlinked"] > 0 && inode() == first, "{kind}: linked, not copied");
    }
}

/// Writes other bytes of the same length to the file, and sets its time back.
fn forge(file: &Path) {
    let meta = file.metadata().unwrap();
    fs::write(file, vec![b'x'; usize::try_from(meta.len()).unwrap()]).unwrap();
    fs::File::options().write(true).open(file).unwrap().set_modified(meta.modified().unwrap()).unwrap();
}

#[test]
fn doctor_finds_and_heals_a_file_changed_through_a_hardlink_and_names_its_space() {
    for kind in KINDS {
        let Some(disk) = LoopFs::new(kind, MEGABYTES) else { continue };
        let world = World::new_in("gz", &disk.path());
        let (other, path) = (world.other("other"), "plain/no-needle.txt");
        let options = Options { strategy: Strategy::Hardlink, ..ALL_BITS };
        for world in [&world, &other] {
            world.materialize(&options).unwrap();
        }
        let healthy = health::check(&world.home, &world.store(), Depth::default(), &Tally::new()).unwrap();
        assert!(healthy.changed.is_empty() && healthy.files > 0, "{kind}: {healthy:?}");
        // The other space no longer has the file: it must not be named.
        fs::remove_file(other.file(path)).unwrap();
        fs::write(world.file(path), "changed").unwrap();
        let depth = Depth { heals: true, reads: false };
        let found = health::check(&world.home, &world.store(), depth, &Tally::new()).unwrap();
        assert_eq!(found.changed.len(), 1, "{kind}: {found:?}");
        assert_eq!((found.changed[0].path.as_str(), found.changed[0].is_healed), (path, true));
        assert_eq!(found.changed[0].spaces, std::slice::from_ref(&world.space.root));
        assert_eq!(fs::read(world.file(path)).unwrap(), b"changed", "it belongs to its owner");
        other.materialize(&options).unwrap();
        assert_same_tree(&other.space.root, &world.golden_as(&other));
        let healed = health::check(&world.home, &world.store(), depth, &Tally::new()).unwrap();
        assert!(healed.changed.is_empty(), "{kind}: {healed:?}");
    }
}

#[test]
fn content_changed_with_its_time_set_back_is_found_and_healed() {
    for kind in ["ext4", "btrfs"] {
        let Some(disk) = LoopFs::new(kind, MEGABYTES) else { continue };
        let world = World::new_in("gz", &disk.path());
        world.materialize(&Options { strategy: Strategy::Hardlink, ..ALL_BITS }).unwrap();
        forge(&world.file("plain/no-needle.txt"));
        let check = |reads| {
            let store = world.store().with_paranoia(reads);
            health::check(&world.home, &store, Depth { heals: reads, reads }, &Tally::new()).unwrap().changed
        };
        // Its change time cannot be set back.
        assert_eq!(check(false).len(), 1, "{kind}");
        assert_eq!(check(true).len(), 1, "{kind}");
        assert_eq!(check(true).len(), 0, "{kind}: healed");
    }
}

#[test]
fn snapshot_without_privilege_is_made_repaired_and_removed() {
    let Some(disk) = LoopFs::new("btrfs", MEGABYTES) else { return };
    let world = World::new_in("gz", &disk.path());
    let as_nobody = |command: &mut Command| {
        let output = command.uid(65534).gid(65534).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // Not the golden tree: changing the owner clears setuid bits.
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(world.home.root()).status().unwrap();
    assert!(owned.success());
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).unwrap();
    // Left by a killed run: a subvolume that its owner may not delete as a whole.
    let remains = world.space.sibling(".holofs-tmp");
    as_nobody(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&remains));
    as_nobody(Command::new("touch").arg(remains.join("rest")));
    // Others may be unable to enter the directory of the build, as in /root.
    let bin = tempfile::tempdir().unwrap();
    fs::set_permissions(bin.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = bin.path().join("program");
    copy_program(std::env::current_exe().unwrap(), &program);
    let materialize = || {
        let mut command = Command::new(&program);
        let name = "materialize::interrupted::materialize_in_the_world_of_the_parent";
        command.args(["--ignored", "--exact", name]).env("HOLOFS_TEST_WORLD", world.root());
        as_nobody(&mut command);
    };
    for _ in 0..2 {
        materialize();
        assert_same_tree(&world.space.root, &world.golden());
        assert_eq!(world.space.root.metadata().unwrap().ino(), 256, "it is a subvolume");
        as_nobody(Command::new("rm").arg("-rf").arg(&world.space.root));
        assert!(!world.space.root.exists() && !remains.exists());
    }
}

/// Inode numbers below `dir`: of directories, of files that only this space may have, and of all others.
fn numbers(dir: &Path, own: &[PathBuf], found: &mut [Vec<u64>; 3]) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let facts = path.symlink_metadata().unwrap();
        let class = if facts.is_dir() { 0 } else { 2 - usize::from(own.contains(&path)) };
        found[class].push(facts.ino());
        if facts.is_dir() {
            numbers(&path, own, found);
        }
    }
}

#[test]
fn snapshot_keeps_its_patched_files_together() {
    let Some(disk) = LoopFs::new("btrfs", MEGABYTES) else { return };
    let world = World::new_in("gz", &disk.path());
    let (index, _) = Index::ensure(world.home.index_dir(), &world.catalog).unwrap();
    world.warm(&index);
    let tree = world.home.pristine_dir().join(index.id().to_string());
    let is_own = |node: &holofs::store::index::Node<'_>| matches!(node.kind, NodeKind::File(file) if !file.rewrite.is_empty() || node.mode & 0o7000 != 0);
    let own = index.nodes().filter(is_own).map(|node| tree.join(index.path_of(node.ino).unwrap().to_path()));
    let own: Vec<PathBuf> = own.collect();
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    numbers(&tree, &own, &mut found);
    let [dirs, own_files, others] = found;
    assert!(own.len() >= 48 && own_files.len() == own.len() && others.len() > 10);
    assert!(dirs.iter().max() < own_files.iter().min(), "directories come first");
    assert!(own_files.iter().max() < others.iter().min(), "files that are patched come next");
}

#[test]
fn warm_creates_a_tree_of_an_older_version_again() {
    for kind in ["btrfs", "ext4"] {
        let Some(disk) = LoopFs::new(kind, MEGABYTES) else { continue };
        let world = World::new_in("gz", &disk.path());
        let (index, _) = Index::ensure(world.home.index_dir(), &world.catalog).unwrap();
        let warm = || world.warm(&index).is_new;
        assert!(warm() && !warm());
        let stamp = world.home.pristine_dir().join(format!("{}.stamp", index.id()));
        let mut bytes = fs::read(&stamp).unwrap();
        assert_eq!(&bytes[..8], b"HOLOPRS4");
        bytes[7] = b'2';
        fs::write(&stamp, bytes).unwrap();
        assert!(warm() && !warm(), "{kind}");
        world.restore();
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn snapshot_killed_at_any_instant_is_whole_or_absent() {
    let Some(disk) = LoopFs::new("btrfs", MEGABYTES) else { return };
    let world = World::new_in("gz", &disk.path());
    for round in 0..30 {
        super::interrupted::killed_after(&world, std::time::Duration::from_millis(round * 2));
        if world.space.root.exists() {
            assert_same_tree(&world.space.root, &world.golden());
            fs::remove_dir_all(&world.space.root).unwrap();
        }
        if round % 10 == 9 {
            fs::remove_dir_all(world.home.pristine_dir()).ok();
        }
    }
    world.restore();
    assert_same_tree(&world.space.root, &world.golden());
}

#[test]
fn on_a_full_disk_nothing_is_made_and_with_room_the_next_run_succeeds() {
    for (kind, megabytes) in [("ext4", 64), ("tmpfs", 48), ("btrfs", 128), ("xfs", 320)] {
        let Some(disk) = LoopFs::new(kind, megabytes) else { continue };
        let world = World::new_in("gz", &disk.path());
        let ballast = disk.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        file.sync_all().ok();
        let outcome = world.materialize(&ALL_BITS);
        assert!(outcome.is_err() || kind == "btrfs", "{kind} had room left");
        if outcome.is_err() {
            assert!(!world.space.root.exists(), "{kind}");
        }
        // Not removed: that would free its space some time later.
        file.set_len(0).unwrap();
        // Freed space becomes available after a commit.
        assert!(Command::new("sync").arg("-f").arg(disk.path()).status().unwrap().success());
        let report = world.materialize(&ALL_BITS).unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        assert!(report.is_new);
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn materialize_of_a_warm_catalog_needs_no_blobs() {
    for kind in KINDS {
        let Some(disk) = LoopFs::new(kind, MEGABYTES) else { continue };
        let world = World::new_in("gz", &disk.path());
        let (index, _) = Index::ensure(world.home.index_dir(), &world.catalog).unwrap();
        let warm = || world.warm(&index);
        let (first, second) = (warm(), warm());
        assert_eq!((first.is_new, second.is_new), (true, false), "{kind}");
        assert_eq!(first.kind, if kind == "btrfs" { "subvolume" } else { "directory" });
        fs::remove_file(world.blob_of("plain/no-needle.txt")).unwrap();
        world.restore();
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn trees_beyond_the_limit_are_removed_least_recently_used_first() {
    let world = World::new("gz");
    let dir = world.home.pristine_dir();
    let hours_ago = |hours: u64| std::time::SystemTime::now() - Duration::from_secs(3600 * hours);
    let warmed = |rcc: &str, hours| {
        world.edit_catalog(|catalog| catalog["rcc"] = rcc.into());
        let (index, _) = Index::ensure(world.home.index_dir(), &world.catalog).unwrap();
        world.warm(&index);
        let stamp = fs::File::open(dir.join(format!("{}.stamp", index.id()))).unwrap();
        stamp.set_modified(hours_ago(hours)).unwrap();
        (dir.join(index.id().to_string()), index.content_bytes())
    };
    let (oldest, bytes) = warmed("one", 5);
    let (older, _) = warmed("two", 4);
    let (newest, _) = warmed("three", 3);
    let trim = |bytes, unused, dry_run| {
        holofs::space::materialize::trim(&dir, Bounds { bytes, unused, dry_run }, None).unwrap()
    };
    assert_eq!(trim(2 * bytes, None, true), std::slice::from_ref(&oldest));
    assert!(oldest.is_dir(), "it was only asked");
    assert_eq!(trim(2 * bytes, None, false), std::slice::from_ref(&oldest));
    assert_eq!([&oldest, &older, &newest].map(|tree| tree.is_dir()), [false, true, true]);
    // Each use updates the time, so only the unused tree is removed.
    world.restore();
    assert_eq!(trim(u64::MAX, Some(Duration::from_secs(7200)), false), [older]);
    assert!(newest.is_dir());
    assert_eq!(trim(0, None, false), [newest]);
    fs::remove_dir_all(&world.space.root).unwrap();
    world.restore();
    assert_same_tree(&world.space.root, &world.golden());
}
