//! A directory whose entries did not change is not listed again; every change is found.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holofs::sys::fs::disk;

use super::refresh::{change_catalog, mess_up};
use super::world::World;
use crate::common::oracle::assert_same_tree;

/// A space with known directories, and their number; `None`, with a message, where directories are always listed.
fn known() -> Option<(World, u64)> {
    let world = World::new("gz");
    let name = disk::file_system(world.root()).unwrap_or_default();
    if !["ext4", "xfs", "btrfs", "tmpfs"].contains(&name.as_str()) {
        assert!(std::env::var_os("HOLOFS_NO_SKIP").is_none(), "{name} has no times of change to trust");
        eprintln!("skipped: {name} has no times of change to trust");
        return None;
    }
    let directories = world.restore().counts["directories"] + 1;
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(unlisted(&world), None);
    assert_eq!(unlisted(&world), Some(directories));
    Some((world, directories))
}

/// Restores an unchanged space, and returns how many directories were not listed.
fn unlisted(world: &World) -> Option<u64> {
    let report = world.restore();
    assert!(!report.is_changed && !report.is_new, "{:?}", report.counts);
    report.counts.get("unlisted").copied()
}

fn record(world: &World) -> PathBuf {
    world.space.state_dir.join("listed")
}

#[test]
fn materialize_finds_every_change_in_a_known_directory() {
    let Some((world, _)) = known() else { return };
    let outside = world.root().join("outside");
    fs::create_dir(&outside).unwrap();
    mess_up(&world, &outside);
    assert!(world.restore().is_changed);
    assert_same_tree(&world.space.root, &world.golden());
    assert!(unlisted(&world).is_some(), "some were left alone");
}

#[test]
fn materialize_finds_each_single_change_and_lists_only_its_directories() {
    let Some((world, directories)) = known() else { return };
    let file = |path: &str| world.file(path);
    // The changes, and how many directories each causes to be listed.
    let changes: [(&str, &dyn Fn(), u64); 7] = [
        ("a file grew", &|| fs::write(file("plain/one-byte.txt"), "longer").unwrap(), 0),
        (
            "a mode",
            &|| fs::set_permissions(file("plain/no-needle.txt"), Permissions::from_mode(0o600)).unwrap(),
            0,
        ),
        ("an extra", &|| fs::write(file("plain/extra"), "").unwrap(), 1),
        ("an extra far below", &|| fs::create_dir(file("plain/extra")).unwrap(), 1),
        ("a removal", &|| fs::remove_file(file("plain/inner.gz")).unwrap(), 1),
        (
            "another link",
            &|| {
                fs::remove_file(file("links/to-file")).unwrap();
                symlink("../plain/one-byte.txt", file("links/to-file")).unwrap();
            },
            1,
        ),
        // Their entries are swapped with each other, and their parent's names are unchanged.
        (
            "two directories have changed places",
            &|| {
                fs::rename(file("plain"), file("aside")).unwrap();
                fs::rename(file("links"), file("plain")).unwrap();
                fs::rename(file("aside"), file("links")).unwrap();
            },
            3,
        ),
    ];
    for (what, change, listed) in changes {
        change();
        let report = world.restore();
        assert!(report.is_changed, "{what}");
        assert_eq!(report.counts["unlisted"], directories - listed, "{what}");
        assert_same_tree(&world.space.root, &world.golden());
        // A repaired directory is known again once its change time is old enough.
        std::thread::sleep(Duration::from_millis(3100));
        unlisted(&world);
        assert_eq!(unlisted(&world), Some(directories), "{what}");
    }
}

#[test]
fn materialize_does_not_trust_a_very_recent_change() {
    let Some((world, directories)) = known() else { return };
    let extra = world.file("plain/extra");
    loop {
        let changed = Instant::now();
        fs::write(&extra, "").unwrap();
        fs::remove_file(&extra).unwrap();
        unlisted(&world);
        let trusted = unlisted(&world);
        // On a slow machine the change is no longer recent.
        if changed.elapsed() < Duration::from_secs(2) {
            assert_eq!(trusted, Some(directories - 1), "another change may still bear the same time");
            break;
        }
    }
    fs::write(&extra, "").unwrap();
    assert!(world.restore().is_changed);
    assert_same_tree(&world.space.root, &world.golden());
}

#[test]
fn materialize_ignores_a_record_that_is_damaged_or_of_another_catalog() {
    let Some((world, directories)) = known() else { return };
    let good = fs::read(record(&world)).unwrap();
    for at in [0, 8, 12, 44, 60, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(record(&world), bad).unwrap();
        assert_eq!(unlisted(&world), None, "byte {at}");
        assert_eq!(unlisted(&world), Some(directories), "made again");
    }
    fs::write(record(&world), &good[..good.len() - 7]).unwrap();
    assert_eq!(unlisted(&world), None);
    world.edit_catalog(|catalog| {
        let files = catalog["tree"]["subdirs"]["plain"]["files"].as_object_mut().unwrap();
        files.remove("one-byte.txt").unwrap();
    });
    let report = world.restore();
    assert!(report.is_changed && !report.counts.contains_key("unlisted"));
    assert!(!world.file("plain/one-byte.txt").exists());
}

#[test]
fn materialize_after_a_switch_lists_every_directory_once() {
    let Some((world, directories)) = known() else { return };
    let (golden, good) = (fs::read(&world.catalog).unwrap(), fs::read(record(&world)).unwrap());
    change_catalog(&world);
    assert!(!world.restore().counts.contains_key("unlisted"));
    fs::write(&world.catalog, golden).unwrap();
    fs::write(record(&world), good).unwrap(); // a record that is no longer true
    let back = world.restore();
    assert!(back.is_changed && !back.counts.contains_key("unlisted"));
    assert_same_tree(&world.space.root, &world.golden());
    std::thread::sleep(Duration::from_millis(3100));
    fs::remove_dir_all(&world.space.state_dir).unwrap();
    assert_eq!(unlisted(&world), None, "from RCC's .meta alone");
    assert_eq!(unlisted(&world), Some(directories));
}
