//! An existing space: kept, repaired, switched.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use holofs::space::materialize::{Options, Strategy};
use serde_json::json;

use super::world::{ALL_BITS, World};
use crate::common::oracle::{self, assert_same_tree};

#[test]
fn materialize_again_keeps_every_inode_and_writes_no_meta() {
    for regime in ["gz", "raw"] {
        let world = World::new(regime);
        let first = world.restore();
        let inode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().ino();
        let before: Vec<u64> = oracle::tree_of(&world.space.root)
            .keys()
            .map(|path| inode(&world.space.root.join(path)))
            .collect();
        let meta = inode(&world.space.sibling(".meta"));
        fs::remove_dir_all(world.home.library()).unwrap();
        fs::create_dir(world.home.library()).unwrap();
        let second = world.restore();
        assert!(!second.is_new && !second.is_changed);
        let files = first.counts["copied"];
        assert_eq!(second.counts, [("kept", files + first.counts["links"])].into());
        let after: Vec<u64> = oracle::tree_of(&world.space.root)
            .keys()
            .map(|path| inode(&world.space.root.join(path)))
            .collect();
        assert_eq!(before, after);
        assert_eq!(inode(&world.space.sibling(".meta")), meta);
        assert_eq!(fs::read_to_string(world.space.sibling(".use")).unwrap(), "..");
    }
}

#[test]
fn materialize_takes_over_a_space_that_rcc_restored() {
    let world = World::new("gz");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(world.golden()).arg(&world.space.root).status();
    assert!(copied.unwrap().success());
    let report = world.restore();
    assert!(!report.is_new && !report.is_changed);
    assert!(world.space.sibling(".meta").exists(), "there was none, so one is written");
    assert_same_tree(&world.space.root, &world.golden());
}

#[test]
fn materialize_repairs_a_space_after_any_change() {
    let world = World::new("gz");
    world.restore();
    let outside = world.root().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "untouched").unwrap();
    mess_up(&world, &outside);
    let report = world.restore();
    assert_same_tree(&world.space.root, &world.golden());
    assert!(report.is_changed && !report.is_new);
    assert_eq!(oracle::tree_of(&outside).len(), 2);
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "untouched");
    assert!(!world.restore().is_changed);
}

