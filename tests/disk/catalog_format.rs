//! The law of `catalog`: RCC's catalogs are read exactly and written back byte for byte. Invalid catalogs are refused with the
//! name of the entry, no matter how deep, long, truncated or malformed they are. [`round_trip`]: any tree comes back as it was written.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic, its helpers too

mod round_trip;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use holofs::error::chain;
use holofs::rcc::catalog::{Catalog, CatalogError, Dir, DirId, File, Flaw, Header, MAX_DEPTH, Rule, Stats};
use holofs::rcc::digest::{Digest, Regime};
use holofs::sys::fs::name::OwnedName;

use crate::common::bad_catalogs::{Class, IDENTITY, a_dir, a_file, deep, with_head, with_root, with_tree};
use crate::common::golden::gzip;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

fn gunzip(stored: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(stored).read_to_end(&mut content).unwrap();
    content
}

fn parse(json: &str) -> Result<Catalog, CatalogError> {
    Catalog::parse(&gzip(json.as_bytes()))
}

/// The directory at `path`, found by names.
fn dir<'a>(catalog: &'a Catalog, path: &str) -> &'a Dir {
    let names = path.split('/').filter(|name| !name.is_empty());
    let id = names.fold(catalog.root(), |at, name| {
        let child = |id: &&DirId| catalog.dir(**id).name.as_ref().unwrap().as_bytes() == name.as_bytes();
        *catalog.dir(at).subdirs.iter().find(child).unwrap_or_else(|| panic!("no {name} of {path}"))
    });
    catalog.dir(id)
}

fn file<'a>(catalog: &'a Catalog, path: &str) -> &'a File {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut files = dir(catalog, parent).files.iter();
    files.find(|file| file.name.as_bytes() == name.as_bytes()).unwrap_or_else(|| panic!("no {path}"))
}

// --- what RCC wrote ---------------------------------------------------------------------------------------------------

#[test]
fn parse_reads_every_value_of_the_golden_catalogs() {
    for (regime, tool) in [
        ("gz", "97cb822b82cd288e67ff03ca66c3e036c4fded9c3a5263d781bf6882f5c62f76"),
        ("raw", "d045ef3d09dbf26009b35b00d2472f9e"),
    ] {
        let (catalog, id) = Catalog::read(&golden(&format!("catalog-{regime}.json.gz"))).unwrap();
        let stored = std::fs::read(golden(&format!("catalog-{regime}.json.gz"))).unwrap();
        assert_eq!(id, Digest::of(Regime::Sha256, &stored));
        let path = format!("/tmp/holofs-golden/holotree/{IDENTITY}");
        let expected = Header {
            rcc: "v18.18.1".into(),
            identity: IDENTITY.into(),
            path,
            platform: "linux_amd64".into(),
            blueprint: "14023a1f332a0231".into(),
            lifted: true,
            ..Header::default()
        };
        assert_eq!(catalog.header, expected);
        assert_eq!(catalog.base(), Path::new("/tmp/holofs-golden/holotree"));
        let stats = Stats { directories: 47, files: 115, relocations: 49, bytes: 22394215 };
        assert_eq!(catalog.stats(), stats);
        assert_eq!(catalog.digests().count(), 115);
        assert_eq!(file(&catalog, "bin/tool").digest.unwrap().to_string(), tool);
    }
}

#[test]
fn links_modes_relocations_and_shadow_are_as_recorded() {
    let (catalog, _) = Catalog::read(&golden("catalog-gz.json.gz")).unwrap();
    let python = file(&catalog, "bin/python");
    assert_eq!((python.symlink.as_deref(), python.size), (Some("python3.11"), 10));
    assert_eq!(python.digest, file(&catalog, "bin/python3.11").digest);
    assert_eq!(file(&catalog, "bin/setuid").mode.permissions(), 0o4755);
    assert_eq!(file(&catalog, "bin/setgid").mode.permissions(), 0o2755);
    assert_eq!(file(&catalog, "bin/noread.txt").mode.permissions(), 0o200);
    assert_eq!(dir(&catalog, "dirs/sticky").mode.permissions(), 0o1777);
    assert_eq!(dir(&catalog, "dirs/mode0700").mode.permissions(), 0o700);
    let large = file(&catalog, "reloc/large-sparse-hits.bin");
    let offsets = [0, 32744, 32744, 32768, 65524, 100000, 131048, 131048, 200000, 299976];
    assert_eq!((large.size, &large.rewrite[..]), (300000, &offsets[..]));
    assert_eq!(file(&catalog, "reloc/only-needle.txt").rewrite, [0u64; 0]);
    assert_eq!(dir(&catalog, "links/to-dir").symlink.as_deref(), Some("../plain"));
    assert!(!dir(&catalog, "links/to-dir").shadow);
    let inner = dir(&catalog, "links/to-dir-with-links/inner-dir-link");
    assert_eq!((inner.symlink.as_deref(), inner.shadow), (Some("../empty-dir"), true));
    assert_eq!(file(&catalog, "names/html<&>\"quote'\\back.txt").size, 2);
    assert_eq!(file(&catalog, "names/ünïcödé 日本 🐍.txt").size, 2);
    assert_eq!(file(&catalog, "plain/big-5MB.bin").size, 5242880);
}

