//! The head of a remote environment: everything a mount needs to know, and the location of all content.
//!
//! ```text
//! "HOLOHEAD" 1 · the catalog's length, the catalog as RCC wrote it
//! number of packs · for each its SHA-256 and size
//! for each distinct blob of the catalog, by digest, for each 256 KiB of it:
//!     pack · kind · offset, less where the frame before it in that pack ended (zigzag) · stored length
//!     the SHA-256 of the chunk, if the blob has more than one
//! ```
//! With bytecode, the version is 2, and the number of the pack that is the bytecode follows: one zstd frame of a
//! [pack of bytecode](crate::space::bytecode::travel), which has no blobs.
//!
//! The list of blobs and their sizes comes from the catalog only, so nothing can contradict it. A [`Head`] has a valid catalog of
//! SHA-256 blobs, a frame for every chunk, and every frame inside its pack; none of this needs to be checked again.

mod build;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rcc::catalog::{Catalog, CatalogError, MAX_STORED};
use crate::rcc::digest::{Digest, Regime};

use super::frame::{FrameKind, stored_bound};
use super::object::{Object, ObjectId, ObjectKind};
use super::wire::Input;

pub use build::{add_bytecode, encode};

/// The maximum length of a head: a hundred times that of a large environment.
pub const MAX_HEAD: u64 = 256 << 20;
/// The maximum number of packs: a terabyte of packs of the usual size.
const MAX_PACKS: u64 = 1 << 16;
/// The maximum size of a pack.
pub const MAX_PACK: u64 = 1 << 30;
/// The maximum size of bytecode, compressed.
pub const MAX_BYTECODE: u64 = 64 << 20;
const MAGIC: &[u8; 8] = b"HOLOHEAD";
/// The version without bytecode.
const PLAIN: u8 = 1;
/// The version with bytecode.
const WITH_BYTECODE: u8 = 2;

/// Everything about one remote environment except its content.
#[derive(Debug)]
pub struct Head {
    /// The SHA-256 of the head: the identity of the environment.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// The catalog as stored.
    pub stored_catalog: Vec<u8>,
    /// The catalog.
    pub catalog: Catalog,
    /// The packs that contain the frames, and the bytecode.
    pub packs: Vec<Object>,
    /// What runs imported, compiled.
    pub bytecode: Option<Object>,
    /// Every distinct blob, sorted by digest.
    blobs: Vec<Blob>,
    frames: Vec<Frame>,
}

/// A blob of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The digest of its content.
    pub digest: Digest,
    /// The size of its content.
    pub size: u64,
    frames: Range<usize>,
}

/// The location of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The index of the pack in the head.
    pub pack: u32,
    /// Its offset in the pack.
    pub offset: u64,
    /// Its length there in bytes.
    pub stored: u32,
    /// Its encoding.
    pub kind: FrameKind,
    /// The SHA-256 of the chunk, if the blob has more than one.
    pub check: Option<[u8; 32]>,
}

impl Frame {
    /// Its byte range in the pack.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored)
    }
}

/// Why bytes are not a valid head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The digest is not the expected one.
    #[error("Its SHA-256 is {found}")]
    OtherBytes {
        /// The actual digest.
        found: ObjectId,
    },
    /// The bytes have another format.
    #[error("It is not a head of this version of the format")]
    Format,
    /// It is too short, has trailing bytes, or contains an impossible number.
    #[error("Its {what} is not valid")]
    Damaged {
        /// The part being read.
        what: &'static str,
    },
    /// The catalog in it is not valid.
    #[error("Its catalog is not valid")]
    Catalog(#[source] Box<CatalogError>),
    /// The catalog uses digests that are too weak for a remote.
    #[error("Its catalog names blobs by SipHash-128, which does not protect against forged content")]
    WeakDigest,
    /// The catalog gives one blob two sizes.
    #[error("Its catalog gives blob {digest} two sizes")]
    TwoSizes {
        /// The blob.
        digest: Digest,
    },
}

