//! Opening an Index, and compiling it if it is missing, foreign or damaged.
//!
//! An Index is published by rename, so readers never see a partial one. It is read into memory, so that later changes of the file
//! cannot harm the reader; one that is too large for that is mapped, and its checksum is computed through a small buffer, so that
//! checking does not make the whole Index resident.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Class, Failure, chain};
use crate::rcc::catalog::{Catalog, CatalogError, CatalogId};
use crate::sys::fs::map::{self, Mapped};
use crate::sys::fs::place::Place;

use super::entries::Entries;
use super::format::{self, Bytes, CHECKED_FROM, HEADER_LEN, Header, NoHeader, RECORD_LEN};
use super::{Head, Index, TooLarge, build, shape};

/// An Index up to this size is read, not mapped: truncating a mapped file, or a read error of the disk, kills the process that
/// accesses it (SIGBUS). That is some two million entries.
const MOST_IN_MEMORY: u64 = 256 << 20;
/// From this number of entries on, loading them takes longer than starting a thread for it.
const WORTH_A_THREAD: u64 = 4096;
/// The number of bytes of a mapped Index whose checksum is computed at once.
const AT_ONCE: usize = 256 << 10;
/// The number of bytes read at first of an Index of which only the head is needed: more than almost all heads have.
const HEAD_AT_ONCE: usize = 1 << 10;

