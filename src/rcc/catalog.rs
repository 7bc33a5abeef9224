//! Catalogs: the manifest of one environment's tree, as RCC writes it.
//!
//! Bytes become a validated [`Catalog`] here and nowhere else: every name is valid, every link text can be created, every relocation
//! lies inside its file, and the tree is no deeper than a path can be. Code that has a `Catalog` need not check any of this again. The
//! tree is a flat vector in which parents precede their children, so reading, writing and dropping a catalog never recurse without
//! bound.
//!
//! Deliberately not here: whether the blobs exist, and what the tree looks like to a program (see `store::index`).

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
pub use filemode::{EntryKind, GoMode};
pub use inflate::{MAX_JSON, MAX_STORED};

/// The identity of a catalog: SHA-256 of its file as stored.
pub type CatalogId = Digest;

/// The length of an identity and of a label, in bytes.
pub const IDENTITY_LENGTH: usize = 24;
/// The maximum depth of a directory: a path has at most 4,095 bytes, so no more than about 2,047 names.
pub const MAX_DEPTH: usize = 2048;
/// The maximum number of files and directories.
pub const MAX_ENTRIES: u64 = 4 << 20;
/// The maximum number of relocations, over all files.
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
    /// The version of the program that wrote it; empty in old catalogs.
    pub rcc: String,
    /// The name of the recorded directory: the needle, 24 bytes.
    pub identity: String,
    /// The absolute path of the recorded directory.
    pub path: String,
    /// The controller; empty in a catalog, set in the `.meta` of a space.
    pub controller: String,
    /// The space; empty in a catalog, set in the `.meta` of a space.
    pub space: String,
    /// The platform, such as `linux_amd64`.
    pub platform: String,
    /// The hash of the specification: 16 hex digits.
    pub blueprint: String,
    /// True once the recorder has scanned the tree.
    pub lifted: bool,
}

/// The name of a catalog's file in the hololib (version 12 of RCC's format).
pub fn file_name(blueprint: &str, platform: &str) -> String {
    format!("{blueprint}v12.{platform}")
}

impl Header {
    /// The name of the catalog's file in the hololib.
    pub fn file_name(&self) -> String {
        file_name(&self.blueprint, &self.platform)
    }

    /// Writes the fields before `lifted`, compressed: the start of a `.meta`. [`Catalog::write_tail`] writes the rest, which is the
    /// same for every space of a catalog. (One gzip file may have several members; RCC reads them as one.)
    pub fn write_head(&self, out: impl Write) -> io::Result<()> {
        write::gzip_head(self, out)
    }

    /// The header of the catalog or `.meta` at `path`, without reading the tree; `None` if the whole file would have to be read.
    pub fn peek(path: &Path) -> Option<Header> {
        head::read(path)
    }

    /// The parent of the recorded directory, which contains the spaces.
    pub fn base(&self) -> &Path {
        Path::new(self.split_path().0)
    }

    /// The text of the `.info` file next to a catalog, or of a `.meta.info`.
    pub fn info_json(&self) -> Vec<u8> {
        write::info(self)
    }

    /// The path separator of the platform that the catalog is for.
    fn separator(&self) -> char {
        let windows = self.platform.starts_with("windows_") || (self.platform.is_empty() && cfg!(windows));
        if windows { '\\' } else { '/' }
    }

    /// The directory part of `path`, and the name in it.
    fn split_path(&self) -> (&str, &str) {
        match self.path.rsplit_once(self.separator()) {
            Some(("", name)) => (&self.path[..1], name),
            Some((dir, name)) if dir.ends_with(':') => (&self.path[..=dir.len()], name),
            Some(parts) => parts,
            None => ("", &self.path),
        }
    }
}

/// A directory's index in [`Catalog::dirs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId(pub u32);

impl DirId {
    /// The id as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A directory, or a link to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    /// The name; none for the root.
    pub name: Option<OwnedName>,
    /// The parent directory; none for the root.
    pub parent: Option<DirId>,
    /// The link text, if it is a link to a directory.
    pub symlink: Option<Box<str>>,
    /// Its mode, or for a link the mode of its target.
    pub mode: GoMode,
    /// True below a link to a directory: recorded, but not part of the tree.
    pub shadow: bool,
    /// Directories and links to directories in it, sorted by name bytewise.
    pub subdirs: Vec<DirId>,
    /// Files and links to files in it, sorted by name bytewise.
    pub files: Vec<File>,
}

/// A file, or a link to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name.
    pub name: OwnedName,
    /// The link text, if it is a link.
    pub symlink: Option<Box<str>>,
    /// The size of the content, for a link that of its target.
    pub size: u64,
    /// The mode, for a link that of its target.
    pub mode: GoMode,
    /// The digest of the content before relocation; only a link can have none.
    pub digest: Option<Digest>,
    /// The offsets of the identity as in the catalog: possibly unsorted or duplicated.
    pub rewrite: Vec<u64>,
}

