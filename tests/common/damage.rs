//! Ways to damage a blob of the golden hololib, and the paths of its blobs.

use std::fs;
use std::path::{Path, PathBuf};

use super::golden::{self, CATALOG};
use super::test_home::TestHome;

/// A kind of damage to a blob, and its name.
pub type Damage = (&'static str, fn(&Path));

/// The blob file with the content of a golden file.
pub fn blob_of(test_home: &TestHome, path: &str) -> PathBuf {
    let text = golden::inflate(&fs::read(test_home.hololib().join("catalog").join(CATALOG)).unwrap());
    let catalog: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut dir = &catalog["tree"];
    let mut names: Vec<&str> = path.split('/').collect();
    let file = names.pop().unwrap();
    for name in names {
        dir = &dir["subdirs"][name];
    }
    let digest = dir["files"][file]["digest"].as_str().unwrap().to_owned();
    test_home
        .hololib()
        .join("library")
        .join(&digest[..2])
        .join(&digest[2..4])
        .join(&digest[4..6])
        .join(digest)
}

/// The damage matrix of a blob.
pub const DAMAGE: [Damage; 5] = [
    ("missing", |blob| fs::remove_file(blob).unwrap()),
    ("truncated", |blob| fs::write(blob, &fs::read(blob).unwrap()[..20]).unwrap()),
    ("flipped", |blob| {
        let mut bytes = fs::read(blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(blob, bytes).unwrap();
    }),
    ("another codec", |blob| fs::write(blob, b"BZh91AY&SY and so on").unwrap()),
    ("longer", |blob| {
        let bytes = fs::read(blob).unwrap();
        fs::write(blob, [&bytes[..], &bytes[..]].concat()).unwrap();
    }),
];
