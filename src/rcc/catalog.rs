//! Catalogs: the manifest of one environment's tree, as RCC writes it.
//!
//! Bytes become a validated [`Catalog`] here and nowhere else: every name is a name, every link text can be made, every
//! relocation lies inside its file, and the tree is no deeper than a path can be. Whoever has a `Catalog` checks nothing
//! of this again. The tree is a flat vector in which a parent stands before its children, so neither reading, nor
//! writing, nor dropping a catalog recurses without bound.
//!
//! What is deliberately not here: whether the blobs exist, and what the tree looks like to a program (`tree` knows that).

mod error;
mod filemode;
mod format;
mod head;
mod inflate;
mod validate;
mod write;

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rcc::digest::{Digest, Regime};
use crate::sys::fs::name::OwnedName;

pub use error::{CatalogError, Flaw, Rule};
pub use filemode::{GoMode, Kind};
pub use inflate::{MAX_JSON, MAX_STORED};

/// The identity of a catalog: SHA-256 of its file as stored.
pub type CatalogId = Digest;

/// The length of an identity and of a label, in bytes.
pub const IDENTITY_LENGTH: usize = 24;
/// The deepest directory: a path has at most 4,095 bytes, so no more than about 2,047 names.
pub const MAX_DEPTH: usize = 2048;
/// The most files and directories.
pub const MAX_ENTRIES: u64 = 4 << 20;
/// The most relocations, over all files.
pub const MAX_RELOCATIONS: u64 = 16 << 20;

/// A validated catalog. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The fields before the tree.
    pub header: Header,
    dirs: Arc<Vec<Dir>>,
}

/// The fields before the tree, in the order in which RCC writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The version of the program that wrote it; empty in old ones.
    pub rcc: String,
    /// The name of the recorded directory: the needle, 24 bytes.
    pub identity: String,
    /// The absolute path of the recorded directory.
    pub path: String,
    /// The controller; empty in a catalog, set in the `.meta` of a space.
    pub controller: String,
    /// The space; empty in a catalog, set in the `.meta` of a space.
    pub space: String,
    /// `linux_amd64` and the like.
    pub platform: String,
    /// The hash of the specification: 16 hex digits.
    pub blueprint: String,
    /// True once the recorder has scanned the tree.
    pub lifted: bool,
}

impl Header {
    /// Writes the fields before `lifted`, compressed: what a `.meta` begins with. [`Catalog::write_tail`] gives the rest,
    /// which is the same for every space of a catalog. (One gzip file may have several members; RCC reads them as one.)
    pub fn write_head(&self, out: impl Write) -> io::Result<()> {
        write::gzip_head(self, out)
    }

    /// The header of the catalog or `.meta` at `path`, without reading the tree; `None` if only reading all of it can tell.
    pub fn peek(path: &Path) -> Option<Header> {
        head::read(path)
    }

    /// The directory of the recorded one: where spaces are.
    pub fn base(&self) -> &Path {
        Path::new(self.split_path().0)
    }

    /// The text of the `.info` beside a catalog, or of a `.meta.info`.
    pub fn info_json(&self) -> Vec<u8> {
        write::info(self)
    }

    /// What stands between the parts of a path, on the platform that the catalog is for.
    fn separator(&self) -> char {
        let windows = self.platform.starts_with("windows_") || (self.platform.is_empty() && cfg!(windows));
        if windows { '\\' } else { '/' }
    }

    /// The directory of `path`, and the name in it.
    fn split_path(&self) -> (&str, &str) {
        match self.path.rsplit_once(self.separator()) {
            Some(("", name)) => (&self.path[..1], name),
            Some((dir, name)) if dir.ends_with(':') => (&self.path[..=dir.len()], name),
            Some(parts) => parts,
            None => ("", &self.path),
        }
    }
}

/// A directory's place in [`Catalog::dirs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId(pub u32);

impl DirId {
    /// The place as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A directory, or a link to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// The name; the root has none.
    pub name: Option<OwnedName>,
    /// The directory it is in; the root is in none.
    pub parent: Option<DirId>,
    /// The text of the link, when it is a link to a directory.
    pub symlink: Option<Box<str>>,
    /// Its mode, or that of the directory the link leads to.
    pub mode: GoMode,
    /// True below a link to a directory: recorded, but not part of the tree.
    pub shadow: bool,
    /// Directories and links to directories in it, sorted by the bytes of their names.
    pub subdirs: Vec<DirId>,
    /// Files and links to files in it, sorted by the bytes of their names.
    pub files: Vec<File>,
}

/// A file, or a link to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name.
    pub name: OwnedName,
    /// The text of the link, when it is a link.
    pub symlink: Option<Box<str>>,
    /// The size of the content, for a link that of what it leads to.
    pub size: u64,
    /// The mode, for a link that of what it leads to.
    pub mode: GoMode,
    /// The digest of the content before relocation; only a link can be without.
    pub digest: Option<Digest>,
    /// The offsets of the identity, as they stand in the catalog: possibly unsorted, possibly doubled.
    pub rewrite: Vec<u64>,
}

