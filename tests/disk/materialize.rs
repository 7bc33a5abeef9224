//! The laws of materialize: the same tree as RCC's restore, for any previous state of the directory, and never a wrong or partial file.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests and their helpers fail loudly")]

mod attacks;
mod command;
mod interrupted;
mod listed;
mod refresh;
mod tiers;
mod trash;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::oracle::{self, assert_same_tree};
use holofs::space::SpaceError;
use holofs::space::materialize::{FileErrorKind, MaterializeError, Options, Strategy};
use world::{ALL_BITS, World};

const LABEL: &str = "59acff1_ed69061_b99589a1";

fn with_suffixes(suffixes: &[&str]) -> Vec<String> {
    suffixes.iter().map(|suffix| format!("{LABEL}{suffix}")).collect()
}

#[test]
fn oracle_restores_the_golden_tree() {
    for regime in ["gz", "raw"] {
        let world = World::new(regime);
        let space = world.root().join("oracle").join(LABEL);
        fs::create_dir(space.parent().unwrap()).unwrap();
        oracle::restore(&world.json(), &world.home.library(), &space);
        assert_same_tree(&space, &world.golden());
    }
}

#[test]
fn materialize_equals_what_rcc_restored() {
    for regime in ["gz", "raw"] {
        for strategy in [Strategy::Auto, Strategy::Reflink, Strategy::Hardlink, Strategy::Copy] {
            let world = World::new(regime);
            let report = world.materialize(&Options { strategy, ..ALL_BITS }).unwrap();
            assert_same_tree(&world.space.root, &world.golden());
            assert_eq!(
                world.siblings(),
                with_suffixes(&["", ".lck", ".meta", ".meta.info", ".use"]),
                "{strategy:?}"
            );
            assert_eq!(fs::read_to_string(world.space.sibling(".use")).unwrap(), ".");
            assert!(report.is_new && report.is_changed);
        }
    }
}

#[test]
fn materialize_counts_every_entry_once() {
    let world = World::new("gz");
    let report = world.materialize(&Options { strategy: Strategy::Copy, ..ALL_BITS }).unwrap();
    let tree = oracle::tree_of(&world.golden());
    let count =
        |wanted: fn(&oracle::Entry) -> bool| tree.values().filter(|&entry| wanted(entry)).count() as u64;
    assert_eq!(report.counts["copied"], count(|entry| matches!(entry, oracle::Entry::File { .. })));
    assert_eq!(report.counts["links"], count(|entry| matches!(entry, oracle::Entry::Link { .. })));
    assert_eq!(report.counts["directories"] + 1, count(|entry| matches!(entry, oracle::Entry::Dir { .. })));
    let bytes: u64 =
        tree.values().map(|entry| if let oracle::Entry::File { size, .. } = entry { *size } else { 0 }).sum();
    assert_eq!(report.counts["placed_bytes"], bytes);
    assert_eq!(report.counts["relocated"], 48);
    assert_eq!(report.fallbacks, BTreeMap::new());
}

#[test]
fn hardlinks_are_made_only_where_they_are_not_visible() {
    let world = World::new("gz");
    let report = world.materialize(&Options { strategy: Strategy::Hardlink, ..ALL_BITS }).unwrap();
    let links = |path: &str| world.file(path).metadata().unwrap().nlink();
    assert_eq!(report.strategy, "hardlink");
    assert_eq!(links("plain/no-needle.txt"), 3, "raw store, pristine tree, space");
    assert_eq!(links("bin/readonly.txt"), 3);
    for alone in ["plain/empty.txt", "reloc/one.txt", "bin/setuid", "bin/setgid", "bin/noread.txt"] {
        assert_eq!(links(alone), 1, "{alone}");
    }
    let again = world.materialize(&Options { strategy: Strategy::Hardlink, ..ALL_BITS }).unwrap();
    assert!(!again.is_changed);
    let (hard, copied) = (report.counts["hardlinked"], report.counts["copied"]);
    assert_eq!(again.counts["kept"], hard + copied + report.counts["links"]);
}

#[test]
fn materialize_shares_no_inode_by_default() {
    let world = World::new("gz");
    world.restore();
    for (path, entry) in oracle::tree_of(&world.space.root) {
        if let oracle::Entry::File { .. } = entry {
            assert_eq!(world.space.root.join(&path).metadata().unwrap().nlink(), 1, "{}", path.display());
        }
    }
}

