//! Opening an Index, and compiling it if it is missing, foreign or damaged.
//!
//! An Index is published by rename, so readers never see a partial one. It is read, not mapped: truncating a mapped file, or a read
//! error of the disk, kills the process that accesses it (SIGBUS).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::error::chain;
use crate::rcc::catalog::{Catalog, CatalogId};
use crate::sys::fs::place::Place;

use super::entries::{Bytes, Entries, IN_MEMORY, Stored, Unread};
use super::error::IndexError;
use super::format::{self, CHECKED_FROM, HEADER_LEN, Header, NoHeader, RECORD_LEN, Slice};
use super::{Head, Index, TooLarge, build};

/// From this number of entries on, reading and checking all of them delays a mount noticeably.
const LARGE: u64 = 4096;
/// The number of bytes read at once of a head: more than almost all heads have.
const HEAD_AT_ONCE: usize = 1 << 10;

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
        let (head, _) = read_head(Path::new(IN_MEMORY), &mut &bytes[..], bytes.len() as u64)?;
        let entries = entries_of(bytes, head.header());
        let entries = Entries::checked(head.header(), Bytes::Owned(entries))?;
        Ok(Index { entries, head })
    }

    /// Opens and checks the Index at `path`, which must belong to the catalog `id`.
    pub fn open(place: impl Into<Place>, id: &CatalogId) -> Result<Index, IndexError> {
        let (head, unread) = opened(&place.into(), id)?;
        let stored = Stored::new(unread, head.header())?;
        let entries = Entries::checked(head.header(), Bytes::Stored(stored))?;
        Ok(Index { entries, head })
    }

    /// Opens and checks only the head of the Index at `path`, which must belong to the catalog `id`. Its entries may be damaged.
    pub fn open_head(place: impl Into<Place>, id: &CatalogId) -> Result<Head, IndexError> {
        Ok(opened(&place.into(), id)?.0)
    }

    /// The head of the Index of the catalog at `catalog_path`, if the catalog is unchanged since it was last used, and its Index has
    /// a valid head.
    pub fn known_head(index_dir: impl Into<Place>, catalog_path: &Path) -> Option<Head> {
        Some(known(&index_dir.into(), catalog_path)?.0)
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
        let (bytes, id) = compiled(Catalog::read(catalog_path)?, catalog_path)?;
        let path = index_path(index_dir, &id);
        match path.publish(&bytes) {
            Ok(()) => {
                remember(state, index_dir, &id);
                Ok((Index::open(&path, &id)?, Made::Compiled(reason)))
            }
            Err(error) => Ok((Index::from_bytes(bytes)?, not_kept(&path, &error))),
        }
    }

    /// As [`Index::ensure`], but the entries of a large Index are read and checked when they are first used; [`Index::complete`] does
    /// it with all others. If one is damaged, the catalog is compiled again; it is opened now, because a sandbox may forbid it later.
    pub fn ensure_ahead(
        index_dir: impl Into<Place>,
        catalog_path: &Path,
    ) -> Result<(Index, Made), IndexError> {
        let index_dir = index_dir.into();
        match known(&index_dir, catalog_path).filter(|(head, _)| head.len() >= LARGE) {
            Some((head, unread)) => {
                let catalog = Catalog::open(catalog_path)?;
                Ok((Index::ahead(head, unread, catalog_path, catalog)?, Made::Opened))
            }
            None => Index::ensure(index_dir, catalog_path),
        }
    }

    fn ahead(head: Head, unread: Unread, catalog_path: &Path, catalog: File) -> Result<Index, IndexError> {
        let (expected, path) = (*head.header(), catalog_path.to_owned());
        let stored = Stored::new(unread, &expected)?;
        let repair = move || {
            let (bytes, _) = compiled(Catalog::read_file(&path, catalog)?, &path)?;
            let is_same = Header::decode(&bytes) == Ok(expected);
            if is_same { Ok(entries_of(bytes, &expected)) } else { Err(IndexError::Foreign { path }) }
        };
        Ok(Index { entries: Entries::unchecked(stored, Box::new(repair)), head })
    }

    /// Reads and checks the entries that have not been used yet.
    pub fn complete(&self) {
        self.entries.complete(self.head.header());
    }

    /// True if the catalog has entries that seem not to exist, because the Index is damaged and cannot be compiled again.
    pub fn is_lost(&self) -> bool {
        self.entries.are_lost()
    }

    /// As [`Index::ensure`], but trusts no stored file: compiles the catalog, uses the new Index from memory, and stores it in place
    /// of the old one.
    pub fn compiled(index_dir: impl Into<Place>, catalog_path: &Path) -> Result<(Index, Made), IndexError> {
        let (bytes, id) = compiled(Catalog::read(catalog_path)?, catalog_path)?;
        let path = index_path(&index_dir.into(), &id);
        let made =
            path.publish(&bytes).map_or_else(|error| not_kept(&path, &error), |()| Made::Compiled(None));
        Ok((Index::from_bytes(bytes)?, made))
    }
}

