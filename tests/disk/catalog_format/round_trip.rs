//! A catalog that is written and read again is the same: generated ones, and the golden ones cut in two.

use holofs::rcc::catalog::{Catalog, Dir, DirId, EntryKind, File, GoMode, Header};
use holofs::rcc::digest::{Digest, Regime};
use holofs::sys::fs::name::OwnedName;
use proptest::prelude::*;

use super::{golden, gunzip, gzip};
use crate::common::bad_catalogs::IDENTITY;
use crate::common::golden::inflate;

/// A generated entry: small, but with everything that a catalog can contain.
#[derive(Debug, Clone)]
enum Sketch {
    File { size: u64, perm: u16, link: Option<String>, offsets: Vec<u64>, seed: u8, sip: bool },
    Dir { perm: u16, link: Option<String>, children: Vec<(String, Sketch)> },
}

fn names() -> impl Strategy<Value = String> {
    let special =
        prop_oneof![Just("<&>\"'\\"), Just("日本 🐍"), Just("\n\t\r\u{8}"), Just("\u{2028}"), Just("a b")];
    prop_oneof![3 => "[a-zA-Z0-9._-]{1,12}", 1 => special.prop_map(str::to_owned), 1 => "\\PC{1,20}"]
        .prop_filter("a name", |name| OwnedName::new(name.as_bytes()).is_ok())
}

fn links() -> impl Strategy<Value = Option<String>> {
    prop_oneof![4 => Just(None), 1 => "[a-z./<>&]{1,20}".prop_map(Some)]
}

fn sketches() -> impl Strategy<Value = Sketch> {
    let offsets = prop::collection::vec(0u64..976, 0..4);
    let file = (0u64..=1000, 0u16..=0o7777, links(), offsets, any::<u8>(), any::<bool>());
    let file = file.prop_map(|(size, perm, link, offsets, seed, sip)| {
        let offsets = offsets.into_iter().filter(|offset| offset + 24 <= size).collect();
        Sketch::File { size, perm, link, offsets, seed, sip }
    });
    file.prop_recursive(6, 60, 8, |inner| {
        let children = prop::collection::vec((names(), inner), 0..8);
        (0u16..=0o7777, links(), children).prop_map(|(perm, link, children)| Sketch::Dir {
            perm,
            link,
            children,
        })
    })
}

/// Adds the directory `sketch` and everything below it to the arena.
fn grow(
    dirs: &mut Vec<Dir>,
    name: Option<&str>,
    parent: Option<DirId>,
    shadow: bool,
    sketch: &Sketch,
) -> DirId {
    let Sketch::Dir { perm, link, children } = sketch else { unreachable!("a file is no directory") };
    let id = DirId(dirs.len() as u32);
    let symlink = link.as_deref().filter(|_| name.is_some()).map(Box::from);
    let below = shadow || symlink.is_some();
    let name = name.map(|name| OwnedName::new(name.as_bytes()).unwrap());
    let mode = GoMode::from_unix(EntryKind::Directory, *perm);
    dirs.push(Dir { name, parent, symlink, mode, shadow, subdirs: Vec::new(), files: Vec::new() });
    let unique: std::collections::BTreeMap<_, _> =
        children.iter().map(|(name, child)| (name.clone(), child)).collect();
    for (name, child) in unique {
        match child {
            Sketch::Dir { .. } => {
                let child = grow(dirs, Some(&name), Some(id), below, child);
                dirs[id.index()].subdirs.push(child);
            }
            Sketch::File { size, perm, link, offsets, seed, sip } => dirs[id.index()].files.push(File {
                name: OwnedName::new(name.as_bytes()).unwrap(),
                symlink: link.as_deref().map(Box::from),
                size: *size,
                mode: GoMode::from_unix(EntryKind::File, *perm),
                digest: Some(Digest::of(if *sip { Regime::SipHash128 } else { Regime::Sha256 }, &[*seed])),
                rewrite: offsets.clone(),
            }),
        }
    }
    id
}