#[test]
fn parents_precede_children_and_names_are_sorted() {
    let (catalog, _) = Catalog::read(&golden("catalog-gz.json.gz")).unwrap();
    for (index, dir) in catalog.dirs().iter().enumerate() {
        assert!(dir.parent.is_none_or(|parent| parent.index() < index));
        assert!(dir.subdirs.is_sorted_by_key(|id| catalog.dir(*id).name.as_ref().map(OwnedName::as_bytes)));
        assert!(dir.files.is_sorted_by_key(|file| file.name.as_bytes()));
    }
}

#[test]
fn write_reproduces_the_bytes_that_rcc_wrote() {
    for name in ["catalog-gz", "catalog-raw", "space-meta-gz", "space-meta-raw"] {
        let stored = std::fs::read(golden(&format!("{name}.json.gz"))).unwrap();
        let catalog = Catalog::parse(&stored).unwrap();
        let mut written = Vec::new();
        catalog.write_to(&mut written).unwrap();
        assert!(gunzip(&written) == gunzip(&stored), "{name} differs");
        assert_eq!(Catalog::parse(&written).unwrap(), catalog);
    }
    for name in ["catalog-gz", "catalog-raw"] {
        let (catalog, _) = Catalog::read(&golden(&format!("{name}.json.gz"))).unwrap();
        assert_eq!(catalog.info_json(), std::fs::read(golden(&format!("{name}.info"))).unwrap());
    }
}

#[test]
fn write_with_the_head_of_a_space_reproduces_the_meta_of_rcc() {
    for regime in ["gz", "raw"] {
        let (catalog, _) = Catalog::read(&golden(&format!("catalog-{regime}.json.gz"))).unwrap();
        let (meta, _) = Catalog::read(&golden(&format!("space-meta-{regime}.json.gz"))).unwrap();
        let mut made = Catalog::clone(&catalog);
        made.header.identity = "59acff1_ed69061_b99589a1".into();
        made.header.path = "/tmp/holofs-golden/holotree/59acff1_ed69061_b99589a1".into();
        made.header.controller = "rcc.golden".into();
        made.header.space = "interop".into();
        assert_eq!(made, meta);
    }
}

// --- what a reader must accept ----------------------------------------------------------------------------------------

#[test]
fn null_absent_and_unknown_fields_are_tolerated() {
    for (subdirs, files) in [("null", "null"), ("{}", "{}"), (&a_dir("d", "")[..], &a_file("f", "")[..])] {
        parse(&with_tree(subdirs, files)).unwrap();
    }
    for more in [
        r#","rewrite":null"#,
        r#","rewrite":[]"#,
        r#","future":{"a":[1,-2,3.5e7,null,true,"x",{"b":{}}]}"#,
        r#","symlink":null"#,
        r#","symlink":"""#,
    ] {
        let catalog = parse(&with_tree("{}", &a_file("f", more))).unwrap();
        assert_eq!(file(&catalog, "f").rewrite, [0u64; 0]);
        assert_eq!(file(&catalog, "f").symlink, None);
    }
}

