//! Where a path of a space comes from: which layer, which content, who changed it and when, and where its bytes are on the disk.
//!
//! Reads only the catalog's index, the metadata of the file, and what the server of a mount reports in `user.holofs.*`. No content
//! is read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::packages::Packages;
use crate::rcc::home::{Home, HomeError};
use crate::space::{Space, files, inventory};
use crate::store::index::{Index, Ino, Node, NodeKind};
use crate::store::{MOTHER_TIME, RawKey, RawMode, blob_path};
use crate::sys::fs::name::RelPath;
use crate::sys::fs::xattr;

/// What a server reports about a file.
const STATE: &str = "user.holofs.state";

/// A path below a known space.
pub struct Spot {
    /// The space.
    pub space: Space,
    /// The blueprint that its `.meta` names.
    pub blueprint: String,
    /// The path below its root.
    pub below: PathBuf,
}

/// What is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The path.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// The space's name.
    pub space: String,
    /// `file`, `directory`, `link` or `other`.
    pub kind: &'static str,
    /// `catalog`, `relocated`, `written` or `bytecode`.
    pub layer: &'static str,
    /// The digest of the catalog's content, before relocation; `None` for written content.
    pub digest: Option<String>,
    /// How often the space's label occurs in it.
    pub relocations: usize,
    /// The package that lists it.
    pub package: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Permission bits, in octal.
    pub mode: String,
    /// Its owner.
    pub uid: u32,
    /// The last change of its content, in seconds since 1970; RCC's fixed time if nobody has changed it.
    pub modified: i64,
    /// Whether that time is the one that RCC gives every file.
    pub is_untouched_time: bool,
    /// Where its bytes are, or would be, in search order.
    pub places: Vec<Bytes>,
}

/// A file that holds the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// What it is.
    pub what: &'static str,
    /// Where.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// Bytes on the disk; `None` if it does not exist now.
    pub size: Option<u64>,
}

/// The space that contains the absolute path `path`, if any.
pub fn find(home: &Home, path: &Path) -> Result<Option<Spot>, HomeError> {
    let known = inventory::known(home)?.into_iter();
    let inside = known.filter_map(|known| {
        let below = path.strip_prefix(&known.space.root).ok()?.to_owned();
        Some(Spot { space: known.space, blueprint: known.blueprint, below })
    });
    Ok(inside.max_by_key(|place| place.space.root.as_os_str().len()))
}

/// Explains the entry at `place`, which must exist, in a space that shows `index`.
pub fn explain(home: &Home, place: &Spot, index: &Index, packages: &Packages) -> std::io::Result<Explained> {
    let space = &place.space;
    let path = space.root.join(&place.below);
    let found = path.symlink_metadata()?;
    let known = node_at(index, &place.below);
    let is_mounted = space.live_holder().is_some() && space.mount_state().ok().flatten().is_some();
    let of_catalog = known.filter(|node| is_of_catalog(node, &found, is_mounted, &path));
    let kind = match found.file_type() {
        kind if kind.is_file() => "file",
        kind if kind.is_dir() => "directory",
        kind if kind.is_symlink() => "link",
        _ => "other",
    };
    let mut explained = Explained {
        space: space.name().to_owned(),
        kind,
        layer: if is_bytecode(&path) { "bytecode" } else { "written" },
        digest: None,
        relocations: 0,
        package: known.and_then(|node| packages.owner(node.ino)).map(|package| package.name.clone()),
        size: found.len(),
        mode: format!("{:04o}", found.mode() & 0o7777),
        uid: found.uid(),
        modified: found.mtime(),
        is_untouched_time: found.mtime() == MOTHER_TIME,
        places: Vec::new(),
        path: path.clone(),
    };
    match (of_catalog.map(|node| (node, node.kind)), kind) {
        (Some((node, NodeKind::File(file))), _) => {
            let is_moved = !file.rewrite.is_empty() && space.label.as_bytes() != index.identity();
            explained.layer = if is_moved { "relocated" } else { "catalog" };
            explained.digest = Some(file.digest.to_string());
            explained.relocations = file.rewrite.len();
            if is_moved && is_mounted {
                let catalog: String = index.id().to_string().chars().take(16).collect();
                let copy =
                    space.state_dir.path().join(files::RELOCATED).join(catalog).join(node.ino.to_string());
                explained.places.push(bytes_at("relocated copy", copy));
            }
            let key = RawKey { digest: file.digest, mode: RawMode::new(node.mode) };
            explained.places.push(bytes_at("raw store", home.raw_dir().path().join(key.path())));
            explained.places.push(bytes_at("blob", home.library().join(blob_path(&file.digest))));
        }
        (Some(_), _) => explained.layer = "catalog",
        (None, "file") if is_mounted => {
            let upper = space.state_dir.path().join(files::UPPER_BYTES).join(found.ino().to_string());
            explained.places.push(bytes_at("upper", upper));
        }
        (None, _) => {}
    }
    if !is_mounted && kind == "file" {
        explained.places.insert(0, bytes_at("the file itself", path));
    }
    Ok(explained)
}

/// True if the entry is as in the catalog.
fn is_of_catalog(node: &Node<'_>, found: &std::fs::Metadata, is_mounted: bool, path: &Path) -> bool {
    match node.kind {
        NodeKind::Dir { .. } => found.is_dir(),
        NodeKind::Link { target } => {
            let now = std::fs::read_link(path).ok();
            now.is_some_and(|now| now.as_os_str().as_encoded_bytes() == target)
        }
        // The server reports it; for plain files, size and time decide, as in RCC.
        NodeKind::File(_) if is_mounted && found.is_file() => {
            xattr::get(path, STATE).is_ok_and(|state| matches!(state.as_slice(), b"catalog" | b"relocated"))
        }
        NodeKind::File(file) => found.is_file() && found.len() == file.size && found.mtime() == MOTHER_TIME,
    }
}

fn is_bytecode(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pyc")
}

fn node_at<'a>(index: &'a Index, below: &Path) -> Option<Node<'a>> {
    if below.as_os_str().is_empty() {
        return index.node(Ino::ROOT);
    }
    let path = RelPath::parse(below.as_os_str().as_encoded_bytes()).ok()?;
    let ino = path.names().iter().try_fold(Ino::ROOT, |dir, name| index.lookup(dir, name.as_name()))?;
    index.node(ino)
}

fn bytes_at(what: &'static str, path: PathBuf) -> Bytes {
    let size = path.symlink_metadata().ok().map(|found| found.blocks() * 512);
    Bytes { what, path, size }
}

/// How long ago a time was, in words.
pub fn age(modified: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = now.saturating_sub(u64::try_from(modified).unwrap_or_default());
    match seconds {
        0..120 => format!("{seconds} seconds ago"),
        120..7_200 => format!("{} minutes ago", seconds / 60),
        7_200..172_800 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