fn header() -> Header {
    Header {
        rcc: "v18.18.1".into(),
        identity: IDENTITY.into(),
        path: format!("/b & c/{IDENTITY}"),
        platform: "linux_amd64".into(),
        blueprint: "14023a1f332a0231".into(),
        lifted: true,
        ..Header::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn write_and_parse_preserve_a_generated_catalog(children in prop::collection::vec((names(), sketches()), 0..8)) {
        let mut dirs = Vec::new();
        grow(&mut dirs, None, None, false, &Sketch::Dir { perm: 0o755, link: None, children });
        let catalog = Catalog::new(header(), dirs).unwrap();
        let mut written = Vec::new();
        catalog.write_to(&mut written).unwrap();
        prop_assert_eq!(&Catalog::parse(&written).unwrap(), &catalog);
        let json: serde_json::Value = serde_json::from_slice(&gunzip(&written)).unwrap();
        prop_assert_eq!(json["identity"].as_str(), Some(IDENTITY));
        let info: serde_json::Value = serde_json::from_slice(&catalog.info_json()).unwrap();
        prop_assert_eq!(&info["path"], &json["path"]);
    }

    #[test]
    fn parse_of_random_bytes_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Catalog::parse(&noise).is_err());
        prop_assert!(Catalog::parse(&gzip(&noise)).is_err());
    }
}

#[test]
fn validate_refuses_an_arena_that_is_not_a_tree() {
    let dir = |name: Option<&str>, parent: Option<u32>, subdirs: &[u32]| Dir {
        name: name.map(|name| OwnedName::new(name.as_bytes()).unwrap()),
        parent: parent.map(DirId),
        symlink: None,
        mode: GoMode::from_unix(EntryKind::Directory, 0o755),
        shadow: false,
        subdirs: subdirs.iter().copied().map(DirId).collect(),
        files: Vec::new(),
    };
    let bad = [
        vec![],
        vec![dir(None, None, &[1])],
        vec![dir(None, None, &[0])],
        vec![dir(None, None, &[]), dir(Some("a"), Some(0), &[])],
        vec![dir(None, None, &[1, 1]), dir(Some("a"), Some(0), &[])],
        vec![dir(None, None, &[1]), dir(Some("a"), Some(1), &[])],
        vec![dir(None, None, &[2, 1]), dir(Some("a"), Some(0), &[]), dir(Some("b"), Some(0), &[])],
        vec![dir(None, None, &[1]), dir(Some("a"), Some(2), &[2]), dir(Some("b"), Some(1), &[1])],
        vec![dir(None, None, &[1]), dir(None, None, &[])],
    ];
    for dirs in bad {
        let shown = format!("{dirs:?}");
        assert!(Catalog::new(header(), dirs).is_err(), "{shown}");
    }
}

#[test]
fn head_and_tail_together_are_the_catalog_whether_cut_or_written() {
    for name in ["catalog-gz.json.gz", "catalog-raw.json.gz"] {
        let path = golden(name);
        let (catalog, id) = Catalog::read(&path).unwrap();
        let (mut written, mut head) = (Vec::new(), Vec::new());
        catalog.write_tail(&mut written).unwrap();
        catalog.header.write_head(&mut head).unwrap();
        let (cut, read) = Catalog::tail_of(&path, &catalog.header).unwrap();
        assert_eq!((inflate(&cut), read), (inflate(&written), id));
        // With a head that differs from the recorded one, nothing can be reused, but the output is the same.
        let (rewritten, _) = Catalog::tail_of(&path, &Default::default()).unwrap();
        assert_eq!(inflate(&rewritten), inflate(&cut));
        let whole = [head, cut].concat();
        assert_eq!(inflate(&whole), inflate(&std::fs::read(&path).unwrap()));
        assert_eq!(Catalog::parse(&whole).unwrap(), catalog);
    }
}