/// Sizes, counted as RCC does: with the root, with links, and with what is below links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Directories.
    pub directories: u64,
    /// Files.
    pub files: u64,
    /// Files with at least one relocation.
    pub relocations: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Catalog {
    /// A catalog of these parts, if they are valid: `dirs[0]` is the root, parents stand before their children.
    pub fn new(header: Header, dirs: Vec<Dir>) -> Result<Catalog, CatalogError> {
        validate::check(&header, &dirs)?;
        Ok(Catalog { header, dirs: Arc::new(dirs) })
    }

    /// Reads the catalog or `.meta` file at `path`.
    pub fn read(path: &Path) -> Result<(Catalog, CatalogId), CatalogError> {
        refuse_other_version(path)?;
        let stored = read_stored(path)?;
        let catalog = Catalog::parse(&stored).map_err(|error| match error {
            CatalogError::Bad { path: None, flaw } => CatalogError::Bad { path: Some(path.into()), flaw },
            other => other,
        })?;
        Ok((catalog, Digest::of(Regime::Sha256, &stored)))
    }

    /// The identity of the catalog at `path`, without parsing it.
    pub fn identify(path: &Path) -> Result<CatalogId, CatalogError> {
        refuse_other_version(path)?;
        Ok(Digest::of(Regime::Sha256, &read_stored(path)?))
    }

    /// Parses the content of a catalog file: gzip or zstd, then JSON.
    pub fn parse(stored: &[u8]) -> Result<Catalog, CatalogError> {
        let (header, dirs) = format::parse(stored)?;
        Catalog::new(header, dirs)
    }

    /// The root directory.
    pub fn root(&self) -> DirId {
        DirId(0)
    }

    /// The directory `id`, which must come from this catalog.
    pub fn dir(&self, id: DirId) -> &Dir {
        &self.dirs[id.index()]
    }

    /// Every directory; a parent stands before its children.
    pub fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// The directory in which the environment was recorded: its spaces live there.
    pub fn base(&self) -> &Path {
        Path::new(self.header.split_path().0)
    }

    /// Every file of every directory, shadow included.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.dirs.iter().flat_map(|dir| &dir.files)
    }

    /// The digest and size of every file: RCC demands a blob for each, be it a link or below one.
    pub fn digests(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.files().filter_map(|file| Some((file.digest.as_ref()?, file.size)))
    }

    /// The sizes that `rcc holotree catalogs` shows.
    pub fn stats(&self) -> Stats {
        let start = Stats { directories: self.dirs.len() as u64, ..Stats::default() };
        self.files().fold(start, |sum, file| Stats {
            files: sum.files + 1,
            relocations: sum.relocations + u64::from(!file.rewrite.is_empty()),
            bytes: sum.bytes.saturating_add(file.size),
            ..sum
        })
    }

    /// The same tree under another head: what the `.meta` of a space is.
    pub fn with_header(&self, change: impl FnOnce(&mut Header)) -> Catalog {
        let mut changed = self.clone();
        change(&mut changed.header);
        changed
    }

    /// Writes the catalog in RCC's form, compressed.
    pub fn write_to(&self, out: impl Write) -> io::Result<()> {
        write::gzip(&self.header, &self.dirs, out)
    }

    /// Writes all that follows the head (see [`Header::write_head`]), compressed: both together are the catalog again.
    pub fn write_tail(&self, out: impl Write) -> io::Result<()> {
        write::gzip_tail(&self.header, &self.dirs, out)
    }

    /// As [`Catalog::write_tail`] of the catalog file at `path`, whose head must be `header` and which was validated before:
    /// cut out of its text where that is RCC's own, else parsed and written anew. Gives the identity of what was read.
    pub fn tail_of(path: &Path, header: &Header) -> Result<(Vec<u8>, CatalogId), CatalogError> {
        let stored = read_stored(path)?;
        let unwritable = |source| CatalogError::Unreadable { path: path.into(), source };
        let mut tail = Vec::new();
        if !write::cut_tail(header, &stored, &mut tail).map_err(unwritable)? {
            Catalog::parse(&stored)?.write_tail(&mut tail).map_err(unwritable)?;
        }
        Ok((tail, Digest::of(Regime::Sha256, &stored)))
    }

    /// The text of the `.info` beside a catalog, or of a `.meta.info`.
    pub fn info_json(&self) -> Vec<u8> {
        self.header.info_json()
    }

    /// The path of a directory below the root, `.` for the root: for messages.
    pub fn path_of(&self, id: DirId) -> String {
        validate::entry_path(&self.dirs, id, None)
    }
}

/// Reads a whole file that must be regular and no longer than [`MAX_STORED`].
fn read_stored(path: &Path) -> Result<Vec<u8>, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable { path: path.into(), source };
    // Asked before opening: opening a FIFO would block.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(CatalogError::NotAFile { path: path.into() });
    }
    let mut stored = Vec::new();
    let file = crate::sys::fs::stat::open_to_read(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    file.take(MAX_STORED + 1).read_to_end(&mut stored).map_err(unreadable)?;
    if stored.len() as u64 > MAX_STORED {
        let flaw = Flaw::TooLarge { what: "bytes", limit: MAX_STORED };
        return Err(CatalogError::Bad { path: Some(path.into()), flaw });
    }
    Ok(stored)
}

/// Refuses `<16 hex>v<2 hex>.…` when the two are not `12`; a file of another shape is judged by its content.
fn refuse_other_version(path: &Path) -> Result<(), CatalogError> {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let looks_like_one = name.len() > 19
        && name[..16].iter().all(u8::is_ascii_hexdigit)
        && name[16] == b'v'
        && name[17..19].iter().all(u8::is_ascii_hexdigit)
        && name[19] == b'.';
    if looks_like_one && &name[17..19] != b"12" {
        let version = String::from_utf8_lossy(&name[17..19]).into_owned();
        return Err(CatalogError::OtherVersion { path: PathBuf::from(path), version });
    }
    Ok(())
}
