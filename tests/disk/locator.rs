//! The needle search against RCC's own results on the golden tree.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use holofs::store::relocate::needle::Search;
use serde_json::Value;

const NEEDLE: &[u8; 24] = b"h59acff1_493f813dad24d3t";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

/// The recorded tree, unpacked below `target`.
fn unpack_stage(target: &Path) {
    let status =
        Command::new("tar").arg("-xzf").arg(golden("stage-source.tar.gz")).arg("-C").arg(target).status();
    assert!(status.unwrap().success());
}

/// Every file of the catalog by its path in the tree, with its rewrite list. Absolute links lead into the stage of the machine
/// where the tree was recorded; their targets are in the tree as well.
fn rewrites(catalog: &str) -> BTreeMap<PathBuf, Vec<u64>> {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(golden(catalog)).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let catalog: Value = serde_json::from_str(&text).unwrap();
    let mut found = BTreeMap::new();
    let mut dirs = vec![(PathBuf::new(), &catalog["tree"])];
    while let Some((path, dir)) = dirs.pop() {
        for (name, file) in dir["files"].as_object().unwrap() {
            let offsets = file["rewrite"].as_array().unwrap().iter().map(|offset| offset.as_u64().unwrap());
            if !is_absolute_link(file) {
                found.insert(path.join(name), offsets.collect());
            }
        }
        let subdirs = dir["subdirs"].as_object().unwrap().iter().filter(|(_, dir)| !is_absolute_link(dir));
        dirs.extend(subdirs.map(|(name, dir)| (path.join(name), dir)));
    }
    found
}

fn is_absolute_link(entry: &Value) -> bool {
    entry["symlink"].as_str().is_some_and(|target| target.starts_with('/'))
}

/// The path of the stage below the unpacked directory: the directory that contains `identity.yaml`.
fn stage_root(top: &Path) -> PathBuf {
    let mut candidates = vec![top.to_owned()];
    while let Some(dir) = candidates.pop() {
        if dir.join("identity.yaml").is_file() {
            return dir;
        }
        candidates.extend(
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()),
        );
    }
    panic!("No identity.yaml in the stage");
}

fn search(content: &[u8], piece: usize) -> Vec<u64> {
    let mut search = Search::new(NEEDLE);
    content.chunks(piece).for_each(|piece| search.feed(piece));
    search.finish()
}

#[test]
fn offsets_equal_those_of_rcc_for_every_golden_file() {
    let temp = tempfile::tempdir().unwrap();
    unpack_stage(temp.path());
    let root = stage_root(temp.path());
    for catalog in ["catalog-gz.json.gz", "catalog-raw.json.gz"] {
        let expected = rewrites(catalog);
        assert!(expected.len() > 100, "only {} files", expected.len());
        for (path, offsets) in expected {
            let content = fs::read(root.join(&path)).unwrap();
            assert_eq!(search(&content, 32 * 1024), offsets, "{}", path.display());
            assert_eq!(search(&content, 1000), offsets, "{}", path.display());
        }
    }
}

#[test]
fn misses_and_duplicates_are_the_listed_ones() {
    let temp = tempfile::tempdir().unwrap();
    unpack_stage(temp.path());
    let root = stage_root(temp.path());
    let list = fs::read_to_string(golden("locator-differences.txt")).unwrap();
    let lines: Vec<&str> = list.lines().filter(|line| line.contains(" rcc=[")).collect();
    assert_eq!(lines.len(), 15);
    for line in lines {
        let (name, rest) = line.split_once(" size=").unwrap();
        let offsets = rest.split_once("rcc=[").unwrap().1.split_once(']').unwrap().0;
        let offsets: Vec<u64> =
            offsets.split(", ").filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect();
        let content = fs::read(root.join(name)).unwrap();
        assert_eq!(search(&content, 64 * 1024), offsets, "{name}");
    }
}