impl Head {
    /// Parses the head with the id `id`.
    pub fn parse(bytes: &[u8], id: &ObjectId) -> Result<Head, HeadError> {
        let found = ObjectId::of(bytes);
        if found != *id {
            return Err(HeadError::OtherBytes { found });
        }
        let mut input = Input(bytes.strip_prefix(MAGIC).ok_or(HeadError::Format)?);
        let version = input.array().map(|[version]| version);
        let version = version.filter(|version| matches!(*version, PLAIN | WITH_BYTECODE));
        let version = version.ok_or(HeadError::Format)?;
        let length = input.number().filter(|&length| length <= MAX_STORED);
        let stored = length.and_then(|length| input.take(usize::try_from(length).ok()?));
        let stored = stored.ok_or(HeadError::Damaged { what: "catalog's length" })?;
        let catalog = Catalog::parse(stored).map_err(|error| HeadError::Catalog(Box::new(error)))?;
        let packs = packs(&mut input).ok_or(HeadError::Damaged { what: "list of packs" })?;
        let (mut blobs, mut frames) = (Vec::new(), Vec::new());
        let mut ends = vec![0; packs.len()];
        for (digest, size) in distinct(&catalog)? {
            let first = frames.len();
            for at in 0..chunks(size) {
                let place = FrameRule { len: chunk_len(size, at), many: chunks(size) > 1 };
                let frame = frame(&mut input, &packs, &mut ends, place);
                frames.push(frame.ok_or(HeadError::Damaged { what: "table of frames" })?);
            }
            blobs.push(Blob { digest, size, frames: first..frames.len() });
        }
        let bytecode = match version {
            WITH_BYTECODE => {
                Some(bytecode(&mut input, &packs).ok_or(HeadError::Damaged { what: "bytecode" })?)
            }
            _ => None,
        };
        if !input.is_empty() {
            return Err(HeadError::Damaged { what: "end" });
        }
        let size = bytes.len() as u64;
        Ok(Head { id: found, size, stored_catalog: stored.to_vec(), catalog, packs, bytecode, blobs, frames })
    }

    /// RCC's name of the catalog.
    pub fn catalog_name(&self) -> String {
        self.catalog.header.file_name()
    }

    /// Every distinct blob, sorted by digest.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The blob with that digest.
    pub fn blob(&self, digest: &Digest) -> Option<&Blob> {
        let at = self.blobs.binary_search_by(|blob| blob.digest.cmp(digest)).ok()?;
        self.blobs.get(at)
    }

    /// The frames of a blob of this head, in order.
    pub fn frames(&self, blob: &Blob) -> &[Frame] {
        self.frames.get(blob.frames.clone()).unwrap_or_default()
    }

    /// The size of all content in bytes.
    pub fn raw_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add)
    }

    /// The stored size of all frames in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.stored)).sum()
    }
}

pub use crate::store::pieces::{piece_len as chunk_len, pieces as chunks};

/// The distinct blobs of a catalog, by digest.
pub fn distinct(catalog: &Catalog) -> Result<BTreeMap<Digest, u64>, HeadError> {
    let mut blobs = BTreeMap::new();
    for (digest, size) in catalog.digests() {
        if digest.regime() != Regime::Sha256 {
            return Err(HeadError::WeakDigest);
        }
        if blobs.insert(*digest, size).is_some_and(|other| other != size) {
            return Err(HeadError::TwoSizes { digest: *digest });
        }
    }
    Ok(blobs)
}

fn packs(input: &mut Input<'_>) -> Option<Vec<Object>> {
    let count = input.number().filter(|&count| count <= MAX_PACKS)?;
    let pack = |_| {
        let id = ObjectId(input.array()?);
        let size = input.number().filter(|&size| size <= MAX_PACK)?;
        Some(Object { kind: ObjectKind::Pack, id, size })
    };
    (0..count).map(pack).collect()
}

fn bytecode(input: &mut Input<'_>, packs: &[Object]) -> Option<Object> {
    let at = usize::try_from(input.number()?).ok()?;
    packs.get(at).filter(|pack| pack.size <= MAX_BYTECODE).copied()
}

/// What must hold for a frame.
struct FrameRule {
    /// The length of its chunk.
    len: u64,
    /// Whether its blob has several.
    many: bool,
}

fn frame(input: &mut Input<'_>, packs: &[Object], ends: &mut [u64], place: FrameRule) -> Option<Frame> {
    let pack = u32::try_from(input.number()?).ok()?;
    let at = usize::try_from(pack).ok()?;
    let (size, end) = (packs.get(at)?.size, ends.get_mut(at)?);
    let kind = match input.array()? {
        [0] => FrameKind::Stored,
        [1] => FrameKind::Zstd,
        _ => return None,
    };
    let offset = end.checked_add_signed(unzigzag(input.number()?))?;
    let stored = input.number().filter(|&stored| stored <= stored_bound(place.len))?;
    if kind == FrameKind::Stored && stored != place.len {
        return None;
    }
    *end = offset.checked_add(stored).filter(|&end| end <= size)?;
    let check = if place.many { Some(input.array()?) } else { None };
    Some(Frame { pack, offset, stored: u32::try_from(stored).ok()?, kind, check })
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