/// The bytes of the Index of the catalog read from `path`, and the catalog's identity.
fn compiled((catalog, id): (Catalog, CatalogId), path: &Path) -> Result<(Vec<u8>, CatalogId), IndexError> {
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

/// The head and the unread entries of the Index at `place`, which must belong to the catalog `id`.
fn opened(place: &Place, id: &CatalogId) -> Result<(Head, Unread), IndexError> {
    let path = place.path();
    let read = |source| IndexError::Read { path: path.to_owned(), source };
    let file = place.open_file().map_err(read)?;
    let len = file.metadata().map_err(read)?.len();
    let (head, checksums) = read_head(path, &mut BufReader::with_capacity(HEAD_AT_ONCE, &file), len)?;
    if head.id() != *id {
        return Err(IndexError::Foreign { path: path.to_owned() });
    }
    Ok((head, Unread { path: path.to_owned(), file, checksums }))
}

/// The stored Index of the catalog at `catalog_path`, if the catalog is unchanged since it was last used.
fn known(index_dir: &Place, catalog_path: &Path) -> Option<(Head, Unread)> {
    let id = super::file_state::CatalogFileState::of(catalog_path)?.known_id(index_dir)?;
    opened(&index_path(index_dir, &id), &id).ok()
}

/// The entries of the Index in these bytes, which has this header.
fn entries_of(mut bytes: Vec<u8>, header: &Header) -> Vec<u8> {
    bytes.drain(..header.first_record as usize);
    bytes
}

/// Reads and checks the head at the start of `source`, which has `len` bytes; also returns the checksums of the blocks.
fn read_head(path: &Path, source: &mut impl Read, len: u64) -> Result<(Head, Vec<u32>), IndexError> {
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
    if format::stored_checksum(&start) != Some(format::checksum(&start[CHECKED_FROM..])) {
        return Err(damaged("the checksum of its head does not match"));
    }
    let checksums = checksums_of(&header, &start).ok_or_else(|| damaged("it has too few checksums"))?;
    Ok((Head::of(header, &start).map_err(damaged)?, checksums))
}

/// The checksums in the head `bytes`: one for each block.
fn checksums_of(header: &Header, bytes: &[u8]) -> Option<Vec<u32>> {
    let Slice { at, len } = header.checksums;
    let stored = bytes.get(at as usize..)?.get(..len as usize)?;
    let checksums: Vec<u32> = format::checksums(stored).collect();
    (checksums.len() as u64 == header.blocks()).then_some(checksums)
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
    fn small() -> (CatalogId, Vec<u8>) {
        let id = Digest::of(Regime::Sha256, b"");
        (id, Index::build(&catalog(), &id).unwrap())
    }

    /// An Index whose entries are read when they are used, and were damaged after it was opened; `is_there`: the catalog can be compiled.
    fn damaged_ahead(is_there: bool, damage: impl FnOnce(&Path)) -> Index {
        let temp = tempfile::tempdir().unwrap();
        let (path, dir) = (temp.path().join("catalog"), Place::top(temp.path().join("index")));
        catalog().write_to(std::fs::File::create(&path).unwrap()).unwrap();
        let (index, made) = Index::ensure(&dir, &path).unwrap();
        assert_eq!(made, Made::Compiled(None));
        let place = index_path(&dir, &index.id());
        let (head, stored) = opened(&place, &index.id()).unwrap();
        let file = Catalog::open(&path).unwrap();
        damage(place.path());
        std::fs::write(&path, if is_there { &b""[..] } else { b"changed" }).unwrap();
        if is_there {
            catalog().write_to(std::fs::File::create(&path).unwrap()).unwrap();
        }
        Index::ahead(head, stored, &path, file).unwrap()
    }

    /// Changes the last byte.
    fn flip(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    fn truncate(path: &Path) {
        std::fs::File::options().write(true).open(path).unwrap().set_len(HEADER_LEN as u64).unwrap();
    }

    #[test]
    fn a_head_says_the_same_alone_and_with_its_entries() {
        let temp = tempfile::tempdir().unwrap();
        let (id, bytes) = small();
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
        let (id, bytes) = small();
        let head_len = Header::decode(&bytes).unwrap().first_record as usize;
        let place = Place::top(temp.path().join("index"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(place.path(), &damaged).unwrap();
            assert!(Index::open(&place, &id).is_err(), "{at}");
            assert_eq!(Index::open_head(&place, &id).is_err(), at < head_len, "{at}");
        }
        for len in 0..bytes.len() {
            std::fs::write(place.path(), &bytes[..len]).unwrap();
            assert!(Index::open(&place, &id).is_err() && Index::open_head(&place, &id).is_err(), "{len}");
        }
    }

    #[test]
    fn entries_that_are_damaged_when_first_used_are_compiled_again() {
        for damage in [flip, truncate] {
            let index = damaged_ahead(true, damage);
            assert_eq!(index.path_of(Ino(3)).unwrap().to_string(), "d/f");
            assert!(!index.is_lost());
        }
    }

    #[test]
    fn entries_that_can_be_neither_read_nor_compiled_are_none_and_lost() {
        let index = damaged_ahead(false, flip);
        assert!(!index.is_lost());
        assert!(index.node(Ino::ROOT).is_none() && index.child_range(Ino::ROOT).is_empty());
        assert!(index.is_lost());
    }

    #[test]
    fn entries_that_were_completed_do_not_need_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("index");
        std::fs::write(&path, small().1).unwrap();
        let (head, stored) = opened(&Place::top(path.clone()), &small().0).unwrap();
        let index = Index::ahead(head, stored, &path, std::fs::File::open(&path).unwrap()).unwrap();
        index.complete();
        truncate(&path);
        assert_eq!(index.path_of(Ino(3)).unwrap().to_string(), "d/f");
        assert!(!index.is_lost());
    }

    #[test]
    fn a_head_of_another_catalog_is_foreign() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::top(temp.path().join("index"));
        std::fs::write(place.path(), small().1).unwrap();
        let other = Digest::of(Regime::Sha256, b"other");
        assert!(matches!(Index::open_head(&place, &other), Err(IndexError::Foreign { .. })));
    }
}
