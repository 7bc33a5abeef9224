//! The golden data: trees that RCC itself recorded, exported and restored; see `tests/data/golden/README.md`.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The identity of the recorded tree: the needle in its files.
pub const IDENTITY: &str = "h59acff1_493f813dad24d3t";
/// The hash of `golden.yaml`.
pub const BLUEPRINT: &str = "14023a1f332a0231";
/// The file name of the golden catalogs.
pub const CATALOG: &str = "14023a1f332a0231v12.linux_amd64";
/// The holotree in which the golden catalogs were recorded.
pub const BASE: &str = "/tmp/holofs-golden/holotree";
/// The space into which RCC restored them.
pub const SPACE: &str = "59acff1_ed69061_b99589a1";

/// The two kinds of hololib: gzip blobs named by SHA-256, and raw ones named by SipHash-128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    Gzip,
    Raw,
}

impl Regime {
    pub const BOTH: [Regime; 2] = [Regime::Gzip, Regime::Raw];

    fn suffix(self) -> &'static str {
        match self {
            Regime::Gzip => "gz",
            Regime::Raw => "raw",
        }
    }
}

/// A file of the golden data.
pub fn file(name: &str) -> PathBuf {
    super::project().join("tests/data/golden").join(name)
}

/// Unpacks `hololib/` as RCC left it into `home`, and moves its catalog to the base `holotree`.
pub fn unpack_hololib(regime: Regime, home: &Path, holotree: &Path) {
    untar(&file(&format!("hololib-dir-{}.tar.gz", regime.suffix())), home);
    rebase(&home.join("hololib/catalog").join(CATALOG), holotree);
}

/// Unpacks the recorded tree to `<holotree>/<IDENTITY>`, and returns that path.
pub fn unpack_stage(holotree: &Path) -> PathBuf {
    fs::create_dir_all(holotree).unwrap();
    untar(&file("stage-source.tar.gz"), holotree);
    holotree.join(IDENTITY)
}

/// Unpacks the space as RCC restored it below `dir`, and returns its path.
pub fn unpack_restored(regime: Regime, dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    untar(&file(&format!("restored-{}.tar.gz", regime.suffix())), dir);
    dir.join(SPACE)
}

/// Unpacks with modes and times, independent of the umask.
fn untar(archive: &Path, into: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--preserve-permissions", "--no-same-owner", "--file"]).arg(archive);
    super::run(tar.arg("--directory").arg(into));
}

/// Gives a catalog another base: only `path` changes; the contents of its files keep the old one.
pub fn rebase(catalog: &Path, holotree: &Path) {
    let text = inflate(&fs::read(catalog).unwrap());
    let base = holotree.to_str().unwrap();
    assert!(
        text.contains(&format!("\"path\": \"{BASE}/{IDENTITY}\"")),
        "not the golden catalog: {}",
        catalog.display()
    );
    fs::write(catalog, deflate(&text.replacen(BASE, base, 1))).unwrap();
}

/// The text of a catalog file.
pub fn inflate(stored: &[u8]) -> String {
    let mut text = String::new();
    MultiGzDecoder::new(stored).read_to_string(&mut text).unwrap();
    text
}

/// A catalog file with that text.
pub fn deflate(text: &str) -> Vec<u8> {
    gzip(text.as_bytes())
}

/// One gzip member with that content.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
