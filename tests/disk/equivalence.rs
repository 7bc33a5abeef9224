//! The central law of HoloFS: mounted view == materialized tree == the reference oracle's restore, for any tree that can be
//! recorded.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::common::golden::{IDENTITY, inflate};
use crate::common::oracle;
use crate::common::test_home::TestHome;

/// One entry of a generated directory.
#[derive(Debug, Clone)]
enum Node {
    Dir(Vec<(String, Node)>),
    File {
        mode: u32,
        parts: Vec<Part>,
    },
    /// A link to the first named file or directory of the tree, with a path from the root.
    Link,
}

/// A part of a file's content.
#[derive(Debug, Clone)]
enum Part {
    /// The recorded identity.
    Needle,
    /// The last byte of the needle, which confuses RCC's search.
    Trigger,
    /// This many bytes that are not a needle.
    Filler(usize),
    /// Gzip's magic number: content that looks compressed.
    Magic,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Needle),
        1 => Just(Part::Trigger),
        1 => Just(Part::Magic),
        // Sizes around the chunks in which RCC searches, and small ones.
        3 => prop_oneof![0..200_usize, 32_700..32_800_usize, 65_500..65_560_usize].prop_map(Part::Filler),
    ]
}

/// Unusual names that RCC can handle; none that recording drops.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 _\\-ä<&]{1,12}(\\.[a-z]{1,2})?".prop_filter("dropped by the recorder", |name| {
        ![".hg", ".git", ".svn"].iter().any(|end| name.ends_with(end)) && name.trim() == name
    })
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600), Just(0o444), Just(0o4755), Just(0o2711)];
    let leaf = prop_oneof![
        4 => (mode, prop::collection::vec(part(), 0..5)).prop_map(|(mode, parts)| Node::File { mode, parts }),
        1 => Just(Node::Link),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| prop::collection::vec((name(), inner), 0..6).prop_map(Node::Dir))
}

fn content(parts: &[Part]) -> Vec<u8> {
    let bytes = |part: &Part| match part {
        Part::Needle => IDENTITY.as_bytes().to_vec(),
        Part::Trigger => vec![IDENTITY.as_bytes()[IDENTITY.len() - 1]],
        Part::Filler(len) => (0..*len).map(|at| (at % 251) as u8).collect(),
        Part::Magic => vec![0x1f, 0x8b, 8, 0],
    };
    parts.iter().flat_map(bytes).collect()
}

/// Creates the nodes below `dir`. Links point to `anchor`, a path from the root of the tree.
fn lay_out(dir: &Path, nodes: &[(String, Node)], anchor: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, node) in nodes {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match node {
            Node::Dir(children) => lay_out(&path, children, anchor),
            Node::File { mode, parts } => {
                fs::write(&path, content(parts)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Link => symlink(anchor, &path).unwrap(),
        }
    }
}

/// Records the nodes, with a directory and a file that links can point to.
fn record(test_home: &TestHome, nodes: &[(String, Node)]) -> String {
    let stage = test_home.holotree().join(IDENTITY);
    let anchor = stage.join("anchor");
    lay_out(&anchor, &[("f".into(), Node::File { mode: 0o640, parts: vec![Part::Needle] })], Path::new("f"));
    // Relative, because an absolute link would name the stage, which no longer exists later.
    let depth_free = PathBuf::from("anchor");
    symlink("anchor", stage.join("to-anchor")).unwrap();
    lay_out(&stage, nodes, &depth_free);
    relink(&stage, &stage);
    fs::write(test_home.scratch().join("name"), "generated").unwrap();
    let catalog = test_home.record(&stage, &test_home.scratch().join("name"));
    fs::remove_dir_all(&stage).unwrap();
    catalog
}

/// Makes every dangling link climb to the root first: recording refuses dangling links, as RCC does.
fn relink(root: &Path, dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() && !path.exists() {
            let depth = path.parent().unwrap().strip_prefix(root).unwrap().components().count();
            let target: PathBuf = std::iter::repeat_n("..", depth).chain(["anchor"]).collect();
            fs::remove_file(&path).unwrap();
            symlink(target, &path).unwrap();
        } else if path.is_dir() && !path.is_symlink() {
            relink(root, &path);
        }
    }
}

fn obey_the_law(nodes: &[(String, Node)], raw: bool, io: &str) {
    let test_home = TestHome::new();
    if raw {
        fs::create_dir_all(test_home.hololib().join("catalog")).unwrap();
        fs::write(test_home.hololib().join("catalog/compress.no"), "present").unwrap();
    }
    let name = record(&test_home, nodes);
    let mounted = test_home.mount(&name, "same", "law", &["--io", io]);
    let label = mounted.path().file_name().unwrap().to_owned();
    let expected = test_home.scratch().join("oracle").join(&label);
    fs::create_dir_all(expected.parent().unwrap()).unwrap();
    let text = inflate(&fs::read(test_home.hololib().join("catalog").join(&name)).unwrap());
    let catalog: serde_json::Value = serde_json::from_str(&text).unwrap();
    oracle::restore(&catalog, &test_home.hololib().join("library"), &expected);
    oracle::assert_same_tree(mounted.path(), &expected);
    mounted.unmount();
    // The same space, so the same label; now as files.
    let materialized = test_home.materialize(&name, "same", "law");
    assert_eq!(materialized.file_name().unwrap(), label);
    oracle::assert_same_tree(&materialized, &expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mounted_and_materialized_are_what_the_oracle_restores(
        nodes in prop::collection::vec((name(), node()), 0..8),
        raw in any::<bool>(),
        io in prop_oneof![Just("no-open"), Just("passthrough")],
    ) {
        obey_the_law(&nodes, raw, io);
    }
}
