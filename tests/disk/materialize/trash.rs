//! Removed directories: moved aside at once and deleted by the sweeper, or emptied in place where they cannot be moved.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holofs::space::materialize::{Other, sweep, trash_in};

use super::interrupted::killed_after;
use super::world::World;
use crate::common::loop_fs::LoopFs;
use crate::common::oracle::{assert_same_tree, tree_of};

/// Makes a directory that no catalog contains.
fn plant(world: &World, name: &str) -> PathBuf {
    let dir = world.file(name);
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    for file in ["a", "deep/b", "deep/er/c"] {
        fs::write(dir.join(file), name).unwrap();
    }
    fs::set_permissions(dir.join("deep/er"), Permissions::from_mode(0o555)).unwrap();
    dir
}

/// The path of this user's trash.
fn trash(world: &World) -> PathBuf {
    let uid = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap();
    world.space.base.join(format!(".holofs-trash-{uid}"))
}

#[test]
fn removed_directories_are_set_aside_and_counted_and_a_sweep_deletes_them() {
    let world = World::new("gz");
    world.restore();
    let open = File::open(plant(&world, "stranger").join("a")).unwrap();
    plant(&world, "plain/__pycache__");
    fs::write(world.file("plain/extra.txt"), "x").unwrap();
    fs::remove_file(world.file("plain/one-byte.txt")).unwrap();
    plant(&world, "plain/one-byte.txt");
    let report = world.restore();
    assert_eq!((report.counts["removed"], report.counts["set_aside"]), (4, 3));
    assert_same_tree(&world.space.root, &world.golden());
    assert_eq!(trash_in(&world.space.base), Some(trash(&world)));
    assert_eq!(fs::read_dir(trash(&world)).unwrap().count(), 3);
    assert!(!report.fallbacks.contains_key("set_aside") && report.swept_by.is_none());
    assert!(sweep(&world.space.base, Other::LeaveToIt).unwrap());
    assert_eq!(trash_in(&world.space.base), None);
    assert_eq!(open.metadata().unwrap().len(), 8, "who has a file open keeps it");
    assert!(!world.restore().is_changed);
}

#[test]
fn remove_empties_directories_in_place_where_none_can_be_set_aside_and_counts_it() {
    let world = World::new("gz");
    world.restore();
    fs::create_dir(trash(&world)).unwrap();
    fs::set_permissions(trash(&world), Permissions::from_mode(0o777)).unwrap();
    plant(&world, "one");
    plant(&world, "plain/two");
    let report = world.restore();
    assert_eq!((report.counts["removed"], report.counts.get("set_aside")), (2, None));
    assert_eq!(report.fallbacks["set_aside"].count, 2);
    assert_same_tree(&world.space.root, &world.golden());
    assert_eq!(fs::read_dir(trash(&world)).unwrap().count(), 0);
}

#[test]
fn remove_frees_a_nearly_full_disk_before_anything_is_placed() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let world = World::new_in("gz", &disk.path());
    world.restore();
    plant(&world, "old");
    assert_eq!(world.restore().counts["set_aside"], 1);
    plant(&world, "new");
    fs::remove_file(world.file("plain/no-needle.txt")).unwrap();
    let mut filler = File::create(disk.path().join("filler")).unwrap();
    let block = vec![1; 4096];
    while filler.write_all(&block).and_then(|()| filler.sync_data()).is_ok() {}
    filler.set_len(filler.metadata().unwrap().len() - 16384).unwrap();
    filler.sync_all().unwrap();
    let outcome = world.materialize(&super::world::ALL_BITS);
    let report = match outcome {
        Ok(report) => report,
        Err(holofs::space::materialize::MaterializeError::Incomplete { report }) => *report,
        Err(error) => panic!("{error}"),
    };
    assert_eq!((report.counts["removed"], report.counts.get("set_aside")), (1, None), "{report:?}");
    assert_eq!(report.fallbacks["trash"].count, 1, "{report:?}");
    assert_eq!(trash_in(&world.space.base), None);
    assert!(!world.file("new").exists());
    drop(filler);
    fs::remove_file(disk.path().join("filler")).unwrap();
    world.restore();
    assert_same_tree(&world.space.root, &world.golden());
}

#[test]
fn trash_contains_only_garbage_whenever_a_run_is_killed() {
    let world = World::new("gz");
    world.restore();
    let golden = tree_of(&world.golden());
    for delay in (0..30).map(Duration::from_millis) {
        (0..20).for_each(|number| drop(plant(&world, &format!("plain/{number}"))));
        killed_after(&world, delay);
        let left = tree_of(&world.space.root);
        for (path, entry) in &golden {
            let is_dir = matches!(entry, crate::common::oracle::Entry::Dir { .. });
            assert!(is_dir || left.get(path) == Some(entry), "{}", path.display());
        }
        world.restore();
        assert_same_tree(&world.space.root, &world.golden());
        assert!(sweep(&world.space.base, Other::WaitFor).unwrap());
        assert_eq!(trash_in(&world.space.base), None);
    }
}

#[test]
fn spaces_set_aside_while_others_sweep() {
    let world = World::new("gz");
    let worlds = [world.other("one"), world.other("two")];
    worlds.iter().for_each(|world| drop(world.restore()));
    let base = &world.space.base;
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for world in &worlds {
            scope.spawn(|| {
                for _ in 0..20 {
                    (0..10).for_each(|number| drop(plant(world, &format!("plain/{number}"))));
                    let report = world.restore();
                    assert_eq!(report.counts["removed"], 10, "{report:?}");
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        for other in [Other::LeaveToIt, Other::WaitFor] {
            let done = &done;
            scope.spawn(move || {
                let started = Instant::now();
                while done.load(Ordering::Relaxed) < 2 && started.elapsed() < Duration::from_secs(60) {
                    sweep(base, other).unwrap();
                }
            });
        }
    });
    assert!(sweep(base, Other::WaitFor).unwrap());
    assert_eq!(trash_in(base), None);
    for world in &worlds {
        assert_same_tree(&world.space.root, &world.golden_as(world));
    }
}