pub fn mess_up(world: &World, outside: &std::path::Path) {
    let file = |path: &str| world.file(path);
    fs::write(file("plain/no-needle.txt"), "other size").unwrap();
    fs::set_permissions(file("plain/one-byte.txt"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(file("plain/inner.gz")).unwrap();
    fs::remove_file(file("plain/duplicate-a.txt")).unwrap();
    symlink(outside.join("precious"), file("plain/duplicate-a.txt")).unwrap();
    fs::remove_file(file("plain/duplicate-b.txt")).unwrap();
    fs::create_dir_all(file("plain/duplicate-b.txt/deep/er")).unwrap();
    fs::remove_dir_all(file("dirs")).unwrap();
    fs::write(file("dirs"), "a file where a directory was").unwrap();
    fs::remove_dir_all(file("straddle")).unwrap();
    symlink(outside, file("straddle")).unwrap();
    fs::remove_dir_all(file("names")).unwrap();
    fs::remove_file(file("links/to-file")).unwrap();
    symlink("../plain/one-byte.txt", file("links/to-file")).unwrap();
    fs::remove_file(file("links/to-dir")).unwrap();
    fs::create_dir_all(file("links/to-dir/full")).unwrap();
    fs::remove_file(file("links/to-link")).unwrap();
    fs::write(file("links/to-link"), "a file where a link was").unwrap();
    fs::create_dir_all(file("extra/__pycache__")).unwrap();
    fs::write(file("extra/__pycache__/x.pyc"), "x").unwrap();
    fs::write(file("bin/x.pyc"), "x").unwrap();
    symlink(outside, file("extra/link")).unwrap();
    symlink(outside, file("bin/link")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(file("bin/fifo")).status().unwrap();
    assert!(fifo.success());
    fs::remove_file(file("bin/tool")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(file("bin/tool")).unwrap();
}

#[test]
fn changed_modes_and_times_of_directories_are_left_alone_as_in_rcc() {
    let world = World::new("gz");
    world.restore();
    fs::set_permissions(world.file("plain"), Permissions::from_mode(0o700)).unwrap();
    assert!(!world.restore().is_changed);
    assert_eq!(world.file("plain").metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn materialize_finds_an_edit_of_the_same_size_only_with_verify() {
    let world = World::new("gz");
    world.restore();
    for path in ["plain/one-byte.txt", "reloc/one.txt", "reloc/large-sparse-hits.bin"] {
        let mut content = fs::read(world.file(path)).unwrap();
        *content.last_mut().unwrap() ^= 1;
        fs::write(world.file(path), content).unwrap();
    }
    let label = fs::read(world.file("reloc/many.txt")).unwrap();
    let text = String::from_utf8(label).unwrap();
    fs::write(world.file("reloc/many.txt"), text.replacen("59acff1_ed69061", "59acff1_ed69062", 1)).unwrap();
    assert!(!world.restore().is_changed, "as in RCC");
    let verified = world.materialize(&Options { verify: true, ..ALL_BITS }).unwrap();
    assert_eq!(verified.counts["copied"], 4);
    assert_same_tree(&world.space.root, &world.golden());
    let again = world.materialize(&Options { verify: true, ..ALL_BITS }).unwrap();
    assert!(!again.is_changed);
    assert_eq!(again.counts["kept"], world.restore().counts["kept"]);
}

/// Another catalog of the same identity: with missing, additional and changed entries.
pub fn change_catalog(world: &World) {
    world.edit_catalog(|catalog| {
        let dirs = catalog["tree"]["subdirs"].as_object_mut().unwrap();
        let other = dirs["plain"]["files"]["one-byte.txt"]["digest"].clone();
        dirs.remove("straddle");
        let mut twin = dirs["reloc"].clone();
        twin["name"] = json!("twin");
        dirs.insert("twin".into(), twin);
        let plain = dirs["plain"]["files"].as_object_mut().unwrap();
        plain.remove("inner.gz");
        plain["no-needle.txt"]["mode"] = json!(0o755);
        let mut as_file = plain["one-byte.txt"].clone();
        as_file["name"] = json!("killed");
        let mut as_dir = dirs["killed"].clone();
        as_dir["name"] = json!("identity.yaml");
        dirs.remove("killed");
        dirs.insert("identity.yaml".into(), as_dir);
        // The same size and mode, other content: only the digest differs.
        let hidden = dirs["dirs"]["subdirs"]["sticky"]["files"]["f"].as_object_mut().unwrap();
        assert_ne!(hidden["digest"], other);
        hidden["digest"] = other;
        let files = catalog["tree"]["files"].as_object_mut().unwrap();
        files.remove("identity.yaml");
        files.insert("killed".into(), as_file);
        let links = catalog["tree"]["subdirs"]["links"]["files"].as_object_mut().unwrap();
        links["to-file"]["symlink"] = json!("../plain/one-byte.txt");
    });
}

#[test]
fn switching_to_another_catalog_and_back_touches_only_what_differs() {
    for strategy in [Strategy::Copy, Strategy::Hardlink] {
        let world = World::new("gz");
        let options = Options { strategy, ..ALL_BITS };
        world.materialize(&options).unwrap();
        let stays = world.file("plain/big-5MB.bin").metadata().unwrap().ino();
        let golden = fs::read(&world.catalog).unwrap();
        change_catalog(&world);
        let expected = world.root().join("expected").join(world.space.label.as_str());
        fs::create_dir(expected.parent().unwrap()).unwrap();
        oracle::restore(&world.json(), &world.home.library(), &expected);
        let switched = world.materialize(&options).unwrap();
        assert_same_tree(&world.space.root, &expected);
        assert!(switched.is_changed);
        assert!(!world.materialize(&options).unwrap().is_changed);
        // Also without our own record, from RCC's `.meta` alone.
        fs::remove_dir_all(&world.space.state_dir).unwrap();
        fs::write(&world.catalog, golden).unwrap();
        let back = world.materialize(&options).unwrap();
        assert_same_tree(&world.space.root, &world.golden());
        assert!(back.counts["kept"] > 50, "{:?}", back.counts);
        assert_eq!(world.file("plain/big-5MB.bin").metadata().unwrap().ino(), stays);
    }
}
