//! Opening an Index, and compiling it if it is missing, foreign or damaged.
//!
//! An Index is published by rename, so readers never see a partial one. It is read into memory, so that later changes of the file
//! cannot harm the reader; one that is too large for that is mapped, and its checksum is computed through a small buffer, so that
//! checking does not make the whole Index resident.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{Class, Failure, chain};
use crate::rcc::catalog::{Catalog, CatalogError, CatalogId};
use crate::sys::fs::map::{self, Mapped};
use crate::sys::fs::place::Place;

use super::format::{self, Bytes, CHECKED_FROM, HEADER_LEN, Header, NoHeader, RECORD_LEN};
use super::{Index, TooLarge, build, shape};

/// An Index up to this size is read, not mapped: truncating a mapped file, or a read error of the disk, kills the process that
/// accesses it (SIGBUS). That is some two million entries.
const MOST_IN_MEMORY: u64 = 256 << 20;
/// The number of bytes of a mapped Index whose checksum is computed at once.
const AT_ONCE: usize = 256 << 10;

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
        let header = checked_header(&path(), &bytes[..], bytes.len() as u64)?;
        checked(&path(), Bytes::Owned(bytes), header, &header.id)
    }

    /// Opens and checks the Index at `path`, which must belong to the catalog `id`.
    pub fn open(place: impl Into<Place>, id: &CatalogId) -> Result<Index, IndexError> {
        let place = place.into();
        let path = place.path();
        let read = |source| IndexError::Read { path: path.to_owned(), source };
        let file = place.open_file().map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        if len > MOST_IN_MEMORY {
            let header = checked_header(path, BufReader::with_capacity(AT_ONCE, &file), len)?;
            return checked(path, Bytes::Mapped(Mapped::new(&file).map_err(read)?), header, id);
        }
        let bytes = map::read_whole(&file, usize::try_from(len).unwrap_or(0)).map_err(read)?;
        let header = checked_header(path, &bytes[..], bytes.len() as u64)?;
        checked(path, Bytes::Owned(bytes), header, id)
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
fn checked(path: &Path, bytes: Bytes, header: Header, id: &CatalogId) -> Result<Index, IndexError> {
    if header.id != *id {
        return Err(IndexError::Foreign { path: path.to_owned() });
    }
    let index = Index { bytes, header };
    match shape::fault(&index) {
        None => Ok(index),
        Some(what) => Err(IndexError::Damaged { path: path.to_owned(), what }),
    }
}

/// Reads `source` (of `len` bytes) once: the header, then the checksum of everything.
fn checked_header(path: &Path, mut source: impl BufRead, len: u64) -> Result<Header, IndexError> {
    let damaged = |what| IndexError::Damaged { path: path.to_owned(), what };
    let read = |source| IndexError::Read { path: path.to_owned(), source };
    let mut start = [0; HEADER_LEN];
    if len < HEADER_LEN as u64 {
        return Err(damaged("it is shorter than a header"));
    }
    source.read_exact(&mut start).map_err(read)?;
    let header = Header::decode(&start).map_err(|error| match error {
        NoHeader::Foreign => IndexError::Foreign { path: path.to_owned() },
        NoHeader::Damaged => damaged("its header is invalid"),
    })?;
    if header.file_len != len {
        return Err(damaged("its length is not the recorded one"));
    }
    let records = u64::from(header.nodes) * RECORD_LEN as u64;
    if u64::from(header.first_record) + records > len {
        return Err(damaged("it declares more entries than it holds"));
    }
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
        return Err(damaged("its checksum does not match"));
    }
    Ok(header)
}
