//! A run that ends at any instant: the next one repairs, and a new space is complete or does not exist.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::world::{ALL_BITS, World};
use crate::common::oracle::{assert_same_tree, tree_of};

const WORLD: &str = "HOLOFS_TEST_WORLD";

/// Not a test: the tests below start and kill it.
#[test]
#[ignore = "a helper of the others, run by them in a process of its own"]
fn materialize_in_the_world_of_the_parent() {
    let root = std::env::var_os(WORLD).unwrap();
    World::at(Path::new(&root)).materialize(&ALL_BITS).unwrap();
}

/// Starts a materialize of `world` in another process and kills it after a while; true if it had ended before.
pub fn killed_after(world: &World, delay: Duration) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "materialize::interrupted::materialize_in_the_world_of_the_parent"])
        .env(WORLD, world.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(delay);
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

#[test]
fn materialize_killed_at_any_time_leaves_a_whole_new_space_or_none() {
    let world = World::new("gz");
    let mut unfinished = 0;
    for delay in (0..40).map(Duration::from_millis) {
        unfinished += u32::from(!killed_after(&world, delay));
        if world.space.root.exists() {
            assert_same_tree(&world.space.root, &world.golden());
            fs::remove_dir_all(&world.space.root).unwrap();
        }
    }
    assert!(unfinished > 0, "not one run was killed in time");
    world.restore();
    assert_same_tree(&world.space.root, &world.golden());
    assert!(!world.space.sibling(".holofs-tmp").exists());
}

#[test]
fn materialize_killed_in_repair_leaves_no_half_file_and_the_next_run_finishes() {
    let world = World::new("gz");
    world.restore();
    for delay in (0..30).map(Duration::from_millis) {
        for dir in ["plain", "reloc", "straddle", "d00"] {
            fs::remove_dir_all(world.file(dir)).unwrap();
        }
        fs::write(world.file("bin/tool"), "changed").unwrap();
        killed_after(&world, delay);
        let golden = tree_of(&world.golden());
        for (path, entry) in tree_of(&world.space.root) {
            let name = path.to_string_lossy();
            let in_the_making = name.contains(".holofs-part-") || name == "bin/tool";
            assert!(in_the_making || golden.get(&path) == Some(&entry), "{name}: {entry:?}");
        }
        world.restore();
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn materialize_after_an_unfinished_switch_trusts_no_old_records() {
    let world = World::new("gz");
    world.restore();
    // The state left by a killed switch to another catalog: a file with that catalog's content, of the same size and
    // mode as ours, under an old `.meta` that says it is ours.
    world.space.set_restoring("another catalog").unwrap();
    let size = fs::metadata(world.file("plain/no-needle.txt")).unwrap().len();
    fs::write(world.file("plain/no-needle.txt"), vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    let report = world.restore();
    assert_eq!(report.counts["copied"], 1);
    assert_same_tree(&world.space.root, &world.golden());
    assert!(!world.restore().is_changed);
    assert!(!world.space.is_half_restored());
}
