//! Links planted in a space, next to it, and during the work: they are replaced or removed, and never followed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::World;
use crate::common::oracle::{assert_same_tree, tree_of};

/// A directory outside the space that must not be touched.
fn victim(world: &World) -> PathBuf {
    let victim = world.root().join("victim");
    fs::create_dir_all(victim.join("bin")).unwrap();
    fs::write(victim.join("bin/tool"), "precious").unwrap();
    fs::write(victim.join("file"), "precious").unwrap();
    victim
}

fn plant(at: &Path, target: &Path) {
    match fs::symlink_metadata(at) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(at).unwrap(),
        Ok(_) => fs::remove_file(at).unwrap(),
        Err(_) => {}
    }
    symlink(target, at).unwrap();
}

#[test]
fn materialize_replaces_a_planted_link_wherever_it_is() {
    let places =
        ["", "bin", "bin/tool", "bin/python", "links/to-dir", "plain/empty.txt", "dirs/only/dirs", "new"];
    for place in places {
        for existing in [true, false] {
            let world = World::new("gz");
            let victim = victim(&world);
            let before = tree_of(&victim);
            if existing {
                world.restore();
                let at = if place.is_empty() { world.space.root.clone() } else { world.file(place) };
                plant(&at, &victim);
            } else {
                // Before the space exists: at the space itself, and at the name under which it is built.
                fs::create_dir_all(&world.space.base).unwrap();
                plant(&world.space.root, &victim);
                plant(&world.space.sibling(".holofs-tmp"), &victim);
            }
            world.restore();
            assert_same_tree(&world.space.root, &world.golden());
            assert_eq!(tree_of(&victim), before, "at {place:?}, existing: {existing}");
        }
    }
}

#[test]
fn materialize_never_writes_through_a_planted_link_at_a_sibling() {
    for suffix in [".meta", ".meta.info", ".meta.holofs-tmp", ".meta.info.holofs-tmp", ".use"] {
        let world = World::new("gz");
        let victim = victim(&world);
        let before = tree_of(&victim);
        fs::create_dir_all(&world.space.base).unwrap();
        plant(&world.space.sibling(suffix), &victim.join("file"));
        world.restore();
        assert_eq!(tree_of(&victim), before, "at {suffix}");
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn materialize_writes_nothing_elsewhere_when_a_directory_is_swapped_for_a_link() {
    let world = World::new("gz");
    let victim = victim(&world);
    let before = tree_of(&victim);
    world.restore();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, aside) = (world.file("bin"), world.file("aside"));
            while !stop.load(Ordering::Relaxed) {
                if fs::rename(&dir, &aside).is_ok() {
                    symlink(&victim, &dir).ok();
                    std::thread::yield_now();
                    fs::remove_file(&dir).ok();
                    fs::rename(&aside, &dir).ok();
                }
            }
        });
        for _ in 0..100 {
            // The result does not matter: the attacker may cause a failure, but no write or removal elsewhere. (There is no
            // `tool` in the victim's top directory that this removal could affect.)
            fs::remove_file(world.file("bin/tool")).ok();
            world.materialize(&super::ALL_BITS).ok();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(tree_of(&victim), before);
    world.restore();
    assert_same_tree(&world.space.root, &world.golden());
}