/// Why there is no Index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be read; `NotFound` means that this catalog is not compiled yet.
    #[error("Cannot read the index {}", path.display())]
    Read {
        /// The Index.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// It has another format, or belongs to another catalog.
    #[error("The index {} is of another catalog or version", path.display())]
    Foreign {
        /// The Index.
        path: PathBuf,
    },
    /// Its bytes are not those that were written.
    #[error("The index {} is damaged: {what}", path.display())]
    Damaged {
        /// The Index.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The source catalog is bad or unreadable.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog's tree is too large for the format.
    #[error("Cannot compile {}", path.display())]
    TooLarge {
        /// The catalog.
        path: PathBuf,
        /// The limit.
        source: TooLarge,
    },
}

impl Failure for IndexError {
    fn class(&self) -> Option<Class> {
        match self {
            IndexError::Catalog(error) => error.class(),
            IndexError::TooLarge { .. } => Some(Class::BadCatalog),
            IndexError::Read { .. } | IndexError::Foreign { .. } | IndexError::Damaged { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            IndexError::Catalog(error) => error.hint(),
            _ => None,
        }
    }
}

/// How an Index was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It existed and was valid.
    Opened,
    /// It was compiled, because it was missing or for the given reason.
    Compiled(Option<String>),
    /// It was compiled but could not be stored, for the given reason.
    NotKept(String),
}

impl Index {
    /// Compiles a catalog into the bytes of an Index.
    pub fn build(catalog: &Catalog, id: &CatalogId) -> Result<Vec<u8>, TooLarge> {
        build::build(catalog, id)
    }

    /// An Index in memory: for tests, and where a stored one is not trusted or cannot be stored.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Index, IndexError> {
        let path = || PathBuf::from("(memory)");
        let head = checked_head(&path(), &bytes[..], bytes.len() as u64)?;
        let id = head.id();
        checked(&path(), Bytes::Owned(bytes), head, &id)
    }

    /// Opens and checks the Index at `path`, which must belong to the catalog `id`.
    pub fn open(place: impl Into<Place>, id: &CatalogId) -> Result<Index, IndexError> {
        let place = place.into();
        let path = place.path();
        let read = |source| IndexError::Read { path: path.to_owned(), source };
        let file = place.open_file().map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        if len > MOST_IN_MEMORY {
            let head = checked_head(path, BufReader::with_capacity(AT_ONCE, &file), len)?;
            return checked(path, Bytes::Mapped(Mapped::new(&file).map_err(read)?), head, id);
        }
        let bytes = map::read_whole(&file, usize::try_from(len).unwrap_or(0)).map_err(read)?;
        let head = checked_head(path, &bytes[..], bytes.len() as u64)?;
        checked(path, Bytes::Owned(bytes), head, id)
    }

    /// Opens and checks only the head of the Index at `path`, which must belong to the catalog `id`. Its entries may be damaged.
    pub fn open_head(place: impl Into<Place>, id: &CatalogId) -> Result<Head, IndexError> {
        let place = place.into();
        let path = place.path();
        let read = |source| IndexError::Read { path: path.to_owned(), source };
        let file = place.open_file().map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        let (head, _) = read_head(path, &mut BufReader::with_capacity(HEAD_AT_ONCE, &file), len)?;
        refuse_other(path, &head, id)?;
        Ok(head)
    }

    /// The head of the Index of the catalog at `catalog_path`, if the catalog is unchanged since it was last used, and its Index has
    /// a valid head.
    pub fn known_head(index_dir: impl Into<Place>, catalog_path: &Path) -> Option<Head> {
        let index_dir = &index_dir.into();
        let id = super::file_state::CatalogFileState::of(catalog_path)?.known_id(index_dir)?;
        Index::open_head(index_path(index_dir, &id), &id).ok()
    }

    /// Opens the Index of the catalog at `catalog_path` below `index_dir`, compiling it if there is no valid one.
    pub fn ensure(index_dir: impl Into<Place>, catalog_path: &Path) -> Result<(Index, Made), IndexError> {
        let index_dir = &index_dir.into();
        let state = super::file_state::CatalogFileState::of(catalog_path);
        if let Some(id) = state.as_ref().and_then(|state| state.known_id(index_dir))
            && let Ok(index) = Index::open(index_path(index_dir, &id), &id)
        {
            return Ok((index, Made::Opened));
        }
        let id = Catalog::identify(catalog_path)?;
        let path = index_path(index_dir, &id);
        let reason = match Index::open(&path, &id) {
            Ok(index) => {
                remember(state, index_dir, &id);
                return Ok((index, Made::Opened));
            }
            Err(IndexError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(chain(&error).to_string()),
        };
        // Takes the id from this read: RCC may have rewritten the file meanwhile.
        let (bytes, id) = compile(catalog_path)?;
        let path = index_path(index_dir, &id);
        match path.publish(&bytes) {
            Ok(()) => {
                remember(state, index_dir, &id);
                Ok((Index::open(&path, &id)?, Made::Compiled(reason)))
            }
            Err(error) => Ok((Index::from_bytes(bytes)?, not_kept(&path, &error))),
        }
    }

    /// As [`Index::ensure`], but the entries of a large Index are loaded by a thread meanwhile: the first use of one waits for it, and
    /// [`Index::complete`] returns how it was obtained.
    pub fn ensure_ahead(
        index_dir: impl Into<Place>,
        catalog_path: &Path,
    ) -> Result<(Index, Option<Made>), IndexError> {
        let index_dir = index_dir.into();
        let head = Index::known_head(&index_dir, catalog_path);
        let Some(head) = head.filter(|head| head.len() >= WORTH_A_THREAD) else {
            return Index::ensure(index_dir, catalog_path).map(|(index, made)| (index, Some(made)));
        };
        Index::ahead(index_dir, head, catalog_path).map(|index| (index, None))
    }

    /// The Index with this head, whose entries are loaded by a thread.
    fn ahead(index_dir: Place, head: Head, catalog_path: &Path) -> Result<Index, IndexError> {
        let path = index_path(&index_dir, &head.id()).path().to_owned();
        let (expected, foreign, catalog_path) = (*head.header(), path.clone(), catalog_path.to_owned());
        let load = move || {
            let (index, made) = Index::ensure(index_dir, &catalog_path)?;
            let is_same = *index.head.header() == expected;
            let bytes = index.entries.into_bytes().filter(|_| is_same);
            bytes.map(|bytes| (bytes, made)).ok_or(IndexError::Foreign { path: foreign })
        };
        let load = || load().map_or_else(|error| (None, Err(error)), |(bytes, made)| (Some(bytes), Ok(made)));
        let read = |source| IndexError::Read { path: path.clone(), source };
        let panicked = read(io::Error::other("the thread that loads it panicked"));
        Ok(Index { entries: Entries::load(load, Err(panicked)).map_err(read)?, head })
    }

    /// Waits until all entries are loaded; returns how the Index was obtained, if that was not known before.
    pub fn complete(&self) -> Result<Option<Made>, IndexError> {
        self.entries.complete().transpose()
    }

    /// As [`Index::ensure`], but trusts no stored file: compiles the catalog, uses the new Index from memory, and stores it in place
    /// of the old one.
    pub fn compiled(index_dir: impl Into<Place>, catalog_path: &Path) -> Result<(Index, Made), IndexError> {
        let (bytes, id) = compile(catalog_path)?;
        let path = index_path(&index_dir.into(), &id);
        let made =
            path.publish(&bytes).map_or_else(|error| not_kept(&path, &error), |()| Made::Compiled(None));
        Ok((Index::from_bytes(bytes)?, made))
    }
}

/// The bytes of the Index of the catalog at `path`, and the catalog's identity.
fn compile(path: &Path) -> Result<(Vec<u8>, CatalogId), IndexError> {
    let (catalog, id) = Catalog::read(path)?;
    let too_large = |source| IndexError::TooLarge { path: path.to_owned(), source };
    Ok((Index::build(&catalog, &id).map_err(too_large)?, id))
}

fn not_kept(path: &Place, error: &io::Error) -> Made {
    Made::NotKept(format!("Cannot keep the index {}: {error}", path.display()))
}

/// The path of the Index of the catalog `id`.
pub fn index_path(index_dir: &Place, id: &CatalogId) -> Place {
    index_dir.below(id.to_string())
}

/// The stored state only saves time: if it cannot be stored, the next mount hashes the catalog again.
fn remember(state: Option<super::file_state::CatalogFileState>, index_dir: &Place, id: &CatalogId) {
    if let Some(Err(error)) = state.map(|state| state.remember(index_dir, id)) {
        log::debug!("Cannot keep the state of catalog {id} in {}: {error}", index_dir.display());
    }
}

/// The Index in these bytes, if it belongs to the catalog `id` and its entries form a tree.
fn checked(path: &Path, bytes: Bytes, head: Head, id: &CatalogId) -> Result<Index, IndexError> {
    refuse_other(path, &head, id)?;
    match shape::fault(head.header(), &bytes) {
        None => Ok(Index { entries: Entries::of(bytes), head }),
        Some(what) => Err(IndexError::Damaged { path: path.to_owned(), what }),
    }
}

fn refuse_other(path: &Path, head: &Head, id: &CatalogId) -> Result<(), IndexError> {
    if head.id() == *id { Ok(()) } else { Err(IndexError::Foreign { path: path.to_owned() }) }
}

/// Reads `source` (of `len` bytes) once: the head, then the checksum of everything.
fn checked_head(path: &Path, mut source: impl BufRead, len: u64) -> Result<Head, IndexError> {
    let read = |source| IndexError::Read { path: path.to_owned(), source };
    let (head, start) = read_head(path, &mut source, len)?;
    let mut crc = libdeflater::Crc::new();
    crc.update(&start[CHECKED_FROM..]);
    loop {
        let bytes = source.fill_buf().map_err(read)?;
        let count = bytes.len();
        if count == 0 {
            break;
        }
        crc.update(bytes);
        source.consume(count);
    }
    if format::stored_checksum(&start) != Some(crc.sum()) {
        return Err(IndexError::Damaged { path: path.to_owned(), what: "its checksum does not match" });
    }
    Ok(head)
}

/// Reads and checks the head from the start of `source`, which has `len` bytes; also returns its bytes.
fn read_head(path: &Path, source: &mut impl Read, len: u64) -> Result<(Head, Vec<u8>), IndexError> {
    let damaged = |what| IndexError::Damaged { path: path.to_owned(), what };
    let read = |source| IndexError::Read { path: path.to_owned(), source };
    if len < HEADER_LEN as u64 {
        return Err(damaged("it is shorter than a header"));
    }
    let mut start = vec![0; HEADER_LEN];
    source.read_exact(&mut start).map_err(read)?;
    let header = Header::decode(&start).map_err(|error| match error {
        NoHeader::Foreign => IndexError::Foreign { path: path.to_owned() },
        NoHeader::Damaged => damaged("its header is invalid"),
    })?;
    if header.file_len != len {
        return Err(damaged("its length is not the recorded one"));
    }
    let (head_len, records) = (header.first_record as usize, u64::from(header.nodes) * RECORD_LEN as u64);
    if head_len < HEADER_LEN || u64::from(header.first_record) + records > len {
        return Err(damaged("it declares more entries than it holds"));
    }
    start.resize(head_len, 0);
    source.read_exact(&mut start[HEADER_LEN..]).map_err(read)?;
    if format::stored_head_checksum(&start) != Some(format::checksum(&start[CHECKED_FROM..])) {
        return Err(damaged("the checksum of its head does not match"));
    }
    Ok((Head::of(header, &start).map_err(damaged)?, start))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::super::Ino;
    use super::*;
    use crate::rcc::catalog::{Dir, DirId, EntryKind, File, GoMode, Header as CatalogHeader};
    use crate::rcc::digest::{Digest, Regime};
    use crate::sys::fs::name::OwnedName;

    fn name(text: &str) -> OwnedName {
        OwnedName::new(text.as_bytes()).unwrap()
    }

    fn dir(name: Option<OwnedName>, parent: Option<DirId>) -> Dir {
        let mode = GoMode::from_unix(EntryKind::Directory, 0o755);
        Dir { name, parent, mode, symlink: None, shadow: false, subdirs: Vec::new(), files: Vec::new() }
    }

    /// `d/f`.
    fn catalog() -> Catalog {
        let mut root = dir(None, None);
        root.subdirs = vec![DirId(1)];
        let mut below = dir(Some(name("d")), Some(DirId(0)));
        let mode = GoMode::from_unix(EntryKind::File, 0o644);
        let id = Digest::of(Regime::Sha256, b"");
        let (symlink, digest, rewrite) = (None, Some(id), vec![1, 2]);
        below.files = vec![File { name: name("f"), symlink, size: 30, mode, digest, rewrite }];
        let identity = "h59acff1_493f813dad24d3t".to_owned();
        let path = format!("/base/{identity}");
        let (blueprint, platform) = ("0123456789abcdef".to_owned(), "linux_amd64".to_owned());
        let rcc = "v18".to_owned();
        let header = CatalogHeader {
            identity,
            path,
            blueprint,
            platform,
            rcc,
            lifted: true,
            ..CatalogHeader::default()
        };
        Catalog::new(header, vec![root, below]).unwrap()
    }

    /// `d/f`, compiled.
    fn compiled() -> (CatalogId, Vec<u8>) {
        let id = Digest::of(Regime::Sha256, b"");
        (id, Index::build(&catalog(), &id).unwrap())
    }

    /// An Index that is loaded ahead while its entries are damaged; the catalog is there if `is_there`.
    fn damaged_ahead(is_there: bool) -> Index {
        let temp = tempfile::tempdir().unwrap();
        let (path, dir) = (temp.path().join("catalog"), Place::top(temp.path().join("index")));
        catalog().write_to(std::fs::File::create(&path).unwrap()).unwrap();
        let (index, made) = Index::ensure(&dir, &path).unwrap();
        assert_eq!(made, Made::Compiled(None));
        let stored = index_path(&dir, &index.id());
        let mut bytes = std::fs::read(stored.path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(stored.path(), bytes).unwrap();
        let head = Index::open_head(&stored, &index.id()).unwrap();
        if !is_there {
            std::fs::remove_file(&path).unwrap();
        }
        let ahead = Index::ahead(dir, head, &path).unwrap();
        ahead.node(Ino::ROOT); // waits, before the directory goes
        ahead
    }

    #[test]
    fn a_head_says_the_same_alone_and_with_its_entries() {
        let temp = tempfile::tempdir().unwrap();
        let (id, bytes) = compiled();
        let place = Place::top(temp.path().join("index"));
        std::fs::write(place.path(), &bytes).unwrap();
        let (head, index) = (Index::open_head(&place, &id).unwrap(), Index::open(&place, &id).unwrap());
        assert_eq!(format!("{head:?}"), format!("{:?}", index.head()));
        let said = (head.base(), head.blueprint(), head.platform(), head.rcc());
        assert_eq!(said, (Path::new("/base"), "0123456789abcdef", "linux_amd64", "v18"));
        assert_eq!((head.id(), head.len(), head.content_bytes()), (id, 3, 30));
        assert_eq!(head.some_file(), Path::new("d/f"));
        assert_eq!(
            index.relocated().map(|(ino, file)| (ino.0, file.rewrite.len())).collect::<Vec<_>>(),
            [(3, 2)]
        );
    }

    #[test]
    fn damage_of_each_byte_is_found_and_that_of_the_head_also_by_reading_it_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (id, bytes) = compiled();
        let head_len = Header::decode(&bytes).unwrap().first_record as usize;
        let place = Place::top(temp.path().join("index"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(place.path(), &damaged).unwrap();
            assert!(Index::open(&place, &id).is_err(), "{at}");
            // The checksum of the whole is not read with the head.
            let is_of_head = at < head_len && !(8..12).contains(&at);
            assert_eq!(Index::open_head(&place, &id).is_err(), is_of_head, "{at}");
        }
        for len in 0..bytes.len() {
            std::fs::write(place.path(), &bytes[..len]).unwrap();
            assert!(Index::open(&place, &id).is_err() && Index::open_head(&place, &id).is_err(), "{len}");
        }
    }

    #[test]
    fn entries_loaded_ahead_are_those_of_the_catalog_even_if_they_were_damaged() {
        let index = damaged_ahead(true);
        assert_eq!(index.path_of(Ino(3)).unwrap().to_string(), "d/f");
        assert!(matches!(index.complete(), Ok(Some(Made::Compiled(Some(why)))) if why.contains("damaged")));
        assert_eq!(index.complete().unwrap(), None);
    }

    #[test]
    fn entries_that_cannot_be_loaded_are_none_and_an_error() {
        let index = damaged_ahead(false);
        assert!(index.node(Ino::ROOT).is_none() && index.child_range(Ino::ROOT).is_empty());
        assert!(matches!(index.complete(), Err(IndexError::Catalog(_))));
    }

    #[test]
    fn a_head_of_another_catalog_is_foreign() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::top(temp.path().join("index"));
        std::fs::write(place.path(), compiled().1).unwrap();
        let other = Digest::of(Regime::Sha256, b"other");
        assert!(matches!(Index::open_head(&place, &other), Err(IndexError::Foreign { .. })));
    }
}