#[test]
fn parse_accepts_offsets_that_are_unsorted_duplicated_or_touch_the_end() {
    let catalog = parse(&with_tree("{}", &a_file("f", r#","rewrite":[76,0,0]"#))).unwrap();
    assert_eq!(file(&catalog, "f").rewrite, [76, 0, 0]);
}

#[test]
fn field_names_match_in_any_case_but_entry_names_do_not() {
    let json =
        with_tree("{}", &a_file("f", "")).replace("\"size\"", "\"SIZE\"").replace("\"tree\"", "\"Tree\"");
    assert_eq!(file(&parse(&json).unwrap(), "f").size, 100);
    let twins = with_tree("{}", &format!("{},{}", &a_file("f", "").trim_end_matches('}'), "}"));
    assert!(parse(&twins).is_err());
    let both = a_file("a", "").trim_end_matches('}').to_owned() + "}," + &a_file("A", "")[1..];
    assert_eq!(parse(&with_tree("{}", &both)).unwrap().stats().files, 2);
}

#[test]
fn parse_sorts_unsorted_entries() {
    let both = a_file("b", "").trim_end_matches('}').to_owned() + "}," + &a_file("a", "")[1..];
    let catalog = parse(&with_tree("{}", &both)).unwrap();
    let names: Vec<_> = catalog.dir(catalog.root()).files.iter().map(|file| file.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn parse_ignores_what_follows_the_first_value() {
    let json = with_tree("{}", "{}") + "trailing { nonsense";
    assert_eq!(parse(&json).unwrap().stats().directories, 1);
}

#[test]
fn zstd_and_several_gzip_members_are_read() {
    let json = with_tree("{}", &a_file("f", ""));
    let zstd = zstd::encode_all(json.as_bytes(), 3).unwrap();
    let (left, right) = json.as_bytes().split_at(77);
    let members = [gzip(left), gzip(right)].concat();
    assert_eq!(Catalog::parse(&zstd).unwrap(), parse(&json).unwrap());
    assert_eq!(Catalog::parse(&members).unwrap(), parse(&json).unwrap());
}

#[test]
fn parse_accepts_a_dangling_link_without_digest() {
    let link = format!(
        r#"{{"l":{{"name":"l","symlink":"gone","size":4,"mode":{},"digest":"N/A","rewrite":[]}}}}"#,
        1u32 << 27 | 0o777
    );
    let catalog = parse(&with_tree("{}", &link)).unwrap();
    assert_eq!(file(&catalog, "l").digest, None);
    assert_eq!(catalog.digests().count(), 0);
    let mut written = Vec::new();
    catalog.write_to(&mut written).unwrap();
    assert_eq!(Catalog::parse(&written).unwrap(), catalog);
}

// --- what must be refused ---------------------------------------------------------------------------------------------

fn class(error: &CatalogError) -> Option<Class> {
    Some(match error.flaw()? {
        Flaw::Json { .. } => Class::Json,
        Flaw::Header { .. } => Class::Header,
        Flaw::Entry { rule, .. } => match rule {
            Rule::Name(_) => Class::Name,
            Rule::OtherName { .. } => Class::OtherName,
            Rule::DuplicateName => Class::DuplicateName,
            Rule::DuplicateField { .. } => Class::DuplicateField,
            Rule::Shadow => Class::Shadow,
            Rule::Root => Class::Root,
            Rule::LinkText { .. } => Class::LinkText,
            Rule::Size { .. } => Class::Size,
            Rule::Mode { .. } => Class::Mode,
            Rule::Digest(_) => Class::Digest,
            Rule::NoDigest => Class::NoDigest,
            Rule::Relocation { .. } => Class::Relocation,
            _ => return None,
        },
        _ => return None,
    })
}

#[test]
fn parse_refuses_every_bad_catalog_and_names_its_entry() {
    let all = crate::common::bad_catalogs::all();
    assert!(all.len() >= 80, "only {} cases", all.len());
    for (json, expected, entry) in all {
        let shown: String = json.chars().take(400).collect();
        let error = parse(&json).expect_err(&shown);
        assert_eq!(class(&error), Some(expected), "{shown}: {error}");
        let printed = chain(&error).to_string();
        assert!(printed.contains(&entry), "{shown}: {printed}");
        assert!(printed.len() < 1000, "{shown}: {printed}");
        if let Some(named) = error.entry() {
            assert!(named.starts_with(&entry), "{named:?} is not {entry:?}: {error}");
        }
    }
}

#[test]
fn plain_json_and_other_files_are_not_compressed() {
    for stored in [&b""[..], b"{}", b"PK\x03\x04", with_tree("{}", "{}").as_bytes()] {
        let error = Catalog::parse(stored).unwrap_err();
        assert!(matches!(error.flaw(), Some(Flaw::NotCompressed)), "{error}");
    }
}

#[test]
fn parse_of_a_truncated_catalog_is_an_error_wherever_it_ends() {
    let stored = std::fs::read(golden("catalog-gz.json.gz")).unwrap();
    for length in (0..stored.len()).step_by(97).chain(stored.len() - 9..stored.len()) {
        let error = Catalog::parse(&stored[..length]).unwrap_err();
        assert!(
            matches!(error.flaw(), Some(Flaw::Inflate { .. } | Flaw::NotCompressed)),
            "{length}: {error}"
        );
    }
}

#[test]
fn truncated_json_and_a_flipped_byte_never_panic() {
    let json = gunzip(&std::fs::read(golden("catalog-raw.json.gz")).unwrap());
    for length in (0..json.len()).step_by(97) {
        assert!(Catalog::parse(&gzip(&json[..length])).is_err(), "{length}");
    }
    let stored = std::fs::read(golden("catalog-raw.json.gz")).unwrap();
    for position in (10..stored.len()).step_by(97) {
        let mut flipped = stored.clone();
        flipped[position] ^= 0x10;
        assert!(Catalog::parse(&flipped).is_err(), "the checksum of gzip missed {position}");
    }
}

#[test]
fn reading_by_path_names_the_file_and_refuses_other_versions() {
    let home = tempfile::tempdir().unwrap();
    let stored = std::fs::read(golden("catalog-gz.json.gz")).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(home.path().join(name), bytes).unwrap();
        Catalog::read(&home.path().join(name))
    };
    assert!(put("14023a1f332a0231v12.linux_amd64", &stored).is_ok());
    assert!(put("14023a1f332a0231v1.linux_amd64", &stored).is_ok());
    let other = put("14023a1f332a0231v13.linux_amd64", &stored).unwrap_err();
    assert!(matches!(&other, CatalogError::OtherVersion { version, .. } if version == "13"), "{other}");
    let cut = chain(&put("cut", &stored[..4000]).unwrap_err()).to_string();
    assert!(cut.contains("cut") && cut.contains("truncated"), "{cut}");
    let missing = Catalog::read(&home.path().join("missing")).unwrap_err();
    assert!(matches!(missing, CatalogError::Unreadable { .. }));
    assert!(matches!(Catalog::read(home.path()).unwrap_err(), CatalogError::NotAFile { .. }));
}

// --- depth and length -------------------------------------------------------------------------------------------------

#[test]
fn parse_and_write_take_a_tree_as_deep_as_a_path_can_be() {
    for levels in [2000, MAX_DEPTH] {
        let catalog = parse(&deep(levels)).unwrap();
        assert_eq!(catalog.dirs().len(), levels + 1);
        let mut written = Vec::new();
        catalog.write_to(&mut written).unwrap();
        assert_eq!(Catalog::parse(&written).unwrap(), catalog);
    }
}

#[test]
fn parse_of_a_deeper_tree_is_an_error_in_known_and_unknown_fields() {
    let levels = 100_000;
    let list = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let object = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let hostile = [
        deep(MAX_DEPTH + 1),
        deep(levels),
        with_root(&format!(r#"{{"name":"","mode":2147484141,"x":{list}}}"#)),
        with_root(&format!(r#"{{"name":"","mode":2147484141,"x":{object}}}"#)),
        with_head(&format!(r#""x":{list}"#), "{}"),
        with_tree("{}", &a_file("f", &format!(r#","x":{list}"#))),
        "[".repeat(levels),
        r#"{"tree":"#.repeat(levels),
        r#"{"x":"#.repeat(levels),
        with_root(&format!(r#"{{"name":{list}}}"#)),
        with_tree("{}", &a_file("f", &format!(r#","rewrite":{list}"#))),
    ];
    for json in hostile {
        let error = parse(&json).unwrap_err();
        let expected =
            matches!(error.flaw(), Some(Flaw::Json { .. } | Flaw::Entry { rule: Rule::TooDeep, .. }));
        assert!(expected && chain(&error).to_string().len() < 1000, "{error}");
    }
}

#[test]
fn inflate_refuses_a_bomb() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..600 {
        encoder.write_all(&spaces).unwrap();
    }
    let error = Catalog::parse(&encoder.finish().unwrap()).unwrap_err();
    assert!(matches!(error.flaw(), Some(Flaw::TooLarge { .. })), "{error}");
}

#[test]
fn json_too_long_for_memory_is_streamed_to_the_same_catalog() {
    let json = with_tree("{}", &a_file("f", r#","rewrite":[1,2]"#));
    let padded = format!("{}{json}", " ".repeat(65 << 20));
    assert_eq!(parse(&padded).unwrap(), parse(&json).unwrap());
    let stored = gzip(padded.as_bytes());
    assert!(Catalog::parse(&stored[..stored.len() - 4]).is_err(), "a truncated stream was taken");
}