#[test]
fn materialize_as_root_drops_and_counts_setuid_and_setgid_unless_allowed() {
    if !is_root() {
        return eprintln!("skipped: only root drops bits");
    }
    let world = World::new("gz");
    let report = world.materialize(&Options { allow_setuid: false, ..ALL_BITS }).unwrap();
    let mode = |path: &str| world.file(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("bin/setuid"), mode("bin/setgid")), (0o755, 0o755));
    assert_eq!(report.counts["setuid_dropped"], 2);
    let again = world.materialize(&Options { allow_setuid: false, ..ALL_BITS }).unwrap();
    assert!(!again.is_changed);
    let allowed = world.restore();
    assert_eq!(allowed.counts["copied"], 2);
    assert_same_tree(&world.space.root, &world.golden());
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[test]
fn materialize_names_a_damaged_blob_and_leaves_no_new_space() {
    for (regime, damage) in
        [("gz", "gone"), ("gz", "flipped"), ("raw", "gone"), ("raw", "flipped"), ("raw", "short")]
    {
        let world = World::new(regime);
        let blob = world.blob_of("plain/no-needle.txt");
        let stored = fs::read(&blob).unwrap();
        damage_blob(&blob, damage);
        let report = incomplete(world.materialize(&ALL_BITS));
        assert_eq!(report.errors.len(), 1, "{:?}", report.errors);
        assert_eq!(report.errors[0].path, "plain/no-needle.txt");
        assert_eq!(report.errors[0].kind, FileErrorKind::Blob);
        assert_eq!(world.siblings(), with_suffixes(&[".lck"]), "{regime} {damage}");
        fs::write(&blob, stored).unwrap();
        world.restore();
        assert_same_tree(&world.space.root, &world.golden());
    }
}

#[test]
fn materialize_in_place_loses_only_the_file_of_a_damaged_blob() {
    let world = World::new("gz");
    world.restore();
    let meta = fs::read(world.space.sibling(".meta")).unwrap();
    fs::remove_file(world.file("plain/no-needle.txt")).unwrap();
    fs::remove_file(world.file("plain/one-byte.txt")).unwrap();
    fs::write(world.file("plain/duplicate-a.txt"), "mine").unwrap();
    for bad in ["plain/no-needle.txt", "plain/duplicate-a.txt"] {
        damage_blob(&world.blob_of(bad), "flipped");
    }
    fs::remove_dir_all(world.home.raw_dir()).ok();
    let report = incomplete(world.materialize(&ALL_BITS));
    let failed: Vec<&str> = report.errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(failed, ["plain/duplicate-a.txt", "plain/no-needle.txt"]);
    assert!(!world.file("plain/no-needle.txt").exists());
    assert_eq!(fs::read_to_string(world.file("plain/duplicate-a.txt")).unwrap(), "mine");
    assert!(world.file("plain/one-byte.txt").exists());
    assert_eq!(fs::read(world.space.sibling(".meta")).unwrap(), meta);
    assert_eq!(fs::read_to_string(world.space.sibling(".use")).unwrap(), ".");
}

#[test]
fn materialize_reports_a_wrong_offset_as_an_error_of_its_file() {
    let world = World::new("gz");
    world.edit_catalog(|catalog| {
        catalog["tree"]["subdirs"]["reloc"]["files"]["one.txt"]["rewrite"] = serde_json::json!([34]);
    });
    let report = incomplete(world.materialize(&ALL_BITS));
    assert_eq!(report.errors.len(), 1);
    assert_eq!(
        (report.errors[0].path.as_str(), report.errors[0].kind),
        ("reloc/one.txt", FileErrorKind::Catalog)
    );
    assert_eq!(world.siblings(), with_suffixes(&[".lck"]));
}

#[test]
fn materialize_refuses_a_space_that_is_live_locked_or_elsewhere() {
    let world = World::new("gz");
    let live = world.space.go_live().unwrap();
    let refused = world.materialize(&ALL_BITS);
    assert!(matches!(refused, Err(MaterializeError::Space(SpaceError::Live { holder: Some(_), .. }))));
    drop(live);
    let lock = world.space.lock(ALL_BITS.wait, &|_| {}).unwrap();
    assert!(matches!(world.materialize(&ALL_BITS), Err(MaterializeError::Space(SpaceError::Locked { .. }))));
    drop(lock);
    world.edit_catalog(|catalog| {
        catalog["path"] = format!("/elsewhere/{}", catalog["identity"].as_str().unwrap()).into()
    });
    assert!(matches!(world.materialize(&ALL_BITS), Err(MaterializeError::OtherBase { .. })));
    assert!(!world.space.root.exists());
}

fn damage_blob(blob: &std::path::Path, how: &str) {
    let mut stored = fs::read(blob).unwrap();
    match how {
        "gone" => return fs::remove_file(blob).unwrap(),
        "short" => stored.truncate(stored.len() - 1),
        _ => {
            let middle = stored.len() / 2;
            stored[middle] ^= 1;
        }
    }
    fs::write(blob, stored).unwrap();
}

fn incomplete(
    outcome: Result<holofs::space::materialize::MaterializeReport, MaterializeError>,
) -> holofs::space::materialize::MaterializeReport {
    match outcome {
        Err(MaterializeError::Incomplete { report }) => *report,
        other => panic!("not incomplete: {other:?}"),
    }
}