/// Sizes, counted as RCC does: including the root, links, and entries below links.
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
    /// Creates a catalog from its parts, if they are valid: `dirs[0]` is the root, and parents precede their children.
    pub fn new(header: Header, dirs: Vec<Dir>) -> Result<Catalog, CatalogError> {
        validate::check(&header, &dirs)?;
        Ok(Catalog { header, dirs: Arc::new(dirs) })
    }

    /// Reads the catalog or `.meta` file at `path`.
    pub fn read(path: &Path) -> Result<(Catalog, CatalogId), CatalogError> {
        Catalog::read_file(path, Catalog::open(path)?)
    }

    /// Opens the catalog or `.meta` file at `path`, for [`Catalog::read_file`].
    pub fn open(path: &Path) -> Result<fs::File, CatalogError> {
        refuse_other_version(path)?;
        open_stored(path)
    }

    /// Reads the catalog in `file`, which was opened at `path`.
    pub fn read_file(path: &Path, file: fs::File) -> Result<(Catalog, CatalogId), CatalogError> {
        let stored = read_stored(path, file)?;
        let catalog = Catalog::parse(&stored).map_err(|error| match error {
            CatalogError::Bad { path: None, flaw } => CatalogError::Bad { path: Some(path.into()), flaw },
            other => other,
        })?;
        Ok((catalog, Digest::of(Regime::Sha256, &stored)))
    }

    /// The identity of the catalog at `path`, without parsing it.
    pub fn identify(path: &Path) -> Result<CatalogId, CatalogError> {
        Ok(Digest::of(Regime::Sha256, &read_stored(path, Catalog::open(path)?)?))
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

    /// Every directory; parents precede their children.
    pub fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// The directory in which the environment was recorded: its spaces are there.
    pub fn base(&self) -> &Path {
        Path::new(self.header.split_path().0)
    }

    /// Every file of every directory, including shadow entries.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.dirs.iter().flat_map(|dir| &dir.files)
    }

    /// The digest and size of every file: RCC requires a blob for each, even for links and files below them.
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

    /// Writes the catalog in RCC's format, compressed.
    pub fn write_to(&self, out: impl Write) -> io::Result<()> {
        write::gzip(&self.header, &self.dirs, out)
    }

    /// Writes everything after the head (see [`Header::write_head`]), compressed: both together are the whole catalog.
    pub fn write_tail(&self, out: impl Write) -> io::Result<()> {
        write::gzip_tail(&self.header, &self.dirs, out)
    }

    /// As [`Catalog::write_tail`] for the catalog file at `path`, which must have the header `header` and have been validated before:
    /// cut out of its text if that has RCC's exact form, otherwise parsed and written again. Also returns the identity of the file
    /// read.
    pub fn tail_of(path: &Path, header: &Header) -> Result<(Vec<u8>, CatalogId), CatalogError> {
        let stored = read_stored(path, open_stored(path)?)?;
        let unwritable = |source| CatalogError::Unreadable { path: path.into(), source };
        let mut tail = Vec::new();
        if !write::cut_tail(header, &stored, &mut tail).map_err(unwritable)? {
            Catalog::parse(&stored)?.write_tail(&mut tail).map_err(unwritable)?;
        }
        Ok((tail, Digest::of(Regime::Sha256, &stored)))
    }

    /// The text of the `.info` file next to a catalog, or of a `.meta.info`.
    pub fn info_json(&self) -> Vec<u8> {
        self.header.info_json()
    }

    /// The path of a directory below the root, `.` for the root: for messages.
    pub fn path_of(&self, id: DirId) -> String {
        validate::entry_path(&self.dirs, id, None)
    }
}

/// Opens a file, which must be regular.
fn open_stored(path: &Path) -> Result<fs::File, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable { path: path.into(), source };
    // Checked before opening: opening a FIFO would block.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(CatalogError::NotAFile { path: path.into() });
    }
    let file = crate::sys::fs::stat::open_to_read(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    Ok(file)
}

/// Reads a whole file, which must be no longer than [`MAX_STORED`].
fn read_stored(path: &Path, file: fs::File) -> Result<Vec<u8>, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable { path: path.into(), source };
    let mut stored = Vec::new();
    file.take(MAX_STORED + 1).read_to_end(&mut stored).map_err(unreadable)?;
    if stored.len() as u64 > MAX_STORED {
        let flaw = Flaw::TooLarge { what: "bytes", limit: MAX_STORED };
        return Err(CatalogError::Bad { path: Some(path.into()), flaw });
    }
    Ok(stored)
}

/// Rejects `<16 hex>v<2 hex>.…` if the version is not `12`; files with other names are judged by their content.
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
