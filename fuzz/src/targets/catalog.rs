//! Catalogs: an accepted catalog is unchanged after it is written and read again.

use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::index::{Index, Ino};

/// The first byte selects whether the rest is the stored file or its JSON text.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let parsed = if kind % 2 == 0 { Catalog::parse(&gzip(rest)) } else { Catalog::parse(rest) };
    let catalog = match parsed {
        Ok(catalog) => catalog,
        Err(error) => return assert!(error.to_string().len() < 5_000),
    };
    let mut written = Vec::new();
    catalog.write_to(&mut written).unwrap();
    // Directories are numbered in the order of the text, which need not be sorted, so the text is compared.
    let (again, mut rewritten) = (Catalog::parse(&written).unwrap(), Vec::new());
    again.write_to(&mut rewritten).unwrap();
    assert!(rewritten == written, "written again, it is another");
    assert_eq!(again.stats(), catalog.stats());
    let id = Digest::of(Regime::Sha256, &written);
    let index = Index::from_bytes(Index::build(&catalog, &id).unwrap()).unwrap();
    super::queries::walk(&index, Ino::ROOT);
}

/// The golden catalogs in all forms, shortened to be quick.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in ["catalog-gz.json.gz", "catalog-raw.json.gz", "space-meta-gz.json.gz"] {
        let stored = std::fs::read(golden.join(name)).unwrap();
        let mut text = Vec::new();
        MultiGzDecoder::new(&stored[..]).read_to_end(&mut text).unwrap();
        seeds.push([&[0], &text[..]].concat());
        seeds.push([&[1], &stored[..]].concat());
        seeds.push([&[1], &zstd::encode_all(&text[..], 1).unwrap()[..]].concat());
    }
    let head = r#"{"identity":"h59acff1_493f813dad24d3t","path":"/b/h59acff1_493f813dad24d3t","blueprint":"14023a1f332a0231","tree":"#;
    let sha = "97cb822b82cd288e67ff03ca66c3e036c4fded9c3a5263d781bf6882f5c62f76";
    for (dirs, files) in [
        ("null".to_owned(), "null".to_owned()),
        ("{}".to_owned(), format!(r#"{{"f":{{"name":"f","size":100,"mode":420,"digest":"{sha}","rewrite":[0,76]}}}}"#)),
        (r#"{"d":{"name":"d","mode":2147484141,"symlink":"../x","subdirs":{"e":{"name":"e","mode":2147484141,"shadow":true}}}}"#.to_owned(), "{}".to_owned()),
    ] {
        let text = format!(r#"{head}{{"name":"","mode":2147484141,"subdirs":{dirs},"files":{files}}}}}"#);
        seeds.push([&[0], text.as_bytes()].concat());
    }
    seeds
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
