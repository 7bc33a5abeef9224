//! What determines the bytecode of a source: the source itself, and the program that compiles it.
//!
//! A catalog brings its own interpreter, and only for its own spaces is whatever that does right. Bytecode of another catalog is equal only
//! if every file that takes part in compiling is equal: the interpreter, the libraries that the loader finds for it, and its standard
//! library. Our compiler starts `bin/python3 -I -S` in a view of the catalog, so packages take no part, and neither does anything that
//! is listed here as left out. All other entries are part of the digest: one that is not needed only costs time.
//!
//! A script in the place of the interpreter may start anything, so [`program`] is for the caller to examine.

use crate::rcc::digest::{Digest, Hasher, Regime};
use crate::store::index::{FileNode, Index, Ino, NodeKind};
use crate::sys::fs::name::Name;

use super::names::CacheName;

/// The kind and version of these digests.
const KIND: &[u8] = b"holofs bytecode of one interpreter 1\n";
/// Entries of the root that hold neither programs nor settings of them.
const UNUSED: [&[u8]; 5] = [b"identity.yaml", b"conda-meta", b"include", b"man", b"share"];
/// Texts of a relocated file with the settings of the interpreter's own build, which compiling does not import. It differs in all catalogs.
const SETTINGS: &[u8] = b"_sysconfigdata";
/// The maximum number of links from `bin/python3` to the program.
const MOST_LINKS: usize = 8;

/// Identifies everything that compiles the sources of a catalog; `None` if that cannot be known.
pub fn identity(index: &Index) -> Option<Digest> {
    let mut hasher = Hasher::new(Regime::Sha256);
    hasher.update(KIND);
    let mut dirs = vec![(Ino::ROOT, Vec::new())];
    while let Some((ino, dir)) = dirs.pop() {
        for node in index.children(ino).filter(|node| takes_part(&dir, node.name)) {
            let path = [&dir[..], b"/", node.name].concat();
            match node.kind {
                NodeKind::Dir { .. } => dirs.push((node.ino, path)),
                NodeKind::File(file) if is_settings(node.name, file) => {}
                NodeKind::File(file) => add(&mut hasher, b"file", &path, &content(file)?),
                // A link may lead to something that is left out.
                NodeKind::Link { target } if !is_inside(&dir, target) => return None,
                NodeKind::Link { target } => add(&mut hasher, b"link", &path, target),
            }
        }
    }
    Some(hasher.finish())
}

/// The file that is started as `bin/python3`; `None` if that is elsewhere.
pub fn program(index: &Index) -> Option<FileNode<'_>> {
    let child = |dir: Ino, name: &[u8]| index.node(index.lookup(dir, Name::new(name).ok()?)?);
    let bin = child(Ino::ROOT, b"bin").filter(|bin| matches!(bin.kind, NodeKind::Dir { .. }))?;
    let mut node = child(bin.ino, b"python3")?;
    for _ in 0..MOST_LINKS {
        match node.kind {
            NodeKind::Link { target } => node = child(bin.ino, target)?,
            NodeKind::File(file) => return Some(file),
            NodeKind::Dir { .. } => return None,
        }
    }
    None
}

/// What the bytecode called `name` is made from in this catalog: by the interpreter with this identity, from the source there. `None` if
/// the source is not the same in every space, or is identified by a hash that can be forged.
pub fn origin(interpreter: &Digest, name: &CacheName, index: &Index) -> Option<String> {
    let source = name.shared_source(index)?;
    let mut hasher = Hasher::new(Regime::Sha256);
    add(&mut hasher, interpreter.as_bytes(), name.tag.as_bytes(), name.level.as_bytes());
    hasher.update(strong(&source)?);
    Some(hasher.finish().to_string())
}

/// False for entries that an interpreter started with `-I -S` never loads.
fn takes_part(dir: &[u8], name: &[u8]) -> bool {
    let below: Vec<&[u8]> = dir.split(|&byte| byte == b'/').skip(1).collect();
    match below[..] {
        [] => !UNUSED.contains(&name),
        // Scripts of packages; not the interpreter and its settings, nor libraries.
        [b"bin"] => {
            let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
            name.starts_with(b"python")
                || has(b".so")
                || has(b"_pth")
                || matches!(name, b"pyvenv.cfg" | b"pybuilddir.txt")
        }
        [lib, python] if lib.starts_with(b"lib") && python.starts_with(b"python3.") => {
            name != b"site-packages"
        }
        _ => true,
    }
}

fn is_settings(name: &[u8], file: FileNode<'_>) -> bool {
    name.starts_with(SETTINGS) && !file.rewrite.is_empty()
}

/// True for a link to an entry of its own directory that takes part, too.
fn is_inside(dir: &[u8], target: &[u8]) -> bool {
    !target.contains(&b'/') && !matches!(target, b"" | b"." | b"..") && takes_part(dir, target)
}

/// Identifies the content of a file in every space.
fn content(file: FileNode<'_>) -> Option<Vec<u8>> {
    let mut all = strong(&file.digest)?.to_vec();
    file.rewrite.iter().for_each(|at| all.extend(at.to_le_bytes()));
    Some(all)
}

/// The bytes of a digest for which no second content can be found.
fn strong(digest: &Digest) -> Option<&[u8]> {
    (digest.regime() == Regime::Sha256).then(|| digest.as_bytes())
}

fn add(hasher: &mut Hasher, kind: &[u8], path: &[u8], content: &[u8]) {
    for part in [kind, path, content] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}
