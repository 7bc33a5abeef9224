//! The reference: a restore straight from the catalog's JSON and the blobs, as simple and slow as possible, which shares no
//! code with the library; and trees as values that can be compared.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// One entry of a tree, with everything that RCC defines: RCC does not define the times of directories and links, nor owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Dir { mode: u32 },
    File { mode: u32, size: u64, mtime: i64, sha256: String },
    Link { target: PathBuf },
    Other,
}

/// Everything below `root`, by path; the root itself is the empty path.
pub fn tree_of(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.mode() & 0o7777;
        let entry = if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Entry::Dir { mode }
        } else if meta.is_symlink() {
            Entry::Link { target: fs::read_link(&path).unwrap() }
        } else if meta.is_file() {
            let sha256 = format!("{:x}", Sha256::digest(fs::read(&path).unwrap()));
            Entry::File { mode, size: meta.len(), mtime: meta.mtime(), sha256 }
        } else {
            Entry::Other
        };
        entries.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
    }
    entries
}

/// Fails with the first differences between two trees.
pub fn assert_same_tree(ours: &Path, expected: &Path) {
    let (ours, expected) = (tree_of(ours), tree_of(expected));
    let names: std::collections::BTreeSet<_> = ours.keys().chain(expected.keys()).collect();
    let differs = names.into_iter().filter(|name| ours.get(*name) != expected.get(*name));
    let found_differences: Vec<String> = differs
        .take(10)
        .map(|name| format!("{}: {:?} instead of {:?}", name.display(), ours.get(name), expected.get(name)))
        .collect();
    assert!(found_differences.is_empty(), "The trees differ:\n{}", found_differences.join("\n"));
}

/// Restores `catalog` from `library` into the new directory `space`, whose name is the label.
pub fn restore(catalog: &Value, library: &Path, space: &Path) {
    let identity = catalog["identity"].as_str().unwrap();
    let label = space.file_name().unwrap().to_str().unwrap();
    assert_eq!(identity.len(), label.len());
    restore_dir(&catalog["tree"], library, space, label);
}

fn restore_dir(dir: &Value, library: &Path, path: &Path, label: &str) {
    if let Some(target) = dir["symlink"].as_str() {
        return symlink(target, path).unwrap();
    }
    DirBuilder::new().mode(0o750).create(path).unwrap();
    for (name, inner) in dir["subdirs"].as_object().into_iter().flatten() {
        restore_dir(inner, library, &path.join(name), label);
    }
    for (name, file) in dir["files"].as_object().into_iter().flatten() {
        restore_file(file, library, &path.join(name), label);
    }
}

fn restore_file(file: &Value, library: &Path, path: &Path, label: &str) {
    if let Some(target) = file["symlink"].as_str() {
        return symlink(target, path).unwrap();
    }
    let mut content = blob(library, file["digest"].as_str().unwrap());
    for offset in file["rewrite"].as_array().into_iter().flatten() {
        let offset = usize::try_from(offset.as_u64().unwrap()).unwrap();
        content[offset..offset + label.len()].copy_from_slice(label.as_bytes());
    }
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(unix_mode(file["mode"].as_u64().unwrap()))).unwrap();
    let mother = SystemTime::UNIX_EPOCH + Duration::from_secs(1_610_000_000);
    set_times(path, mother);
}

/// Go's bits for setuid, setgid and sticky differ from Unix'.
fn unix_mode(go: u64) -> u32 {
    let special = [(23, 0o4000), (22, 0o2000), (20, 0o1000)];
    let base = u32::try_from(go & 0o777).unwrap();
    special.iter().filter(|(bit, _)| go >> bit & 1 == 1).fold(base, |mode, (_, unix)| mode | unix)
}

/// Uses `touch`, because not even the owner can open a file of mode 0.
fn set_times(path: &Path, time: SystemTime) {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let touched = std::process::Command::new("touch").arg(format!("--date=@{seconds}")).arg(path).status();
    assert!(touched.unwrap().success());
}

/// The raw content of a blob: 64 digits are gzip, 32 are raw.
fn blob(library: &Path, digest: &str) -> Vec<u8> {
    let path = library.join(&digest[0..2]).join(&digest[2..4]).join(&digest[4..6]).join(digest);
    let mut content = Vec::new();
    match digest.len() {
        64 => flate2::read::MultiGzDecoder::new(File::open(path).unwrap()).read_to_end(&mut content).unwrap(),
        _ => File::open(path).unwrap().read_to_end(&mut content).unwrap(),
    };
    content
}
